"""The gradient of batch normalization, each formula by hand and by autograd; and its place behind other layers."""

from __future__ import annotations

from typing import Callable, Dict, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.gluon import nn

from ..norm import BatchNorm, batch_norm
from . import Array
from .chain import float64, leaf

INTERMEDIATES = ('X', 'mean', 'centred', 'var', 'std', 'X_hat', 'Y')
ROWS = numpy.array([[1.0, 2], [3, 2], [5, 6], [7, 6]])  # the worked example: means (4, 4), variances (5, 4)


def axes_of(X: Array) -> Tuple[int, ...]:
    """The axes that one unit's statistics run over: all but the channel's."""
    return (0,) if X.ndim == 2 else (0, 2, 3)


def draw(
    shape: Tuple[int, ...], seed: int = 0, offset: float = 1.0, scale: float = 2.0
) -> Tuple[Array, Array, Array, Array]:
    """(X, gamma, beta, dY) with a random upstream gradient dY; NumPy arrays, float64."""
    random = numpy.random.RandomState(seed)
    one = (1, shape[1]) + (1,) * (len(shape) - 2)
    X, gamma, beta = offset + scale * random.randn(*shape), random.uniform(0.5, 2, one), random.randn(*one)
    return X, gamma, beta, random.randn(*shape)


def forward(X: Array, gamma: Array, beta: Array, eps: float) -> Dict[str, Array]:
    """Every intermediate by its name, in NumPy."""
    axes = axes_of(X)
    mean = X.mean(axes, keepdims=True)  # (1, d) or (1, c, 1, 1)
    centred = X - mean
    var = (centred**2).mean(axes, keepdims=True)
    std = numpy.sqrt(var + eps)
    X_hat = centred / std
    return {'X': X, 'mean': mean, 'centred': centred, 'var': var, 'std': std, 'X_hat': X_hat, 'Y': gamma * X_hat + beta}


def by_hand(X: Array, gamma: Array, beta: Array, eps: float, dY: Array) -> Dict[str, Array]:
    """dL/d of each intermediate, of gamma and of beta by the formulas of the chain rule, from Y down to X."""
    axes, m, f = axes_of(X), X.size // X.shape[1], forward(X, gamma, beta, eps)
    dX_hat = gamma * dY
    dgamma = (f['X_hat'] * dY).sum(axes, keepdims=True)
    dbeta = dY.sum(axes, keepdims=True)
    dstd = -(f['centred'] * dX_hat).sum(axes, keepdims=True) / f['std'] ** 2
    dvar = dstd / (2 * f['std'])
    dcentred = dX_hat / f['std'] + 2 * f['centred'] * dvar / m  # through X_hat and through var
    dmean = -dcentred.sum(axes, keepdims=True)
    dX = dcentred + dmean / m  # through centred and through mean
    found = dict(X=dX, mean=dmean, centred=dcentred, var=dvar, std=dstd, X_hat=dX_hat, Y=dY)
    return {**found, 'gamma': dgamma, 'beta': dbeta}


def by_autograd(X: Array, gamma: Array, beta: Array, eps: float, dY: Array) -> Dict[str, Array]:
    """The same gradients by autograd: a zero is added to each intermediate, and the zero's gradient is read."""
    values = forward(X, gamma, beta, eps)
    leaves = {name: leaf(0 * values[name]) for name in INTERMEDIATES}
    leaves.update(gamma=leaf(gamma), beta=leaf(beta))
    axes = axes_of(X)
    with autograd.record():
        x = float64(X) + leaves['X']
        mean = x.mean(axis=axes, keepdims=True) + leaves['mean']
        centred = x - mean + leaves['centred']
        var = (centred**2).mean(axis=axes, keepdims=True) + leaves['var']
        std = nd.sqrt(var + eps) + leaves['std']
        X_hat = centred / std + leaves['X_hat']
        Y = leaves['gamma'] * X_hat + leaves['beta'] + leaves['Y']
    Y.backward(float64(dY))
    return {name: zero.grad.asnumpy() for name, zero in leaves.items()}


def of_batch_norm(X: Array, gamma: Array, beta: Array, eps: float, dY: Array) -> Tuple[Array, Dict[str, Array]]:
    """Y of the package's batch_norm, and its gradients for X, gamma and beta by autograd."""
    leaves = {'X': leaf(X), 'gamma': leaf(gamma), 'beta': leaf(beta)}
    zero = nd.zeros(gamma.shape, dtype='float64')
    with autograd.record():
        Y = batch_norm(leaves['X'], leaves['gamma'], leaves['beta'], zero, zero, eps, 0.9)[0]
    Y.backward(float64(dY))
    return Y.asnumpy(), {name: array.grad.asnumpy() for name, array in leaves.items()}


