"""What comes out of the code under test when it is run on a trial, for a function and for a layer alike."""
from __future__ import annotations

from typing import Any, NamedTuple, Tuple

import numpy
from mxnet import autograd, gluon, nd, np, npx
from mxnet.ndarray import NDArray

from .guard import Trouble

MODES = {'training': autograd.record, 'prediction': autograd.predict_mode,
         'recording': lambda: autograd.record(train_mode=False), 'unrecorded': autograd.train_mode}


class Observed(NamedTuple):
    """What came out of one trial, as float64 NumPy arrays."""

    Y: Any
    moving_mean: Any
    moving_var: Any
    gradients: Any = None          # (dX, dgamma, dbeta), None for what takes no gradient, or a Trouble
    changed: Tuple[str, ...] = ()  # inputs that were overwritten
    kept: bool = False             # the statistics hang on the autograd graph


def front():
    """The module whose arrays are in use: mx.np after npx.set_np(), else mx.nd."""
    return np if npx.is_np_array() else nd


def to_numpy(name, array, shape=None):
    """A float64 NumPy array, if `array` is an MXNet array (of that shape)."""
    if array is None:
        raise Trouble('ReturnsNone', f'{name} is None')
    if not isinstance(array, NDArray):
        raise Trouble('WrongReturn', f'{name} should be an MXNet array, yours is {_kind(array)}')
    if shape is not None and array.shape != shape:
        raise Trouble('WrongShape', f'{name} should have the shape {shape}, yours has {array.shape}')
    return array.asnumpy().astype('float64')


def _kind(value):
    return f'of type {type(value).__module__.split(".")[0]}.{type(value).__name__}'


def unpack(returned, names):
    """The arrays that a function returned, if they are as many as the names."""
    expected = f'({", ".join(names)})'
    if returned is None:
        raise Trouble('ReturnsNone', f'the function should return {expected}, yours returns None')
    if not isinstance(returned, (tuple, list)):
        raise Trouble('WrongReturn', f'the function should return {expected}, '
                                     f'yours returns one value {_kind(returned)}')
    if len(returned) != len(names):
        raise Trouble('WrongReturn', f'the function should return {expected}, yours returns {len(returned)} values')
    return returned


def observe_function(fn, trial, mode):
    """Call a function of batch_norm's signature in one of the MODES."""
    arrays = [front().array(value, dtype='float32') for value in trial.arrays]
    before = [array.asnumpy() for array in arrays]
    for array in arrays[:3]:
        array.attach_grad()
    with MODES[mode]():
        returned = fn(*arrays, trial.eps, trial.momentum)
    names = ('Y', 'moving_mean', 'moving_var')
    Y, moving_mean, moving_var = unpack(returned, names)
    values = [to_numpy(*pair) for pair in zip(names, (Y, moving_mean, moving_var))]
    changed = tuple(name for name, array, value in zip(('X', 'gamma', 'beta', *names[1:]), arrays, before)
                    if not numpy.array_equal(array.asnumpy(), value))
    gradients = differentiate(Y, trial, lambda: [array.grad for array in arrays[:3]]) if mode == 'training' else None
    return Observed(*values, gradients, changed, mode == 'training' and any(map(on_graph, (moving_mean, moving_var))))


def differentiate(Y, trial, grads):
    """The gradients for the trial's upstream dY as NumPy arrays, or the Trouble that kept them away."""
    if Y.shape != trial.X.shape:
        return Trouble('WrongShape', f'Y should have the shape {trial.X.shape}, yours has {Y.shape}')
    try:
        Y.backward(front().array(trial.dY, dtype='float32'), retain_graph=True)
    except Exception as error:
        if 'computational graph' in str(error):
            return Trouble('NoGradient', 'Y does not hang together with X, gamma and beta in the autograd graph')
        raise
    return tuple(None if grad is None else grad.asnumpy().astype('float64').reshape(value.shape)
                 for grad, value in zip(grads(), trial.arrays))


