"""The linear chain y = x w1 w2 ... wl: one unit per layer, no activation, all weights updated at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.ndarray import NDArray

from ..norm import batch_norm
from . import Array

SLOPE = 2.0  # the chain is to learn y = 2 x


def chain(x: NDArray, weights: NDArray) -> List[NDArray]:
    """The outputs h1, ..., hl of the chain's layers; x is (m, 1) or (1,), weights (l,)."""
    outputs = []
    for i in range(len(weights)):
        x = x * weights[i]
        outputs.append(x)
    return outputs


def normalize(H: NDArray, gamma: NDArray, beta: NDArray, eps: float = 1e-5) -> NDArray:
    """Y of batch_norm over the minibatch H (m, d) with gamma and beta (d,), always in training mode."""
    zero = nd.zeros((1, H.shape[1]), dtype=H.dtype)
    with autograd.train_mode():
        return batch_norm(H, gamma.reshape((1, -1)), beta.reshape((1, -1)), zero, zero, eps, 0.9)[0]


def standardize(H: NDArray, eps: float = 1e-5) -> NDArray:
    """`normalize` with gamma = 1 and beta = 0."""
    one = nd.ones(H.shape[1], dtype=H.dtype)
    return normalize(H, one, 0 * one, eps)


def statistics(H: NDArray, eps: float = 1e-5) -> Tuple[NDArray, NDArray]:
    """(mean, sqrt(var + eps)) of each unit of H (m, d): the beta and gamma that undo the normalization."""
    mean = H.mean(axis=0)
    return mean, nd.sqrt(((H - mean) ** 2).mean(axis=0) + eps)


def predict(x: NDArray, weights: NDArray, normalize: bool, eps: float = 1e-5) -> NDArray:
    """y = h(l-1) wl, with h(l-1) standardized over the minibatch or not."""
    h = chain(x, weights[:-1])[-1]
    return (standardize(h, eps) if normalize else h) * weights[-1]


def float64(values: Any) -> NDArray:
    """An `mx.nd` array of float64."""
    return nd.array(values, dtype='float64')


def leaf(values: Any) -> NDArray:
    """The same, with a gradient."""
    array = float64(values)
    array.attach_grad()
    return array


def gradient(x: float, weights: Array) -> Array:
    """dy/dw (l,) for the single number x, by autograd."""
    w = leaf(weights)
    with autograd.record():
        y = chain(float64([x]), w)[-1]
    y.backward()
    found: Array = w.grad.asnumpy()
    return found


def effects_by_order(x: float, weights: Array, step: float) -> Array:
    """The effect on y of a step of gradient descent on all weights, by powers of the step.

        x (w1 - step g1) (w2 - step g2) ... (wl - step gl) = sum over k of effects[k]

    effects[0] is the old y, and effects[1] = -step g.g the prediction of the first-order Taylor series.
    """
    coefficients = numpy.array([float(x)])
    for w, g in zip(weights, gradient(x, weights)):
        coefficients = numpy.convolve(coefficients, [w, -g])  # times (w - g t)
    effects: Array = coefficients * float(step) ** numpy.arange(len(coefficients))
    return effects


def change(x: float, weights: Array, step: float) -> Tuple[float, float]:
    """The decrease of y by one step: (predicted to first order, actual)."""
    g = gradient(x, weights)
    before, after = (float(chain(float64([x]), float64(w))[-1].asscalar()) for w in (weights, weights - step * g))
    return step * (g @ g), before - after


@dataclass
class Moments:
    """The first four moments of a unit over a minibatch, and its correlation with the input x."""

    mean: float
    var: float
    skewness: float
    excess_kurtosis: float
    correlation: float


