"""The gradient of batch normalization, step by step: each formula by hand, and what autograd says."""
from __future__ import annotations

from typing import Dict, Tuple

import numpy
from mxnet import autograd, nd

from ..norm import batch_norm
from . import Array
from .chain import float64

INTERMEDIATES = ('X', 'mean', 'centred', 'var', 'std', 'X_hat', 'Y')
ROWS = numpy.array([[1.0, 2], [3, 2], [5, 6], [7, 6]])  # the worked example: means (4, 4), variances (5, 4)


def axes_of(X: Array) -> Tuple[int, ...]:
    """The axes that one unit's statistics run over: all but the channel's."""
    return (0,) if X.ndim == 2 else (0, 2, 3)


def draw(shape: Tuple[int, ...], seed: int = 0, offset: float = 1.0,
         scale: float = 2.0) -> Tuple[Array, Array, Array, Array]:
    """(X, gamma, beta, dY) with a random upstream gradient dY; NumPy arrays, float64."""
    random = numpy.random.RandomState(seed)
    one = (1, shape[1]) + (1,) * (len(shape) - 2)
    return (offset + scale * random.randn(*shape), random.uniform(0.5, 2, one), random.randn(*one),
            random.randn(*shape))


def forward(X: Array, gamma: Array, beta: Array, eps: float) -> Dict[str, Array]:
    """Every intermediate by its name, in NumPy."""
    axes = axes_of(X)
    mean = X.mean(axes, keepdims=True)  # (1, d) or (1, c, 1, 1)
    centred = X - mean
    var = (centred ** 2).mean(axes, keepdims=True)
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
    dcentred = dX_hat / f['std'] + 2 * f['centred'] * dvar / m  # it goes to X_hat directly and to var
    dmean = -dcentred.sum(axes, keepdims=True)
    dX = dcentred + dmean / m  # it goes to centred directly and to mean
    return {'X': dX, 'mean': dmean, 'centred': dcentred, 'var': dvar, 'std': dstd, 'X_hat': dX_hat, 'Y': dY,
            'gamma': dgamma, 'beta': dbeta}


def closed_form(X: Array, gamma: Array, eps: float, dY: Array) -> Array:
    """dX in one line: gamma / (m std) (m dY - dbeta - X_hat dgamma)."""
    f, g, m = forward(X, gamma, 0 * gamma, eps), by_hand(X, gamma, 0 * gamma, eps, dY), X.size // X.shape[1]
    dX: Array = gamma / (m * f['std']) * (m * dY - g['beta'] - f['X_hat'] * g['gamma'])
    return dX


def by_autograd(X: Array, gamma: Array, beta: Array, eps: float, dY: Array) -> Dict[str, Array]:
    """The same gradients by autograd: a zero is added to each intermediate, and the zero's gradient is read."""
    values = forward(X, gamma, beta, eps)
    leaves = {name: nd.zeros(values[name].shape, dtype='float64') for name in INTERMEDIATES}
    leaves.update(gamma=float64(gamma), beta=float64(beta))
    for leaf in leaves.values():
        leaf.attach_grad()
    axes = axes_of(X)
    with autograd.record():
        x = float64(X) + leaves['X']
        mean = x.mean(axis=axes, keepdims=True) + leaves['mean']
        centred = x - mean + leaves['centred']
        var = (centred ** 2).mean(axis=axes, keepdims=True) + leaves['var']
        std = nd.sqrt(var + eps) + leaves['std']
        X_hat = centred / std + leaves['X_hat']
        Y = leaves['gamma'] * X_hat + leaves['beta'] + leaves['Y']
    Y.backward(float64(dY))
    return {name: leaf.grad.asnumpy() for name, leaf in leaves.items()}


def of_batch_norm(X: Array, gamma: Array, beta: Array, eps: float, dY: Array) -> Tuple[Array, Dict[str, Array]]:
    """Y of the package's batch_norm, and its gradients for X, gamma and beta by autograd."""
    leaves = {name: float64(array) for name, array in (('X', X), ('gamma', gamma), ('beta', beta))}
    zero = nd.zeros(gamma.shape, dtype='float64')
    for leaf in leaves.values():
        leaf.attach_grad()
    with autograd.record():
        Y = batch_norm(leaves['X'], leaves['gamma'], leaves['beta'], zero, zero, eps, 0.9)[0]
    Y.backward(float64(dY))
    return Y.asnumpy(), {name: leaf.grad.asnumpy() for name, leaf in leaves.items()}


def errors(shape: Tuple[int, ...], eps: float = 1e-5, seed: int = 0) -> Dict[str, float]:
    """The largest difference between `by_hand` and `by_autograd`, relative to the largest gradient, by name."""
    X, gamma, beta, dY = draw(shape, seed)
    hand, auto = by_hand(X, gamma, beta, eps, dY), by_autograd(X, gamma, beta, eps, dY)
    return {name: numpy.abs(hand[name] - auto[name]).max() / numpy.abs(hand[name]).max() for name in hand}


def forbidden_components(X: Array, dX: Array) -> Tuple[Array, Array]:
    """Per unit, as cosines from -1 to 1: dX along a shift of the unit, and along a stretch of it."""
    axes, m = axes_of(X), X.size // X.shape[1]
    centred = X - X.mean(axes, keepdims=True)
    length = numpy.sqrt((dX ** 2).sum(axes))
    return (dX.sum(axes) / (length * m ** 0.5),
            (dX * centred).sum(axes) / (length * numpy.sqrt((centred ** 2).sum(axes))))


def without_gradient_through_statistics(gamma: Array, std: Array, dY: Array) -> Array:
    """dX if mean and std were constants: what a gradient proposes that does not know of them."""
    dX: Array = gamma * dY / std
    return dX


def step_on_inputs(lr: float, shape: Tuple[int, int] = (64, 5), eps: float = 0.0,
                   seed: int = 0) -> Tuple[Array, Array, Array, Array]:
    """One step of gradient descent on X itself: the means and variances of its units, before and after."""
    X, gamma, beta, dY = draw(shape, seed)
    after = X - lr * by_hand(X, gamma, beta, eps, dY)['X']
    return X.mean(0), after.mean(0), X.var(0), after.var(0)


def step_on_weights(lr: float, offset: float, seed: int = 0, m: int = 64) -> Tuple[Array, Array]:
    """The same for a step on W of H = X W, whose inputs X have the mean `offset`: H's means, before and after."""
    random = numpy.random.RandomState(seed)
    X, W = offset + random.randn(m, 8), random.randn(8, 5)
    X -= X.mean(0) - offset  # exactly this offset
    H, one = X @ W, numpy.ones((1, 5))
    dW = X.T @ by_hand(H, one, 0 * one, 0.0, random.randn(m, 5))['X']
    return H.mean(0), (X @ (W - lr * dW)).mean(0)


def constant_unit(eps: float, seed: int = 0, m: int = 8) -> Array:
    """dX of a unit (m, 1) whose value is the same in every example, by the package's batch_norm."""
    one = numpy.ones((1, 1))
    dY = numpy.random.RandomState(seed).randn(m, 1)
    return of_batch_norm(numpy.full((m, 1), 3.0), one, 0 * one, eps, dY)[1]['X']
