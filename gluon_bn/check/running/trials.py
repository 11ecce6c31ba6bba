"""The trials, which are batches with fixed numbers, and the results of the code under test on them."""

from __future__ import annotations

import re
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy
from mxnet import MXNetError, autograd, nd, np, npx
from mxnet.ndarray import NDArray

from ..result import Array, StudentError
from .exceptions import is_empty, not_written

RANKS = {2: 'dense', 4: 'convolution'}
ROWS = numpy.array([[1, 2], [3, 2], [5, 6], [7, 6]], dtype='float64')  # means 4 and 4, variances 5 and 4
UPSTREAM = numpy.array([[1, -2], [0, 1], [3, 2], [-1, 4]], dtype='float64')  # never all ones: dX would be 0
MODES: Dict[str, Callable[[], ContextManager[Any]]] = {
    'training': autograd.record,
    'prediction': autograd.predict_mode,
    'recording': lambda: autograd.record(train_mode=False),
    'unrecorded': autograd.train_mode,
}
Gradients = Tuple[Optional[Array], ...]  # (dX, dgamma, dbeta), None for what takes no gradient


class Trial(NamedTuple):
    """A minibatch with all other inputs, in float64, and how a sentence names X."""

    description: str
    X: Array
    gamma: Array
    beta: Array
    moving_mean: Array
    moving_var: Array
    dY: Array
    eps: float
    momentum: float

    @property
    def arrays(self) -> Tuple[Array, ...]:
        return self.X, self.gamma, self.beta, self.moving_mean, self.moving_var

    def moved(self, moving_mean: Array, moving_var: Array) -> Trial:
        """The trial with these averages, reshaped like the old ones if they hold as many values."""
        mean, var = (
            new.reshape(old.shape) if new.size == old.size else new
            for new, old in ((moving_mean, self.moving_mean), (moving_var, self.moving_var))
        )
        return self._replace(moving_mean=mean, moving_var=var)

    @property
    def broadcasts(self) -> bool:
        """Whether the averages broadcast with X."""
        return all(
            old.ndim == self.X.ndim and all(n in (1, size) for n, size in zip(old.shape, self.X.shape))
            for old in (self.moving_mean, self.moving_var)
        )

    def describe(self, *names: str) -> str:
        """'X = ..., gamma = (2, 3), eps = 4': the trial as a sentence names it; random numbers are left out."""
        if 'random' in self.description:
            return self.description
        parts = [self.description]
        for name in names:
            values = [f'{value:g}' for value in numpy.ravel(getattr(self, name))]
            parts.append(f'{name} = ' + (values[0] if len(set(values)) == 1 else f'({", ".join(values)})'))
        return ', '.join(parts)

    def describe_dY(self) -> str:
        """' and dY = ...': how such a sentence goes on."""
        return '' if 'random' in self.description else f' and dY = {self.dY.astype(int).tolist()}'


def trials(rank: int, eps: Optional[float] = None, momentum: Optional[float] = None) -> List[Trial]:
    """The trials for dense (2) or convolutional (4) input; a layer fixes eps and momentum, a function takes any."""
    one = (1, 2) if rank == 2 else (1, 2, 1, 1)
    # the same numbers as two images of two channels, each one pixel high and two wide
    X, dY = (
        rows if rank == 2 else rows.reshape(2, 2, 2).transpose(0, 2, 1).reshape(2, 2, 1, 2) for rows in (ROWS, UPSTREAM)
    )
    description = (
        'X = [[1, 2], [3, 2], [5, 6], [7, 6]]'
        if rank == 2
        else 'X of shape (2, 2, 1, 2), channel 0 holding 1, 3 and 5, 7, channel 1 holding 2, 2 and 6, 6'
    )

    def by_hand(description: str, X: Array, rows: Any, eps: float, momentum: float) -> Trial:
        gamma, beta, mean, var = numpy.array(rows, dtype='float64').reshape(4, *one)
        return Trial(description, X, gamma, beta, mean, var, dY, eps, momentum)

    random = numpy.random.RandomState(rank)
    shape = (6, 3) if rank == 2 else (3, 2, 2, 3)
    row = (1, shape[1]) + (1,) * (rank - 2)
    made = [
        by_hand(description, X, [(1, 1), (0, 0), (0, 0), (0, 0)], 1e-5, 0.9),
        by_hand(description, X, [(2, 3), (1, 10), (1, 2), (5, 12)], 4.0, 0.75),
        # so small that eps counts
        by_hand(f'{description}, all divided by 1000', X / 1000, [(2, 3), (1, 10), (0, 1e-3), (5e-6, 1e-5)], 1e-5, 0.9),
        Trial(
            f'a random X of shape {shape}',
            random.randn(*shape) * 2 + 1,
            random.uniform(0.5, 2, row),
            random.randn(*row),
            random.randn(*row),
            random.uniform(1, 2, row),
            random.randn(*shape),
            0.7,
            0.6,
        ),
    ]
    return [
        trial._replace(eps=trial.eps if eps is None else eps, momentum=trial.momentum if momentum is None else momentum)
        for trial in made
    ]