def moments(h: NDArray, x: NDArray) -> Moments:
    """The `Moments` of the unit h (m, 1) for the inputs x (m, 1)."""
    unit, inputs = h.asnumpy().ravel(), x.asnumpy().ravel()
    centred = unit - unit.mean()
    std = centred.std()
    if std == 0:
        return Moments(unit.mean(), 0.0, *[float('nan')] * 3)
    z = centred / std
    correlation = (z * (inputs - inputs.mean())).mean() / inputs.std()
    return Moments(unit.mean(), std**2, (z**3).mean(), (z**4).mean() - 3, correlation)


def draw_x(m: int, seed: int) -> NDArray:
    """m examples from a unit Gaussian, (m, 1)."""
    return float64(numpy.random.RandomState(seed).randn(m, 1))


def moments_under_updates(
    size: float, num_updates: int = 100, depth: int = 10, m: int = 1000, seed: int = 0
) -> Tuple[List[Moments], List[Moments]]:
    """`Moments` of h(l-1) before and after standardizing, for random lower weights 1 + size * Gaussian.

    Returns: two lists (raw, standardized) of num_updates `Moments`.
    """
    random, x = numpy.random.RandomState(seed), draw_x(m, seed)
    units = [chain(x, float64(1 + size * random.randn(depth - 1)))[-1] for _ in range(num_updates)]
    return [moments(h, x) for h in units], [moments(standardize(h), x) for h in units]


@dataclass
class Training:
    """One training of the chain, step by step: arrays (num_steps,)."""

    loss: Array
    raw_var: Array  # of h(l-1)
    seen_var: Array  # of the last layer's input: h(l-1), or h(l-1) standardized
    lower_gradient: Array  # the norm of dL/d(w1 ... w(l-1))


def train_chain(normalize: bool, lr: float, num_steps: int = 100, seed: int = 0) -> Training:
    """Train a chain of ten weights around 1 to give y = 2 x, by SGD on all of them with new minibatches of 64.

    The variances are measured on one fixed minibatch, so that only the updates change them.
    """
    random, fixed = numpy.random.RandomState(seed), draw_x(256, seed)
    w = leaf(1 + 0.1 * random.randn(10))
    steps = []
    for _ in range(num_steps):
        x = float64(random.randn(64, 1))
        with autograd.record():
            loss = ((predict(x, w, normalize) - SLOPE * x) ** 2).mean()
        loss.backward()
        h = chain(fixed, w[:-1])[-1]
        seen = standardize(h) if normalize else h
        with numpy.errstate(all='ignore'):  # a chain that diverges is a result too
            variances = h.asnumpy().var(), seen.asnumpy().var()
            steps.append([float(loss.asscalar()), *variances, numpy.linalg.norm(w.grad.asnumpy()[:-1])])
        w[:] = w - lr * w.grad
    return Training(*numpy.array(steps).T)


def largest_factor(variances: Array) -> float:
    """The largest factor, up or down, by which one step changes the variance."""
    return float(numpy.exp(numpy.abs(numpy.diff(numpy.log(variances))).max()))


def lower_gradient(scale: float, eps: float, depth: int = 4, m: int = 64, seed: int = 0) -> Tuple[Array, Array]:
    """dL/dw with and without normalization, where the product of the lower weights is `scale`.

    The loss has a random upstream gradient: L = sum(y * dY).
    """
    random, x = numpy.random.RandomState(seed), draw_x(m, seed)
    weights = numpy.append(numpy.full(depth - 1, scale ** (1 / (depth - 1))), 1.5)
    dY = float64(random.randn(m, 1))

    def gradient(normalize: bool) -> Array:
        w = leaf(weights)
        with autograd.record():
            y = predict(x, w, normalize, eps)
        y.backward(dY)
        found: Array = w.grad.asnumpy()
        return found

    return gradient(True), gradient(False)


def var_after(product: float, eps: float = 1e-5, m: int = 1000, seed: int = 0) -> float:
    """The variance of the standardized h(l-1) where the lower weights multiply to `product`: v / (v + eps)."""
    return float(standardize(draw_x(m, seed) * product, eps).asnumpy().var())
