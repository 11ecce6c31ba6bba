"""Batch normalization from its definition, in MXNet Gluon: the chapter as a package.

The public names are loaded on first use (PEP 562). MXNet is imported only when a name
needs it, so `python -m gluon_bn doctor` also works where MXNet cannot be imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = {
    "norm": ("batch_norm", "fused_batch_norm", "sync_batch_norm", "BatchNorm"),
    "model": ("lenet",),
    "data": ("load_data_fashion_mnist",),
    "training": ("train", "evaluate_accuracy", "estimate_statistics", "load_parameters"),
    "comparison": ("compare",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "BatchNorm",
    "batch_norm",
    "compare",
    "estimate_statistics",
    "evaluate_accuracy",
    "fused_batch_norm",
    "lenet",
    "load_data_fashion_mnist",
    "load_parameters",
    "sync_batch_norm",
    "train",
]

if TYPE_CHECKING:
    from .comparison import compare
    from .data import load_data_fashion_mnist
    from .model import lenet
    from .norm import BatchNorm, batch_norm, fused_batch_norm, sync_batch_norm
    from .training import estimate_statistics, evaluate_accuracy, load_parameters, train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f".{_HOME[name]}", __name__)
    except Exception as error:  # with an incompatible NumPy, MXNet raises AttributeError, and d2l other errors
        if not _is_of_another_package(error):
            raise
        from .system.interpreter import load_error

        raise load_error(f"gluon_bn.{name}", error) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def _is_of_another_package(error: Exception) -> bool:
    """Return whether another package is missing or failed to import; otherwise the bug or bad input is ours."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith(__name__)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and not str(place.tb_frame.f_globals.get("__name__")).startswith(__name__)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
