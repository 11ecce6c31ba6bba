"""What comes out of the code under test when it is run on a trial; here for a function."""
from __future__ import annotations

import re
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy
from mxnet import MXNetError, autograd, nd, np, npx
from mxnet.ndarray import NDArray

from .raised import Trouble, is_empty, not_written
from .trials import Array, Trial

MODES: Dict[str, Callable[[], ContextManager[Any]]] = {
    'training': autograd.record, 'prediction': autograd.predict_mode,
    'recording': lambda: autograd.record(train_mode=False), 'unrecorded': autograd.train_mode}
Gradients = Tuple[Optional[Array], ...]  # (dX, dgamma, dbeta), None for what takes no gradient


class Observed(NamedTuple):
    """What came out of one trial, as float64 NumPy arrays."""

    Y: Array
    moving_mean: Array
    moving_var: Array
    gradients: Union[Gradients, Trouble] = ()  # in training
    changed: Tuple[str, ...] = ()  # inputs that were overwritten
    kept: bool = False             # the statistics hang on the autograd graph


def front() -> Any:
    """The module whose arrays are in use: mx.np after npx.set_np(), else mx.nd."""
    return np if npx.is_np_array() else nd


def to_numpy(name: str, array: Any, shape: Optional[Tuple[int, ...]] = None) -> Array:
    """A float64 NumPy array, if `array` is an MXNet array (of that shape)."""
    if array is None:
        raise Trouble('ReturnsNone', f'{name} is None')
    if not isinstance(array, NDArray):
        raise Trouble('WrongReturn', f'{name} should be an MXNet array, yours is {kind(array)}')
    if shape is not None and array.shape != shape:
        raise Trouble('WrongShape', f'{name} should have the shape {shape}, yours has {array.shape}')
    values: Array = array.asnumpy().astype('float64')
    return values


def kind(value: Any) -> str:
    return f'of type {type(value).__module__.split(".")[0]}.{type(value).__name__}'


def unpack(fn: Callable[..., Any], arguments: Sequence[Any], names: Sequence[str]) -> Sequence[Any]:
    """The arrays that a function returns, if they are as many as the names."""
    returned = fn(*arguments)
    expected = f'({", ".join(names)})'
    if returned is None and is_empty(fn):
        raise not_written(fn)
    if returned is None:
        raise Trouble('ReturnsNone', f'the function should return {expected}, yours returns None')
    if not isinstance(returned, (tuple, list)):
        raise Trouble('WrongReturn', f'the function should return {expected}, '
                                     f'yours returns one value {kind(returned)}')
    if len(returned) != len(names):
        raise Trouble('WrongReturn', f'the function should return {expected}, yours returns {len(returned)} values')
    return returned


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
                raise Trouble('WrongReturn', f'Y comes back in the place of {name}: it should come first')
        return arrays, returned, values

    arrays, (Y, moving_mean, moving_var), values = call()
    again = call()[2] if mode == 'training' else values
    if not all(numpy.array_equal(*pair, equal_nan=True) for pair in zip(values, again)):
        raise Trouble('RemembersBetweenCalls', 'called twice with the same arrays, the function gives two answers')
    before = [value.astype('float32') for value in trial.arrays]
    changed = tuple(name for name, array, value in zip(('X', 'gamma', 'beta', *names[1:]), arrays, before)
                    if not numpy.array_equal(array.asnumpy(), value))
    gradients = differentiate(Y, trial, lambda: [array.grad for array in arrays[:3]]) if mode == 'training' else ()
    return Observed(values[0], values[1], values[2], gradients, changed,
                    mode == 'training' and any(map(in_graph, (moving_mean, moving_var))))


def differentiate(Y: Any, trial: Trial, grads: Callable[[], Sequence[Any]]) -> Union[Gradients, Trouble]:
    """The gradients for the trial's upstream dY as NumPy arrays, or the Trouble that kept them away."""
    if Y.shape != trial.X.shape:
        return Trouble('WrongShape', f'Y should have the shape {trial.X.shape}, yours has {Y.shape}')
    if not in_graph(Y, front().array(trial.dY, dtype='float32')):
        return Trouble('NoGradient', 'Y does not hang together with X, gamma and beta in the autograd graph')
    return tuple(None if grad is None else grad.asnumpy().astype('float64').reshape(value.shape)
                 for grad, value in zip(grads(), trial.arrays))


def in_graph(array: Any, gradient: Any = None) -> bool:
    """Whether an array belongs to an autograd graph, found by a backward pass: MXNet has no other way to ask."""
    try:
        array.backward(gradient, retain_graph=True)
    except MXNetError as error:
        if re.search('computation(al)? graph', str(error)):  # it is in none, or in one that needs no gradient
            return False
        raise
    return True
