"""gamma H' + beta in place of H: the same functions as before, in other parameters."""

from __future__ import annotations

from typing import Tuple

import numpy
from mxnet import autograd, nd
from mxnet.ndarray import NDArray

from . import Array
from .alternatives import Parameters, descend, regression
from .chain import float64, normalize, statistics


def output_statistics(beta: float = 0.7, gamma: float = 1.5, seed: int = 0) -> Tuple[Array, Array]:
    """Mean and standard deviation of one unit, before and after normalization, for 50 random layers below.

    The layer below is affine, with random sizes over two orders of magnitude and random offsets.
    Returns: two arrays (50, 2): of H, and of gamma H' + beta.
    """
    random = numpy.random.RandomState(seed)
    X, raw, normalized = float64(random.randn(256, 8)), [], []
    for _ in range(50):
        scale, offset = 10 ** random.uniform(-1, 1), 10 * random.randn()
        H = nd.dot(X, float64(scale * random.randn(8, 1))) + offset
        Y = normalize(H, float64([gamma]), float64([beta]))
        raw.append([H.asnumpy().mean(), H.asnumpy().std()])
        normalized.append([Y.asnumpy().mean(), Y.asnumpy().std()])
    return numpy.array(raw), numpy.array(normalized)


WIDTHS = (8, 16, 16, 16, 1)


def initial_network(seed: int) -> Parameters:
    """A ReLU network 8-16-16-16-1 in the new parametrization, as it usually starts: gamma = 1 and beta = 0."""
    random = numpy.random.RandomState(seed + 1000)
    params: Parameters = {}
    for i, (a, b) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        params[f'W{i}'] = float64(random.randn(a, b) / a**0.5)
    for i, width in enumerate(WIDTHS[1:-1]):
        params[f'gamma{i}'], params[f'beta{i}'] = nd.ones(width, dtype='float64'), nd.zeros(width, dtype='float64')
    params[f'b{len(WIDTHS) - 2}'] = nd.zeros(1, dtype='float64')
    return params


def outputs(X: NDArray, params: Parameters) -> NDArray:
    """The network's output (m, 1): layers with a gamma are normalized, gamma (XW)' + beta, the others are XW + b."""
    last = len(WIDTHS) - 2
    for i in range(last):
        H = nd.dot(X, params[f'W{i}'])
        new = f'gamma{i}' in params
        X = nd.relu(normalize(H, params[f'gamma{i}'], params[f'beta{i}']) if new else H + params[f'b{i}'])
    return nd.dot(X, params[f'W{last}']) + params[f'b{last}']


def to_old(X: NDArray, params: Parameters) -> Parameters:
    """The same function of the minibatch X in the old one: W gamma / sigma and b = beta - mu gamma / sigma."""
    old, last = dict(params), len(WIDTHS) - 2
    for i in range(last):
        mean, std = statistics(nd.dot(X, params[f'W{i}']))
        slope = old.pop(f'gamma{i}') / std
        old[f'W{i}'] = params[f'W{i}'] * slope
        old[f'b{i}'] = old.pop(f'beta{i}') - mean * slope
        X = nd.relu(nd.dot(X, old[f'W{i}']) + old[f'b{i}'])
    return old


def train_parametrization(
    new: bool, lr: float = 0.05, offset: float = 0.0, num_steps: int = 100, seed: int = 0
) -> Tuple[Array, Parameters]:
    """Train a network in the new or the old parametrization, full batch; both start as the same function.

    offset: added to each input; with 0 the inputs are centred.
    Returns: the losses (num_steps,) and the trained parameters.
    """
    X, y = regression(seed, offset=offset)
    params = initial_network(seed)
    if not new:
        params = to_old(X, params)
    for value in params.values():
        value.attach_grad()
    losses = []
    for _ in range(num_steps):
        with autograd.record():
            loss = ((outputs(X, params) - y) ** 2).mean()
        loss.backward()
        descend(params, lr)
        losses.append(float(loss.asscalar()))
    return numpy.array(losses), params
