"""The records of a training: sums over minibatches, kept on the device until they are read, and epochs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
import numpy
from mxnet.ndarray import NDArray

from ..errors import InputError
from ..workers import Group


@dataclass
class Epoch:
    """The results of one epoch: loss in nats per example, accuracies from 0 to 1, seconds of training."""

    epoch: int
    loss: float
    train_acc: float
    test_acc: float
    seconds: float
    examples_per_sec: float


class Totals:
    """Sums in float64, exact for counts up to 2**53 whatever the dtype of the net.

    Only reading them blocks on the device; `add` launches operators and returns.
    """

    def __init__(self) -> None:
        self.loss: Dict[mx.Context, Any] = {}
        self.correct: Dict[mx.Context, Any] = {}
        self.invalid: Dict[mx.Context, Any] = {}  # labels out of range, which the loss would clip
        self.count = self.classes = 0

    def add(self, output: NDArray, loss: Optional[NDArray], y: NDArray) -> None:
        """Add the results of one share of a minibatch. Shapes: output (b, classes), loss and y (b,)."""
        check_output(output, len(y))
        device, self.classes = output.context, output.shape[1]
        output, y = output.as_nd_ndarray(), y.as_nd_ndarray().astype('float32')
        if output.dtype == numpy.float16:  # whose integers are exact only up to 2048, so argmax would be wrong
            output = output.astype('float32')
        right = output.argmax(axis=1).astype('float32', copy=False) == y
        results = [(self.correct, right), (self.invalid, is_invalid(y, self.classes))]
        if loss is not None:
            results.append((self.loss, loss.as_nd_ndarray()))
        for total, values in results:
            total[device] = total.get(device, 0) + values.astype('float64').sum()
        self.count += len(y)

    def snapshot(self) -> Totals:
        """Return a copy of the current sums, which later minibatches do not change."""
        found = copy.copy(self)
        found.loss, found.correct, found.invalid = dict(self.loss), dict(self.correct), dict(self.invalid)
        return found

    def over(self, group: Group) -> Totals:
        """Return the sums over all workers, which blocks on the device; with one worker, a copy."""
        if group.size == 1:
            return self.snapshot()
        *whole, count, classes = group.gather(numpy.array([*self._sums(), self.count, self.classes], 'float64')).T
        found, device = Totals(), mx.cpu()
        found.loss, found.correct, found.invalid = (
            {device: mx.nd.array([part.sum()], dtype='float64')} for part in whole
        )
        found.count, found.classes = int(count.sum()), int(classes.max())
        return found

    def means(self) -> Tuple[float, float]:
        """Return (loss, accuracy) per example; blocks until the device has caught up.

        Raises: InputError if a label was out of range.
        """
        loss, correct, invalid = self._sums()
        check_labels(invalid, self.count, self.classes)
        return loss / self.count, correct / self.count

    def _sums(self) -> List[float]:
        parts = (self.loss, self.correct, self.invalid)
        return [sum(total.asnumpy().item() for total in part.values()) for part in parts]


def is_invalid(y: NDArray, classes: int) -> NDArray:
    """Return 1 for each label (float32) that is not a whole number from 0 to classes - 1; NaN counts, as NaN != NaN."""
    return y.clip(0, classes - 1).floor() != y


def check_labels(invalid: float, count: int, classes: int) -> None:
    if invalid:
        expected = f'must be labels from 0 to {classes - 1}, as the net has {classes} outputs'
        got = f'got {invalid:.0f} others among {count}'
        raise InputError(f'{expected}, {got}; number the classes from 0, in whole numbers', 'y')


def check_output(output: Any, examples: int) -> None:
    """Raise InputError unless output is (b, classes) for b examples, and there are two classes or more."""
    if not isinstance(output, NDArray) or output.ndim != 2 or len(output) != examples:
        got = f'shape {output.shape}' if isinstance(output, NDArray) else type(output).__name__
        expected = f'must return an array (b, classes), one row for each of {examples} examples'
        raise InputError(f'{expected}, got {got}; let its last layer be nn.Dense(classes)', 'net')
    if output.shape[1] == 1:
        raise InputError(
            'must return scores (b, classes) for at least two classes, got a single one, whose softmax is '
            'always 1; let its last layer be nn.Dense(2) for two classes',
            'net',
        )
