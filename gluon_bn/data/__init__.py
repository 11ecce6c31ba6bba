"""Fashion-MNIST: finds, fetches and verifies its files, and serves minibatches.

Finding the files does not need MXNet, so the minibatches are imported on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import DataMissing, DataUnavailable, DataWarning
from .fashion_mnist import find_files, lacking, taken_instead

if TYPE_CHECKING:
    from .minibatches import TEXT_LABELS, Minibatches, load_data_fashion_mnist, read_idx

__all__ = [
    "TEXT_LABELS",
    "DataMissing",
    "DataUnavailable",
    "DataWarning",
    "Minibatches",
    "find_files",
    "lacking",
    "load_data_fashion_mnist",
    "read_idx",
    "taken_instead",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".minibatches", __name__), name)
