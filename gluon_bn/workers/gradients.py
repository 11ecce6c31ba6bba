"""A kvstore for Trainer that adds up the gradients of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
from mxnet import nd, np
from mxnet.kvstore import KVStoreBase

if TYPE_CHECKING:
    from .group import Group


class Gradients(KVStoreBase):
    """Adds up gradients with `Group.gather`. The optimizer stays on the workers: it is never pickled and sent."""

    type = 'dist_sync'  # Trainer reads only this name

    def __init__(self, group: Group) -> None:
        self.group = group

    @property
    def rank(self) -> int:
        return self.group.rank

    @property
    def num_workers(self) -> int:
        return self.group.size

    @staticmethod
    def is_capable(capability: str) -> bool:
        return False  # it cannot run an optimizer

    def broadcast(self, key: int, value: Any, out: Any, priority: int = 0) -> None:
        """Give all members the value of member 0, before this returns."""
        values = self.group.broadcast(value.asnumpy().astype('float64'))
        for array in as_list(out):
            assign(array, values)

    def pushpull(self, key: int, value: Any, out: Any = None, priority: int = 0) -> None:
        """Give all members the sum over all members and their devices."""
        values = sum(array.asnumpy().astype('float64') for array in as_list(value))
        total = self.group.gather(values).sum(axis=0)
        for array in as_list(value if out is None else out):
            assign(array, total)


def assign(array: Any, values: Any) -> None:
    """Set an MXNet array to NumPy's values, whatever layout a convolution has given it."""
    front = np if isinstance(array, np.ndarray) else nd
    array[:] = front.array(values, ctx=array.context, dtype=array.dtype)  # assigning a NumPy array could fail


def as_list(value: Any) -> List[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