class Observed(NamedTuple):
    """What came out of one trial, as float64 NumPy arrays."""

    Y: Array
    moving_mean: Array
    moving_var: Array
    gradients: Union[Gradients, StudentError] = ()  # in training
    changed: Tuple[str, ...] = ()  # inputs that were overwritten
    in_graph: bool = False  # the averages belong to the autograd graph


def observe_function(fn: Callable[..., Any], trial: Trial, mode: str) -> Observed:
    """Call a function of batch_norm's signature in one of the MODES."""
    names = ('Y', 'moving_mean', 'moving_var')

    def call() -> Tuple[List[Any], Sequence[Any], List[Array]]:
        arrays = [front().array(value, dtype='float32') for value in trial.arrays]
        for array in arrays[:3]:
            array.attach_grad()
        with MODES[mode]():
            returned = unpack(fn, (*arrays, trial.eps, trial.momentum), names)
        values = [to_numpy(*pair) for pair in zip(names, returned)]
        for name, value in zip(names[1:], values[1:]):
            if value.shape == trial.X.shape != values[0].shape:
                raise StudentError('WrongReturn', f'Y is returned where {name} should be; return Y first')
        return arrays, returned, values

    training = mode == 'training'
    arrays, (Y, *averages), values = call()
    again = call()[2] if training else values
    if not all(numpy.array_equal(*pair, equal_nan=True) for pair in zip(values, again)):
        raise StudentError('RemembersBetweenCalls', 'called twice with the same arrays, the function gives two answers')
    changed = tuple(
        name
        for name, array, value in zip(('X', 'gamma', 'beta', *names[1:]), arrays, trial.arrays)
        if not numpy.array_equal(array.asnumpy(), value.astype('float32'))
    )
    gradients = differentiate(Y, trial, lambda: [array.grad for array in arrays[:3]]) if training else ()
    return Observed(values[0], values[1], values[2], gradients, changed, training and any(map(in_graph, averages)))


def front() -> Any:
    """The module whose arrays are in use: mx.np after npx.set_np(), else mx.nd."""
    return np if npx.is_np_array() else nd


def to_numpy(name: str, array: Any) -> Array:
    """A float64 NumPy array, if `array` is an MXNet array."""
    if array is None:
        raise StudentError('ReturnsNone', f'{name} is None')
    if not isinstance(array, NDArray):
        raise StudentError('WrongReturn', f'{name} should be an MXNet array, yours is {type_name(array)}')
    values: Array = array.asnumpy().astype('float64')
    return values


def type_name(value: Any) -> str:
    return f'of type {type(value).__module__.split(".")[0]}.{type(value).__name__}'


def unpack(fn: Callable[..., Any], arguments: Sequence[Any], names: Sequence[str]) -> Sequence[Any]:
    """The arrays that a function returns, if they are as many as the names."""
    returned = fn(*arguments)
    if returned is None and is_empty(fn):
        raise not_written(fn)
    expected = f'the function should return ({", ".join(names)}), yours returns'
    if returned is None:
        raise StudentError('ReturnsNone', f'{expected} None')
    if not isinstance(returned, (tuple, list)):
        raise StudentError('WrongReturn', f'{expected} one value {type_name(returned)}')
    if len(returned) != len(names):
        raise StudentError('WrongReturn', f'{expected} {len(returned)} values')
    return returned


def differentiate(Y: Any, trial: Trial, grads: Callable[[], Sequence[Any]]) -> Union[Gradients, StudentError]:
    """The gradients for the trial's upstream dY as NumPy arrays, or why there are none."""
    if Y.shape != trial.X.shape:
        return StudentError('WrongShape', f'Y should have the shape {trial.X.shape}, yours has {Y.shape}')
    if not in_graph(Y, front().array(trial.dY, dtype='float32')):
        return StudentError('NoGradient', 'Y is not connected to X, gamma and beta in the autograd graph')
    return tuple(
        None if grad is None else grad.asnumpy().astype('float64').reshape(value.shape)
        for grad, value in zip(grads(), trial.arrays)
    )


def in_graph(array: Any, gradient: Any = None) -> bool:
    """Whether an array belongs to an autograd graph, found by a backward pass: MXNet has no other way to ask."""
    try:
        array.backward(gradient, retain_graph=True)
    except MXNetError as error:
        if re.search('computation(al)? graph', str(error)):  # it is in none, or in one that needs no gradient
            return False
        raise
    return True