def errors(shape: Tuple[int, ...], eps: float = 1e-5, seed: int = 0) -> Dict[str, float]:
    """The largest difference between `by_hand` and `by_autograd`, relative to the largest gradient, by name."""
    X, gamma, beta, dY = draw(shape, seed)
    hand, auto = by_hand(X, gamma, beta, eps, dY), by_autograd(X, gamma, beta, eps, dY)
    return {name: numpy.abs(hand[name] - auto[name]).max() / numpy.abs(hand[name]).max() for name in hand}


def forbidden_components(X: Array, dX: Array) -> Tuple[Array, Array]:
    """Per unit, as cosines from -1 to 1: dX along a shift of the unit, and along a stretch of it."""
    axes, m = axes_of(X), X.size // X.shape[1]
    centred = X - X.mean(axes, keepdims=True)
    length = numpy.sqrt((dX**2).sum(axes))
    return (dX.sum(axes) / (length * m**0.5), (dX * centred).sum(axes) / (length * numpy.sqrt((centred**2).sum(axes))))


def dense_by_hand() -> Tuple[Array, ...]:
    """relu(BN(u W^T + b)) on the worked example: u, W and b are such that u W^T + b = ROWS.

    Returns: (what the dense layer gives, the normalized, the output of the ReLU), each (4, 2).
    """
    net = nn.Sequential()
    net.add(nn.Dense(2, in_units=2), BatchNorm(2, num_dims=2, eps=0.0), nn.Activation('relu'))
    net.initialize()
    net[0].weight.set_data(nd.array([[2, 0], [0, 4]]))
    net[0].bias.set_data(nd.array([1, 2]))
    u = nd.array([[0, 0], [1, 0], [2, 1], [3, 1]])
    stages = []
    with autograd.record():
        for layer in net:
            u = layer(u)
            stages.append(u.asnumpy())
    return tuple(stages)


def with_bias(bias: float, train_mode: bool = True, seed: int = 0) -> Tuple[Array, Array, Array]:
    """A dense layer with this bias in every unit, then BatchNorm: (output, gradient of the bias, of the weights).

    The moving statistics are those of the same minibatch without a bias.
    """
    random = numpy.random.RandomState(seed)
    X, W, dY = float64(random.randn(32, 6)), float64(random.randn(4, 6)), float64(random.randn(32, 4))
    dense, norm = nn.Dense(4, in_units=6), BatchNorm(4, num_dims=2, momentum=0.0)
    for layer in (dense, norm):
        layer.initialize()
        layer.cast('float64')
    dense.weight.set_data(W)
    with autograd.train_mode():
        norm(dense(X))
    dense.bias.set_data(nd.full(4, bias, dtype='float64'))
    with autograd.record(train_mode=train_mode):
        Y = norm(dense(X))
    Y.backward(dY)
    return Y.asnumpy(), dense.bias.grad().asnumpy(), dense.weight.grad().asnumpy()


def commutes(move: Callable[[Array], Array], seed: int = 0) -> float:
    """The largest difference between BN(move(X)) and move(BN(X)), for a `move` of the locations of X."""
    X, gamma, beta, dY = draw((4, 3, 6, 6), seed)
    moved, Y = (of_batch_norm(inputs, gamma, beta, 1e-5, dY)[0] for inputs in (move(X), X))
    return float(numpy.abs(moved - move(Y)).max())


def roll(X: Array, rows: int = 2, columns: int = 1) -> Array:
    """X with its locations shifted cyclically."""
    moved: Array = numpy.roll(X, (rows, columns), axis=(2, 3))
    return moved


def permute(X: Array, seed: int = 0) -> Array:
    """X with its locations in a random order, the same in every example and channel."""
    order = numpy.random.RandomState(seed).permutation(X.shape[2] * X.shape[3])
    return X.reshape(*X.shape[:2], -1)[:, :, order].reshape(X.shape)


def shift_in_zeros(X: Array, rows: int = 2) -> Array:
    """X shifted down, with zeros coming in at the top: locations are lost."""
    moved = numpy.zeros_like(X)
    moved[:, :, rows:] = X[:, :, :-rows]
    return moved


def blobs(m: int = 64, size: int = 12, seed: int = 0) -> Array:
    """Feature maps (m, 1, size, size): one bright spot on a dark ground, mostly near the middle."""
    random = numpy.random.RandomState(seed)
    row, column = numpy.indices((size, size))
    centres = random.normal(size / 2 - 0.5, size / 10, (m, 2, 1, 1))
    maps: Array = numpy.exp(-((row - centres[:, 0]) ** 2 + (column - centres[:, 1]) ** 2) / 4)[:, None]
    return maps
