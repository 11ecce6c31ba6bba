"""What a layer owes beyond its maths: parameters, starting values, saving, devices."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable, List
from unittest import mock

import mxnet as mx
import numpy
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from .observe import front
from .observe_layer import Layer
from .raised import remember
from .result import Finding, difference
from .trials import ROWS

DEVICE = mx.cpu(1)  # a second device on any machine


def parameters(cls: Callable[..., Any], _: None) -> List[Finding]:
    """gamma and beta are learned, the averages are not."""
    layer = Layer(cls, 2)
    findings: List[Finding] = []
    layer.refuse_other_names()
    for word in ('gamma', 'beta'):
        value = layer.find(word)[1]
        if value is None:
            findings.append(Finding(f'Missing{word.title()}', f'the layer has no Parameter named {word}'))
        elif not isinstance(value, gluon.Parameter) or value.grad_req == 'null':
            findings.append(Finding('NotLearned', f'{word} is no Parameter that takes a gradient'))
    trained = [str(layer.find(word)[0]) for word, value in zip(('mean', 'var'), layer.statistics())
               if isinstance(value, gluon.Parameter) and value.grad_req != 'null']
    if trained:
        text = f'{" and ".join(trained)} would get a gradient (grad_req is not "null") and a Trainer would move them'
        findings.append(Finding('StatsTrainable', text))
    return findings


def start(cls: Callable[..., Any], _: None) -> List[Finding]:
    """An untrained layer: gamma 1, beta 0, moving mean 0, moving variance 1, or 0 as in the chapter."""
    layer = Layer(cls, 2)
    findings: List[Finding] = []
    for word, wanted in (('gamma', 1), ('beta', 0), ('mean', 0), ('var', 1)):
        if layer.find(word)[1] is None:
            continue
        value = layer.read(word)
        if word == 'var' and not value.any():
            findings.append(Finding('VarInitZero', 'a new layer\'s moving variance is 0'))
        elif not (value == wanted).all():
            name = word if word in ('gamma', 'beta') else f'moving {word}'
            text = f'a new layer\'s {name} should be {wanted}, yours is {value.ravel()[0]:g}'
            findings.append(Finding('WrongStart', text))
    return findings


def saving(cls: Callable[..., Any], folder: str) -> List[Finding]:
    """What is saved in a folder and loaded again is the whole layer."""
    layer = Layer(cls, 2)
    layer.statistics()
    wanted = {'mean': numpy.array([4.0, 4.0]), 'var': numpy.array([5.0, 4.0])}
    for word, value in wanted.items():
        layer.write(word, value)
    path = str(Path(folder) / 'layer.params')
    layer.block.save_parameters(path)
    other = Layer(cls, 2, load=path)
    for word, value in wanted.items():
        got = other.read(word).ravel()
        if not numpy.allclose(got, value):
            text = f'the moving {word} was {value.tolist()}, and after saving and loading it is {got.tolist()}'
            return [Finding('StatsNotSaved', text)]
    return []


def device(cls: Callable[..., Any], copied: List[Any]) -> List[Finding]:
    """X may come on another device than the one where the layer was made; `copied` lists the arrays that follow it."""
    layer, values = Layer(cls, 2), {'mean': numpy.array([1.0, 2.0]), 'var': numpy.array([5.0, 12.0])}
    layer.statistics()  # they must be there
    for word, value in values.items():
        layer.write(word, value)
    X = front().array(ROWS, dtype='float32')
    with autograd.predict_mode():
        expected = layer.output(layer.block(X))
    for word, value in values.items():  # again, should a prediction have moved them
        layer.write(word, value)
    layer.block.collect_params().reset_ctx(DEVICE)
    statistics = [value for value in layer.statistics() if isinstance(value, NDArray)]
    with autograd.predict_mode():
        try:
            Y = layer.block(X.copyto(DEVICE))
        except Exception as error:  # a student's code raises anything
            if not re.search(r'\b(context|ctx|device|[cg]pu\()', str(error)):  # another mistake
                remember(error, f'with X on {DEVICE}, ')
                raise
            return [Finding('DeviceNotCopied', f'with X on {DEVICE}, the layer raises {type(error).__name__}: '
                                               f'{str(error).splitlines()[0].rstrip(".")}')]
        Y.wait_to_read()
    # On CPUs MXNet mixes devices without a word, where a GPU would stop: so the copy itself is looked for.
    there = [value for value in layer.statistics() if isinstance(value, NDArray)]
    left = [new for old, new in zip(statistics, there)
            if new.context != DEVICE and not any(old is one for one in copied)]
    if left or Y.context != DEVICE:
        return [Finding('DeviceNotCopied', f'with X on {DEVICE}, the moving averages stay on {mx.cpu()} '
                                           'and are used from there; a GPU would refuse')]
    Y = layer.output(Y)
    if not numpy.allclose(Y, expected, rtol=1e-4, atol=1e-5):
        text = difference(f'X on {DEVICE} in prediction', 'Y', expected, Y)
        return [Finding('DeviceNotCopied', text)]
    return []


class copies:
    """Lists the arrays that are copied to DEVICE within the block, by whatever method."""

    def __enter__(self) -> List[Any]:
        self._patches: List[Any] = []
        seen: List[Any] = []
        for owner in (NDArray, mx.np.ndarray):
            for name in ('copyto', 'as_in_context', 'as_in_ctx'):
                if name in vars(owner):
                    self._patches.append(mock.patch.object(owner, name, _watched(vars(owner)[name], seen)))
        for patch in self._patches:
            patch.start()
        return seen

    def __exit__(self, *_: Any) -> None:
        for patch in self._patches:
            patch.stop()


def _watched(method: Callable[..., Any], seen: List[Any]) -> Callable[..., Any]:
    def call(self: Any, other: Any) -> Any:
        if getattr(other, 'context', other) == DEVICE:
            seen.append(self)
        return method(self, other)
    return call
