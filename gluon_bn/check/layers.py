"""A student's layer: its parameters and averages found by name, and what it must do besides the maths."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from unittest import mock

import mxnet as mx
import numpy
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from .result import Array, Finding, StudentError, difference
from .student_code import during, is_empty, not_written
from .trials import MODES, ROWS, Observed, Trial, differentiate, front, in_graph, to_numpy, type_name

WORDS = ('gamma', 'beta', 'mean', 'var')
PASSING = ('batch', 'last', 'old', 'prev', 'init', 'grad', 'new')  # in names of arrays that a layer keeps beside them
DEVICE = mx.cpu(1)  # a second device on any machine


class Layer:
    """A freshly made layer of the class under test, its parameters and averages found by name."""

    def __init__(
        self, cls: Callable[..., Any], rank: int = 2, num_features: int = 2, load: Optional[str] = None
    ) -> None:
        self._num_features = num_features
        with during(f'in making the layer by {getattr(cls, "__name__", "cls")}({num_features}, {rank}), '):
            self.block = cls(num_features, rank)
        if not isinstance(self.block, gluon.Block):
            raise StudentError(
                'NotABlock', f'the class should be a gluon.nn.Block, yours makes {type_name(self.block)}'
            )
        if load is not None:  # before anything is initialized: in the np front MXNet 1.9.1 loads into nothing else
            self.block.load_parameters(load)
            return
        self.block.initialize()
        if any(min(parameter.shape or (0,)) <= 0 for parameter in self.block.collect_params().values()):
            with autograd.predict_mode():  # sizes that are inferred need an input
                self.block(front().ones((2, num_features) + (1,) * (rank - 2)))

    def find(self, word: str) -> Tuple[str, Any]:
        """The array whose name fits a word ('gamma', 'mean') best: (name, Parameter or array), or ('', None)."""
        named = [(name, value) for name, value in self._arrays().items() if word in name.lower()]
        named = named or [
            (name, value) for name, value in self.block.collect_params().items() if word in name.split('_', 1)[-1]
        ]
        return min(named, key=lambda pair: self._misfit(word, *pair), default=('', None))

    def _arrays(self) -> Dict[str, Any]:
        return {
            name: value for name, value in vars(self.block).items() if isinstance(value, (gluon.Parameter, NDArray))
        }

    def _misfit(self, word: str, name: str, value: Any) -> Tuple[Any, ...]:
        """How far an array is from the one wanted: a layer may keep others beside it, such as `batch_mean`."""
        name, prefixes = name.lower(), ('moving', 'running') if word in ('mean', 'var') else ()
        return (
            numpy.prod(value.shape) != self._num_features,
            name not in ([f'{prefix}_{word}' for prefix in prefixes] or [word]),
            not any(prefix in name for prefix in prefixes),
            name.strip('_') != word,
            any(passing in name for passing in PASSING),
            len(name),
        )

    def refuse_other_names(self) -> None:
        """Raises: StudentError if gamma, beta or an average is missing, but an array of its size could be it."""
        known = [self.find(word)[0] for word in WORDS]
        others = {
            name: value
            for name, value in self._arrays().items()
            if name not in known and numpy.prod(value.shape) == self._num_features
        }
        for sort, names in (
            ('Parameter', {'gamma': 'gamma', 'beta': 'beta'}),
            ('array or Parameter', {'mean': 'moving_mean', 'var': 'moving_var'}),
        ):
            missing = [name for word, name in names.items() if self.find(word)[1] is None]
            there = [
                name for name, value in others.items() if sort != 'Parameter' or isinstance(value, gluon.Parameter)
            ]
            if missing and there:
                raise StudentError(
                    'WrongName',
                    f'the layer has no {sort} named {" or ".join(missing)}, '
                    f'but one named {" and one named ".join(there)}',
                )

    def statistics(self) -> List[Any]:
        """The moving mean and variance. Raises: StudentError if one is missing."""
        self.refuse_other_names()
        found = [self.find(word)[1] for word in ('mean', 'var')]
        if any(value is None for value in found):
            raise StudentError(
                'NoMovingStats', 'the layer has no attributes moving_mean and moving_var that hold arrays or Parameters'
            )
        return found

    def plain_statistics(self) -> List[NDArray]:
        """Those of them that are arrays, not Parameters."""
        return [value for value in self.statistics() if isinstance(value, NDArray)]

    def output(self, Y: Any) -> Array:
        """Y as a NumPy array. Raises: StudentError if it is none."""
        if Y is None and is_empty(self.block.forward):
            raise not_written(self.block.forward)
        return to_numpy('Y', Y)

    def write(self, **values: Array) -> None:
        for word, value in values.items():
            name, old = self.find(word)
            if isinstance(old, gluon.Parameter):
                old.set_data(front().array(value.reshape(old.shape), dtype='float32'))
            elif old is not None and old.size == value.size:
                setattr(self.block, name, front().array(value.reshape(old.shape), dtype='float32'))

    def read(self, word: str) -> Array:
        value = self.find(word)[1]
        return to_numpy(f'the moving {word}', value.data() if isinstance(value, gluon.Parameter) else value)


def observe_layer(cls: Callable[..., Any], trial: Trial, mode: str) -> Observed:
    """Run a new layer of the class, started from the trial's parameters and statistics, in one of the MODES."""
    layer = Layer(cls, trial.X.ndim, trial.X.shape[1])
    layer.statistics()  # they must be there
    layer.write(**dict(zip(WORDS, trial.arrays[1:])))
    X = front().array(trial.X, dtype='float32')
    before = X.asnumpy()
    X.attach_grad()
    with MODES[mode]():
        Y = layer.block(X)
    value = layer.output(Y)
    changed: Tuple[str, ...] = () if numpy.array_equal(X.asnumpy(), before) else ('X',)

    def grads() -> List[Any]:
        learned = [layer.find(word)[1] for word in ('gamma', 'beta')]
        return [
            X.grad,
            *(p.grad() if isinstance(p, gluon.Parameter) and p.grad_req != 'null' else None for p in learned),
        ]

    # Gluon's own layer moves its statistics in the backward pass: they are read after it.
    gradients = differentiate(Y, trial, grads) if mode == 'training' else ()
    kept = mode == 'training' and any(map(in_graph, layer.plain_statistics()))
    # a layer may keep its averages in any shape of that size, as Gluon's does: (c,)
    mean, var = (
        read.reshape(like.shape) if read.size == like.size else read
        for read, like in ((layer.read('mean'), trial.moving_mean), (layer.read('var'), trial.moving_var))
    )
    return Observed(value, mean, var, gradients, changed, kept)


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
            findings.append(Finding('NotLearned', f'{word} is no Parameter that takes a gradient'))
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
                f'with X on {DEVICE}, the moving averages stay on {mx.cpu()} '
                'and are used from there; a GPU would refuse',
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
