"""What a student's layer must do besides the maths."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, Callable, Iterator, List
from unittest import mock

import mxnet as mx
import numpy
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from .result import Finding, difference
from .running.student_code import during
from .running.student_layer import Layer
from .running.trials import ROWS, front

DEVICE = mx.cpu(1)  # a second device on any machine


def parameters(cls: Callable[..., Any], _: None) -> List[Finding]:
    """gamma and beta are learned, the averages are not."""
    layer = Layer(cls)
    findings: List[Finding] = []
    layer.refuse_other_names()
    for word in ('gamma', 'beta'):
        value = layer.find(word)[1]
        if value is None:
            findings.append(Finding(f'Missing{word.title()}', f'the layer has no Parameter named {word}'))
        elif not isinstance(value, gluon.Parameter) or value.grad_req == 'null':
            findings.append(Finding('NotLearned', f'{word} is not a Parameter with a gradient'))
    trained = [
        layer.find(word)[0]
        for word, value in zip(('mean', 'var'), layer.statistics())
        if isinstance(value, gluon.Parameter) and value.grad_req != 'null'
    ]
    if trained:
        text = f'{" and ".join(trained)} would get a gradient (grad_req is not "null") and a Trainer would move them'
        findings.append(Finding('StatsTrainable', text))
    return findings


def start(cls: Callable[..., Any], _: None) -> List[Finding]:
    """An untrained layer: gamma 1, beta 0, moving mean 0, moving variance 1, or 0 as in the chapter."""
    layer = Layer(cls)
    findings: List[Finding] = []
    for word, expected in (('gamma', 1), ('beta', 0), ('mean', 0), ('var', 1)):
        if layer.find(word)[1] is None:
            continue
        value = layer.read(word)
        if word == 'var' and not value.any():
            findings.append(Finding('VarInitZero', 'a new layer\'s moving variance is 0'))
        elif not (value == expected).all():
            name = word if word in ('gamma', 'beta') else f'moving {word}'
            text = f'a new layer\'s {name} should be {expected}, yours is {value.ravel()[0]:g}'
            findings.append(Finding('WrongStart', text))
    return findings


def saving(cls: Callable[..., Any], folder: str) -> List[Finding]:
    """What is saved in a folder and loaded again is the whole layer."""
    layer, values = Layer(cls), {'mean': numpy.array([4.0, 4.0]), 'var': numpy.array([5.0, 4.0])}
    layer.statistics()  # they must be there
    layer.write(**values)
    path = str(Path(folder) / 'layer.params')
    layer.block.save_parameters(path)
    other = Layer(cls, load=path)
    for word, value in values.items():
        actual = other.read(word).ravel()
        if not numpy.allclose(actual, value):
            text = f'the moving {word} was {value.tolist()}, and after saving and loading it is {actual.tolist()}'
            return [Finding('StatsNotSaved', text)]
    return []


def device(cls: Callable[..., Any], copied: List[Any]) -> List[Finding]:
    """X may come on another device than the one where the layer was made; `copied` lists the arrays that follow it."""
    layer, values = Layer(cls), {'mean': numpy.array([1.0, 2.0]), 'var': numpy.array([5.0, 12.0])}
    layer.statistics()  # they must be there
    layer.write(**values)
    X = front().array(ROWS, dtype='float32')
    with autograd.predict_mode():
        expected = layer.output(layer.block(X))
    layer.write(**values)  # again, in case the prediction moved them
    layer.block.collect_params().reset_ctx(DEVICE)
    before = layer.plain_statistics()
    try:
        with autograd.predict_mode(), during(f'with X on {DEVICE}, '):
            Y = layer.block(X.copyto(DEVICE))
    except Exception as error:  # a student's code raises anything
        if not re.search(r'\b(context|ctx|device|[cg]pu\()', str(error)):  # another mistake
            raise
        return [
            Finding(
                'DeviceNotCopied',
                f'with X on {DEVICE}, the layer raises {type(error).__name__}: '
                f'{str(error).splitlines()[0].rstrip(".")}',
            )
        ]
    Y.wait_to_read()
    # On CPUs MXNet mixes devices silently, where a GPU would stop: so the copy itself is looked for.
    left = [
        new
        for old, new in zip(before, layer.plain_statistics())
        if new.context != DEVICE and not any(old is one for one in copied)
    ]
    if left or Y.context != DEVICE:
        return [
            Finding(
                'DeviceNotCopied',
                f'with X on {DEVICE}, the moving averages stay on {mx.cpu()}; with a GPU, this would fail',
            )
        ]
    Y = layer.output(Y)
    if not numpy.allclose(Y, expected, rtol=1e-4, atol=1e-5):
        return [Finding('DeviceNotCopied', difference(f'X on {DEVICE} in prediction', 'Y', expected, Y))]
    return []


@contextlib.contextmanager
def copies() -> Iterator[List[Any]]:
    """Lists the arrays that are copied to DEVICE within the block, by whatever method."""
    copied: List[Any] = []

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, other: Any) -> Any:
            if getattr(other, 'context', other) == DEVICE:
                copied.append(self)
            return method(self, other)

        return call

    with contextlib.ExitStack() as patches:
        for owner in (NDArray, mx.np.ndarray):
            for name in ('copyto', 'as_in_context', 'as_in_ctx'):
                if name in vars(owner):
                    patches.enter_context(mock.patch.object(owner, name, watched(vars(owner)[name])))
        yield copied
