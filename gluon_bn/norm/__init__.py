"""Batch normalization: the definition, the layer around it, and a faster function with the same signature."""

from ..system import before_mxnet  # noqa: F401  must come first: see that module
from .definition import batch_norm, blend
from .fused import choose, fused_batch_norm, status
from .layer import BatchNorm
from .max_pool import MaxPool2D
from .native import NativeError
from .portable import batch_norm_portable
from .sync import sync_batch_norm

__all__ = [
    "BatchNorm",
    "MaxPool2D",
    "NativeError",
    "batch_norm",
    "batch_norm_portable",
    "blend",
    "choose",
    "fused_batch_norm",
    "status",
    "sync_batch_norm",
]
