"""Notices that a training is no longer finite, and finds where it began."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, List

import numpy
from mxnet import autograd, gluon, nd
from mxnet.gluon.parameter import DeferredInitializationError

from .estimation import eager

MINIBATCH = 'the minibatch itself'
MOST_ARRAYS = 200  # that nd.multi_all_finite looks at: it writes those after them where no room is


class Diverged(ArithmeticError):
    """A loss or a parameter is infinite or no number any more; history: what had been recorded before."""

    def __init__(self, epoch, minibatch, lr, where, history):
        remedy = 'look at the data' if where == MINIBATCH else 'take a smaller rate, or normalize'
        super().__init__(f'the training diverged in epoch {epoch}, minibatch {minibatch}, at a learning rate of {lr}: '
                         f'{where} was the first that is not finite; {remedy}')
        self.epoch, self.minibatch, self.lr, self.where, self.history = epoch, minibatch, lr, where, history

    def __reduce__(self):  # or a pool of processes would hang on it: it makes an error anew from its message alone
        return Diverged, (self.epoch, self.minibatch, self.lr, self.where, self.history)


@dataclass
class _Stretch:
    start: int  # the number of its first minibatch
    before: dict  # copies of the parameters before it
    minibatches: List[Any] = field(default_factory=list)
    finite: List[Any] = field(default_factory=list)  # 1 or 0 on each device


class Watch:
    """Looks at every stretch of a training without waiting for the device: the answer is read a stretch later.

    Where it is no, the stretch is trained once more from copies of parameters and minibatches, looking at every step.
    step(X, y): trains on one minibatch and returns its sums.
    """

    def __init__(self, net, lr, step, history):
        self.net, self.lr, self.step, self.history = net, lr, step, history
        self.stretches: List[_Stretch] = []

    def keep(self, X, y):
        """Before a minibatch is trained on."""
        if not self.stretches:
            self.stretches = [_Stretch(1, self._copies(X))]
        # copies, 0.2 ms: an iterator may fill the same arrays again and again
        self.stretches[-1].minibatches.append([array.copy() if hasattr(array, 'copy') else array for array in (X, y)])

    def look(self, totals):
        """At the end of a stretch. Raises: Diverged if the one before it was not finite."""
        present = self.stretches[-1]
        present.finite = _all_finite([array for arrays in self._data().values() for array in arrays]
                                     + list(totals.loss.values()))
        self.stretches.append(_Stretch(present.start + len(present.minibatches), self._copies()))
        if len(self.stretches) > 2:
            self._judge(self.stretches.pop(0))

    def end(self, totals):
        """At the end of an epoch. Raises: Diverged if any stretch was not finite."""
        if not self.stretches:
            return  # there was no minibatch, as the sums are about to say
        self.look(totals)
        for stretch in self.stretches[:-1]:
            self._judge(stretch)
        self.stretches = []

    def _judge(self, stretch):
        if all(flag.asscalar() == 1 for flag in stretch.finite):
            return
        for parameter, arrays in stretch.before.items():
            for array, copy in zip(parameter.list_data(), arrays):
                array[:] = copy
        epoch = len(self.history) + 1
        for minibatch, (X, y) in enumerate(stretch.minibatches, stretch.start):
            where = self._first_not_finite(X, y)
            if where:
                raise Diverged(epoch, minibatch, self.lr, where, self.history)
        last = stretch.start + len(stretch.minibatches) - 1
        raise Diverged(epoch, last, self.lr, 'the sum of the losses, or something random,', self.history)

    def _first_not_finite(self, X, y):
        """What is not finite first when the minibatch is trained on: in words, or None."""
        if not _is_finite(X):
            return MINIBATCH
        layers, outputs = dict(_layers(self.net)), []
        with eager(self.net):
            hooks = [layer.register_forward_hook(
                lambda layer, inputs, output, path=path: _is_finite(output) or outputs.append(path))
                for path, layer in layers.items()]
            totals = self.step(X, y)
            for hook in hooks:
                hook.detach()
        if outputs:
            return f'the output of {_name(outputs[0], layers)}'
        if not all(map(_is_finite, totals.loss.values())):
            return 'the loss'
        parameters = self.net._collect_params_with_prefix()
        for name, parameter in reversed(list(parameters.items())):  # as the gradients come
            if parameter.grad_req != 'null' and not all(map(_is_finite, parameter.list_grad())):
                return f'the gradient of {_parameter_name(name, layers)}'
        for name, parameter in parameters.items():
            if not all(map(_is_finite, parameter.list_data())):
                return _parameter_name(name, layers)
        return None

    def _copies(self, X=None):
        try:
            return {parameter: [array.copy() for array in arrays] for parameter, arrays in self._data().items()}
        except DeferredInitializationError:  # of a new net
            if X is None:
                unknown = [name for name, parameter in self.net._collect_params_with_prefix().items()
                           if not all(size > 0 for size in parameter.shape)]
                raise ValueError(f'net must use each of its layers, but a minibatch has left the sizes of '
                                 f'{", ".join(unknown)} unknown; call that layer in forward, or leave it out') from None
            device = next(iter(self.net.collect_params().values())).list_ctx()[0]
            with autograd.pause():
                self.net(*gluon.utils.split_and_load(X[:1], [device]))
            return self._copies()

    def _data(self):
        return {parameter: parameter.list_data() for parameter in self.net.collect_params().values()}


def _all_finite(arrays):
    """1 or 0, on each device and for each type, without waiting for it."""
    groups: dict = {}
    for array in arrays:
        groups.setdefault((array.context, array.dtype), []).append(array.as_nd_ndarray())
    chunks = [group[i:i + MOST_ARRAYS] for group in groups.values() for i in range(0, len(group), MOST_ARRAYS)]
    return [nd.multi_all_finite(*chunk, num_arrays=len(chunk)) for chunk in chunks]


def _is_finite(array):
    arrays = array if isinstance(array, (list, tuple)) else [array]
    return all(numpy.isfinite(each if isinstance(each, numpy.ndarray) else each.asnumpy()).all() for each in arrays)


def _layers(block, path=''):
    """(path, block) of the children, the inner ones first; the path is that of save_parameters: '4', or '0.4'."""
    for name, child in block._children.items():
        yield from _layers(child, f'{path}{name}.')
        yield f'{path}{name}', child


def _name(path, layers):
    return f'layer {path}, {layers[path]!r},'


def _parameter_name(name, layers):
    path, _, last = name.rpartition('.')
    return f'{last} of {_name(path, layers)}' if path in layers else name
