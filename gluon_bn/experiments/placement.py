"""Where batch normalization stands: behind a dense layer without its bias, behind a convolution by channel."""
from __future__ import annotations

from typing import Callable, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.gluon import nn

from ..norm import BatchNorm
from . import Array
from .chain import float64
from .gradient import draw, of_batch_norm


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

    The moving statistics are those of the same minibatch without a bias, as if training had ended there.
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


def flatten_locations(X: Array) -> Array:
    """(m, c, p, q) as (m p q, c): every location an example of its own."""
    return X.transpose(0, 2, 3, 1).reshape(-1, X.shape[1])


def convolution_as_dense(shape: Tuple[int, ...], eps: float = 1e-5,
                         seed: int = 0) -> Tuple[Tuple[Array, Array], Tuple[Array, Array]]:
    """(Y, dX) of a convolution's output, and of the same numbers flattened as a dense layer's."""
    X, gamma, beta, dY = draw(shape, seed)
    Y, g = of_batch_norm(X, gamma, beta, eps, dY)
    X_flat, gamma, beta, dY = (flatten_locations(array) for array in (X, gamma, beta, dY))
    Y_flat, g_flat = of_batch_norm(X_flat, gamma, beta, eps, dY)
    return (flatten_locations(Y), flatten_locations(g['X'])), (Y_flat, g_flat['X'])


def commutes(move: Callable[[Array], Array], shape: Tuple[int, ...] = (4, 3, 6, 6), eps: float = 1e-5,
             seed: int = 0) -> float:
    """The largest difference between BN(move(X)) and move(BN(X)), for a `move` of the locations of X."""
    X, gamma, beta, dY = draw(shape, seed)
    return float(numpy.abs(of_batch_norm(move(X), gamma, beta, eps, dY)[0]
                           - move(of_batch_norm(X, gamma, beta, eps, dY)[0])).max())


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


def normalize_by_location(X: Array) -> Array:
    """The other way, a mean and a variance for every location: what a convolution shall not do."""
    Y: Array = (X - X.mean(axis=0)) / numpy.sqrt(X.var(axis=0) + 1e-5)
    return Y


def blobs(m: int = 64, size: int = 12, seed: int = 0) -> Array:
    """Feature maps (m, 1, size, size): one bright spot on a dark ground, mostly near the middle."""
    random = numpy.random.RandomState(seed)
    row, column = numpy.indices((size, size))
    centres = random.normal(size / 2 - 0.5, size / 10, (m, 2, 1, 1))
    maps: Array = numpy.exp(-((row - centres[:, 0]) ** 2 + (column - centres[:, 1]) ** 2) / 4)[:, None]
    return maps


def change_one_channel(channel: int, shape: Tuple[int, ...] = (8, 5, 4, 4), seed: int = 0) -> Tuple[Array, Array]:
    """By channel: the largest change of Y and of dX after another gamma and beta in one channel alone."""
    X, gamma, beta, dY = draw(shape, seed)
    changed = gamma.copy(), beta.copy()
    for array in changed:
        array[:, channel] += 1.5
    (Y, g), (Y_new, g_new) = of_batch_norm(X, gamma, beta, 1e-5, dY), of_batch_norm(X, *changed, 1e-5, dY)
    others = tuple(axis for axis in range(X.ndim) if axis != 1)
    return numpy.abs(Y_new - Y).max(others), numpy.abs(g_new['X'] - g['X']).max(others)
