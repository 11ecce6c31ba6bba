"""Detects that a training has become non-finite, and finds where it started."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy
from mxnet import nd
from mxnet.gluon import Block, Parameter
from mxnet.ndarray import NDArray

from ..errors import GluonBnError
from .blocks import describe, eager, paths_of
from .totals import Epoch, Totals

MINIBATCH = 'the minibatch itself'
MOST_ARRAYS = 200  # the limit of nd.multi_all_finite, which writes out of bounds beyond it


class Diverged(GluonBnError, ArithmeticError):
    """A loss or a parameter is no longer finite. history: the epochs completed before."""

    def __init__(self, epoch: int, minibatch: int, lr: float, where: str, history: List[Epoch]) -> None:
        remedy = 'look at the data' if where == MINIBATCH else 'take a smaller rate, or normalize'
        super().__init__(
            f'the training diverged in epoch {epoch}, minibatch {minibatch}, at a learning rate of {lr}: '
            f'{where} was the first that is not finite; {remedy}'
        )
        self.epoch, self.minibatch, self.lr, self.where, self.history = epoch, minibatch, lr, where, history

    def __reduce__(self) -> Tuple[Any, ...]:  # by default, unpickling would fail, and a process pool would hang
        return Diverged, (self.epoch, self.minibatch, self.lr, self.where, self.history)


@dataclass
class _Window:
    start: int  # the number of its first minibatch
    before: Dict[Parameter, List[NDArray]]  # copies of the parameters at its start
    minibatches: List[List[Any]] = field(default_factory=list)
    finite: List[NDArray] = field(default_factory=list)  # 1 or 0 on each device


class DivergenceMonitor:
    """Checks each window of minibatches without blocking on the device: the result is read one window later.

    A window that is not finite is replayed step by step from copies of the parameters and minibatches.
    replay_step(X, y): trains on one minibatch and returns its totals.
    """

    def __init__(self, net: Block, lr: float, replay_step: Callable[[Any, Any], Totals], history: List[Epoch]) -> None:
        self.net, self.lr, self.replay_step, self.history = net, lr, replay_step, history
        self.windows: List[_Window] = []

    def record_batch(self, X: Any, y: Any) -> None:
        """Keep a copy of a minibatch before the step on it."""
        if not self.windows:
            self.windows = [_Window(1, self._copies())]
        # copies (0.2 ms), because an iterator may reuse its arrays
        self.windows[-1].minibatches.append([X.copy(), y.copy()])

    def check_window(self, totals: Totals) -> None:
        """End a window. Raises: Diverged if the one before it was not finite."""
        window = self.windows[-1]
        window.finite = _all_finite(
            [array for arrays in self._data().values() for array in arrays] + list(totals.loss.values())
        )
        self.windows.append(_Window(window.start + len(window.minibatches), self._copies()))
        if len(self.windows) > 2:
            self._check_finite(self.windows.pop(0))

    def finish_epoch(self, totals: Totals) -> None:
        """End an epoch. Raises: Diverged if any window was not finite."""
        self.check_window(totals)
        for window in self.windows[:-1]:
            self._check_finite(window)
        self.windows = []

    def _check_finite(self, window: _Window) -> None:
        if all(flag.asscalar() == 1 for flag in window.finite):
            return
        for parameter, arrays in window.before.items():
            for array, copy in zip(parameter.list_data(), arrays):
                array[:] = copy
        epoch = len(self.history) + 1
        for minibatch, (X, y) in enumerate(window.minibatches, window.start):
            where = self._first_not_finite(X, y)
            if where:
                raise Diverged(epoch, minibatch, self.lr, where, self.history)
        last = window.start + len(window.minibatches) - 1
        raise Diverged(epoch, last, self.lr, 'the sum of the losses, or something random,', self.history)

    def _first_not_finite(self, X: Any, y: Any) -> Optional[str]:
        """Train on a minibatch; return a description of what is not finite first, or None."""
        if not _is_finite(X):
            return MINIBATCH
        layers: Dict[str, Block] = dict(paths_of(self.net))
        outputs: List[str] = []
        with eager(self.net), contextlib.ExitStack() as stack:
            for path, layer in layers.items():
                hook = layer.register_forward_hook(
                    lambda layer, inputs, output, path=path: outputs.extend([] if _is_finite(output) else [path])
                )
                stack.callback(hook.detach)
            totals = self.replay_step(X, y)
        if outputs:
            return f'the output of {describe(outputs[0], layers)}'
        if not all(map(_is_finite, totals.loss.values())):
            return 'the loss'
        parameters = self.net._collect_params_with_prefix()
        for name, parameter in reversed(list(parameters.items())):  # in the order of backpropagation
            if parameter.grad_req != 'null' and not all(map(_is_finite, parameter.list_grad())):
                return f'the gradient of {_describe_parameter(name, layers)}'
        for name, parameter in parameters.items():
            if not all(map(_is_finite, parameter.list_data())):
                return _describe_parameter(name, layers)
        return None

    def _copies(self) -> Dict[Parameter, List[NDArray]]:
        return {parameter: [array.copy() for array in arrays] for parameter, arrays in self._data().items()}

    def _data(self) -> Dict[Parameter, List[NDArray]]:
        return {parameter: parameter.list_data() for parameter in self.net.collect_params().values()}


def _all_finite(arrays: List[NDArray]) -> List[NDArray]:
    """Return 1 or 0 for each device and dtype, without blocking."""
    groups: Dict[Any, List[NDArray]] = {}
    for array in arrays:
        groups.setdefault((array.context, array.dtype), []).append(array.as_nd_ndarray())
    chunks = [group[i : i + MOST_ARRAYS] for group in groups.values() for i in range(0, len(group), MOST_ARRAYS)]
    return [nd.multi_all_finite(*chunk, num_arrays=len(chunk)) for chunk in chunks]


def _is_finite(array: Any) -> bool:
    arrays = array if isinstance(array, (list, tuple)) else [array]
    return all(numpy.isfinite(each if isinstance(each, numpy.ndarray) else each.asnumpy()).all() for each in arrays)


def _describe_parameter(name: str, layers: Dict[str, Block]) -> str:
    path, _, last = name.rpartition('.')
    return f'{last} of {describe(path, layers)}' if path in layers else name