def on_graph(array):
    """Whether the autograd graph holds on to an array that an operation has made."""
    try:
        array.backward(retain_graph=True)
    except Exception:  # MXNet has no other way to ask
        return False
    return True


class Layer:
    """A freshly made layer of the class under test, its parameters and statistics found by name."""

    def __init__(self, cls, rank, num_features=2, load=None):
        try:
            self.block = cls(num_features, rank)
        except Exception as error:
            error.during = f'in making the layer by {getattr(cls, "__name__", "cls")}({num_features}, {rank}), '
            raise
        if not isinstance(self.block, gluon.Block):
            raise Trouble('NotABlock', f'the class should be a gluon.nn.Block, yours makes {_kind(self.block)}')
        if load is not None:  # before anything is initialized: in the np front MXNet 1.9.1 loads into nothing else
            self.block.load_parameters(load)
            return
        self.block.initialize()
        if any(min(parameter.shape or (0,)) <= 0 for parameter in self.block.collect_params().values()):
            with autograd.predict_mode():  # sizes that are inferred need an input
                self.block(front().ones((2, num_features) + (1,) * (rank - 2)))

    def find(self, word):
        """The attribute whose name holds a word ('gamma', 'mean'): (name, Parameter or array), or (None, None)."""
        for name, value in vars(self.block).items():
            if word in name.lower() and isinstance(value, (gluon.Parameter, NDArray)):
                return name, value
        for name, value in self.block.collect_params().items():
            if word in name.split('_', 1)[-1]:
                return name, value
        return None, None

    def statistics(self):
        found = [self.find(word)[1] for word in ('mean', 'var')]
        if any(value is None for value in found):
            raise Trouble('NoMovingStats', 'the layer has no attributes moving_mean and moving_var '
                                           'that hold arrays or Parameters')
        return found

    def write(self, word, value):
        name, old = self.find(word)
        if isinstance(old, gluon.Parameter):
            old.set_data(front().array(value.reshape(old.shape), dtype='float32'))
        elif old is not None and old.size == value.size:
            setattr(self.block, name, front().array(value.reshape(old.shape), dtype='float32'))

    def read(self, word):
        value = self.find(word)[1]
        return to_numpy(f'the moving {word}', value.data() if isinstance(value, gluon.Parameter) else value)


def observe_layer(cls, trial, mode):
    """Run a new layer of the class, started from the trial's parameters and statistics, in one of the MODES."""
    layer = Layer(cls, trial.X.ndim, trial.X.shape[1])
    layer.statistics()  # they must be there
    for word, value in zip(('gamma', 'beta', 'mean', 'var'), trial.arrays[1:]):
        layer.write(word, value)
    X = front().array(trial.X, dtype='float32')
    before = X.asnumpy()
    X.attach_grad()
    with MODES[mode]():
        Y = layer.block(X)
    value = to_numpy('Y', Y)
    changed = () if numpy.array_equal(X.asnumpy(), before) else ('X',)

    def grads():
        learned = [layer.find(word)[1] for word in ('gamma', 'beta')]
        return [X.grad, *(p.grad() if isinstance(p, gluon.Parameter) and p.grad_req != 'null' else None
                          for p in learned)]

    # Gluon's own layer moves its statistics in the backward pass: they are read after it.
    gradients = differentiate(Y, trial, grads) if mode == 'training' else None
    plain = [array for array in layer.statistics() if not isinstance(array, gluon.Parameter)]
    kept = mode == 'training' and any(map(on_graph, plain))
    # a layer may keep its averages in any shape of that size, as Gluon's does: (c,)
    mean, var = (read.reshape(like.shape) if read.size == like.size else read for read, like in
                 ((layer.read('mean'), trial.moving_mean), (layer.read('var'), trial.moving_var)))
    return Observed(value, mean, var, gradients, changed, kept)
