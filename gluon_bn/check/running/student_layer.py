"""A student's layer: finds its parameters and averages by name, and runs it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy
from mxnet import autograd, gluon
from mxnet.ndarray import NDArray

from ..result import Array, StudentError
from .exceptions import is_empty, not_written
from .student_code import during
from .trials import MODES, Observed, Trial, differentiate, front, in_graph, to_numpy, type_name

WORDS = ('gamma', 'beta', 'mean', 'var')
TEMPORARY = ('batch', 'last', 'old', 'prev', 'init', 'grad', 'new')  # in names of other arrays that a layer may keep


class Layer:
    """A new layer of the class under test; finds its parameters and averages by name."""

    def __init__(
        self, cls: Callable[..., Any], rank: int = 2, num_features: int = 2, load: Optional[str] = None
    ) -> None:
        self._num_features = num_features
        with during(f'when the layer is made by {getattr(cls, "__name__", "cls")}({num_features}, {rank}), '):
            self.block = cls(num_features, rank)
        if not isinstance(self.block, gluon.Block):
            raise StudentError(
                'NotABlock',
                f'the class should be a subclass of gluon.nn.Block, yours makes an object {type_name(self.block)}',
            )
        if load is not None:  # before initialization: in the np front, MXNet 1.9.1 cannot load afterwards
            self.block.load_parameters(load)
            return
        self.block.initialize()
        if any(min(parameter.shape or (0,)) <= 0 for parameter in self.block.collect_params().values()):
            with autograd.predict_mode():  # sizes that are inferred need an input
                self.block(front().ones((2, num_features) + (1,) * (rank - 2)))
        self._refuse_other_sizes()

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
        """How badly an array fits, as a sort key: a layer may keep others as well, such as `batch_mean`."""
        name, prefixes = name.lower(), ('moving', 'running') if word in ('mean', 'var') else ()
        return (
            numpy.prod(value.shape) != self._num_features,
            name not in ([f'{prefix}_{word}' for prefix in prefixes] or [word]),
            not any(prefix in name for prefix in prefixes),
            name.strip('_') != word,
            any(temporary in name for temporary in TEMPORARY),
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

    def _refuse_other_sizes(self) -> None:
        """Raises: StudentError if a parameter or an average does not hold one number per channel."""
        for word in WORDS:
            name, value = self.find(word)
            if value is not None and numpy.prod(value.shape) != self._num_features:
                expected = f'{name} should hold one number for each of {self._num_features} channels'
                raise StudentError('WrongShape', f'{expected}, yours has the shape {value.shape}')

    def plain_statistics(self) -> List[NDArray]:
        """The statistics that are arrays, not Parameters."""
        return [value for value in self.statistics() if isinstance(value, NDArray)]

    def output(self, Y: Any) -> Array:
        """Y as a NumPy array. Raises: StudentError if it is not an array."""
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
    layer.statistics()  # raises if they are missing
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
