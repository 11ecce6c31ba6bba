"""What was tried before batch normalization: a penalty on the cost, renormalizing after each step, and whitening."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

import numpy
from mxnet import autograd, gluon, nd
from mxnet.ndarray import NDArray

from . import Array
from .chain import float64, leaf, standardize, statistics
from .speed import forward_and_backward, time_in_turns

NUM_INPUTS, NUM_HIDDEN = 8, 16

Parameters = Dict[str, NDArray]


def regression(
    seed: int, m: int = 128, offset: float = 1.0, mix: float = 0.5, white: bool = False
) -> Tuple[NDArray, NDArray]:
    """A small regression problem (X, y): inputs with an offset and correlations, a random ReLU network as teacher.

    white: take mean, variances and correlations out of X (exactly, over these m rows).
    Shapes: X (m, 8), y (m, 1), standardized; float64.
    """
    random = numpy.random.RandomState(seed)
    X = offset + random.randn(m, NUM_INPUTS) @ (numpy.eye(NUM_INPUTS) + mix * random.randn(NUM_INPUTS, NUM_INPUTS))
    if white:
        centred = X - X.mean(axis=0)
        X = numpy.linalg.solve(numpy.linalg.cholesky(centred.T @ centred / m), centred.T).T
    hidden = (X - X.mean(axis=0)) @ random.randn(NUM_INPUTS, 4) / NUM_INPUTS**0.5 + 0.5 * random.randn(4)
    y = numpy.maximum(hidden, 0) @ random.randn(4, 1)
    return float64(X), float64((y - y.mean()) / y.std())


def initial(seed: int) -> Parameters:
    """W (8, 16) and b (16,) of the hidden layer H = X W + b, v (16, 1) and c (1,) of the output."""
    random = numpy.random.RandomState(seed + 1000)
    values = {
        'W': random.randn(NUM_INPUTS, NUM_HIDDEN) / NUM_INPUTS**0.5,
        'b': numpy.zeros(NUM_HIDDEN),
        'v': random.randn(NUM_HIDDEN, 1) / NUM_HIDDEN**0.5,
        'c': numpy.zeros(1),
    }
    return {name: leaf(value) for name, value in values.items()}


def squared_error(hidden: NDArray, params: Parameters, y: NDArray) -> NDArray:
    """The mean squared error of relu(hidden) v + c."""
    return ((nd.dot(nd.relu(hidden), params['v']) + params['c'] - y) ** 2).mean()


def descend(params: Parameters, lr: float) -> None:
    """One step of gradient descent on every parameter."""
    for value in params.values():
        value[:] = value - lr * value.grad


@dataclass
class PenaltyResult:
    """After training: the statistics of each unit (16,) over the training set, and the cost without the penalty."""

    mean: Array
    var: Array
    cost: float


def train_with_penalty(weight: float, lr: float = 0.02, num_steps: int = 300, seed: int = 0) -> PenaltyResult:
    """Minimize cost + weight * (average over the units of mean^2 + (var - 1)^2), full batch.

    Above weight 1 the learning rate is divided by the weight, or the penalty would diverge.
    """
    (X, y), params, lr = regression(seed), initial(seed), lr / max(1, weight)
    for _ in range(num_steps):
        with autograd.record():
            H = nd.dot(X, params['W']) + params['b']
            mean = H.mean(axis=0, keepdims=True)
            var = ((H - mean) ** 2).mean(axis=0, keepdims=True)
            cost = squared_error(H, params, y)
            loss = cost + weight * (mean**2 + (var - 1) ** 2).mean()
        loss.backward()
        descend(params, lr)
    return PenaltyResult(mean.asnumpy().ravel(), var.asnumpy().ravel(), float(cost.asscalar()))


def batch_norm_leaves(seed: int = 0, eps: float = 1e-5) -> PenaltyResult:
    """The same for batch normalization, before any training: mean 0 and variance v / (v + eps), by definition."""
    (X, y), params = regression(seed), initial(seed)
    H = standardize(nd.dot(X, params['W']) + params['b'], eps)
    cost = squared_error(H, params, y)
    return PenaltyResult(H.asnumpy().mean(axis=0), H.asnumpy().var(axis=0), float(cost.asscalar()))


@dataclass
class StepDecomposition:
    """How much of each step shifts and stretches units: arrays (num_steps,)."""

    loss: Array
    proposed: Array  # share of dL/dH, in squared length, that only moves means and variances
    moved: Array  # the same share of the change of H by the step on W and b


def share_of_statistics(change: Array, H: Array) -> float:
    """The share of `change` (m, d), in squared length, that lies along 1 or along the centred H, unit by unit."""
    centred = H - H.mean(axis=0)
    along_mean = len(H) * change.mean(axis=0) ** 2
    along_std = (change * centred).sum(axis=0) ** 2 / (centred**2).sum(axis=0)
    return float((along_mean + along_std).sum() / (change**2).sum())


def train_renormalizing(
    method: str, lr: float = 0.1, num_steps: int = 100, seed: int = 0, white: bool = False, eps: float = 1e-8
) -> StepDecomposition:
    """Train relu(H') v + c on all examples at once and measure what each step proposes.

    method 'renormalize': H' = H, no gradient through the statistics; after each step W and b
    are rescaled and shifted so that each unit of H is standardized again.
    method 'batch_norm': H' = batch_norm(H) with gamma = 1 and beta = 0, the gradient flows through the statistics.
    """
    if method not in ('renormalize', 'batch_norm'):
        raise ValueError(f"method must be 'renormalize' or 'batch_norm', got {method!r}")
    (X, y), params, steps = regression(seed, white=white), initial(seed), []
    renormalize(X, params)  # both start from the same function
    shift = leaf(nd.zeros((len(X), NUM_HIDDEN)))  # added to H, so that its gradient is dL/dH
    for _ in range(num_steps):
        with autograd.record():
            H = nd.dot(X, params['W']) + params['b'] + shift
            loss = squared_error(standardize(H, eps) if method == 'batch_norm' else H, params, y)
        loss.backward()
        descend(params, lr)
        before, after = H.asnumpy(), (nd.dot(X, params['W']) + params['b']).asnumpy()
        shares = [share_of_statistics(change, before) for change in (shift.grad.asnumpy(), after - before)]
        steps.append([float(loss.asscalar()), *shares])
        if method == 'renormalize':
            renormalize(X, params)
    return StepDecomposition(*numpy.array(steps).T)


def renormalize(X: NDArray, params: Parameters) -> None:
    """Rescale W and shift b so that each unit of X W + b has mean 0 and variance 1."""
    mean, std = statistics(nd.dot(X, params['W']) + params['b'], eps=0)
    params['W'][:] = params['W'] / std
    params['b'][:] = (params['b'] - mean) / std


def whiten(H: NDArray, eps: float = 1e-5) -> NDArray:
    """Take mean, variances and all correlations out of H: (H - mean) L^-T with L L^T = covariance + eps I.

    Cholesky's factor is a root of the covariance that takes few operations; the gradient flows through all of it.
    Shapes: H (m, d) with m > d.
    """
    centred = H - H.mean(axis=0, keepdims=True)
    # The comment on each line counts its multiplications and divisions.
    covariance = nd.linalg.syrk(centred, transpose=True, alpha=1 / len(H))  # (d, d), symmetric: m d (d+1) / 2
    L = nd.linalg.potrf(covariance + eps * nd.eye(H.shape[1], dtype=H.dtype))  # d (d-1) (d+4) / 6
    Z: NDArray = nd.linalg.trsm(L, centred, transpose=True, rightside=True)  # m d (d+1) / 2
    return Z


def correlated(m: int, d: int, seed: int = 0, dtype: str = 'float32') -> NDArray:
    """A minibatch (m, d) with mean 1 whose units share half of their variance."""
    random = numpy.random.RandomState(seed)
    return nd.array(1 + random.randn(m, d) + random.randn(m, 1), dtype=dtype)


def largest_correlation(H: NDArray) -> float:
    """The largest correlation between two different units of H (m, d)."""
    correlations = numpy.corrcoef(H.asnumpy().astype('float64'), rowvar=False)
    return float(numpy.abs(correlations - numpy.eye(len(correlations))).max())


def milliseconds(widths: Sequence[int], m: int = 1024, rounds: int = 15, seed: int = 0) -> Dict[str, List[float]]:
    """Forward and backward of the three on (m, width), in milliseconds: the median over rounds, in turns.

    Returns: {'whitening', 'batch_norm', 'gluon.nn.BatchNorm'} -> list over the widths.
    """
    steps = {}
    for width in widths:
        H, dY = correlated(m, width, seed), nd.random.randn(m, width)
        H.attach_grad()
        layer = gluon.nn.BatchNorm(in_channels=width)
        layer.initialize()
        functions: Dict[str, Callable[[NDArray], NDArray]]
        functions = {'whitening': whiten, 'batch_norm': standardize, 'gluon.nn.BatchNorm': layer}
        for name, function in functions.items():
            steps[name, width] = functools.partial(forward_and_backward, function, H, dY)
    times = time_in_turns(steps, rounds)
    return {name: [times[name, width] for width in widths] for name in functions}


def multiplications(method: str, m: int, d: int) -> int:
    """Multiplications and divisions of one forward pass of 'whitening' or 'standardizing' on (m, d).

        whitening: m d (d+1) + d (d-1) (d+4) / 6, about m d^2 + d^3 / 6
        standardizing: 3 m d, for the squares, the division by the deviation, and gamma

    Whitening is counted without a gamma. Additions, roots, and the divisions by m for each mean are not counted.
    """
    return m * d * (d + 1) + d * (d - 1) * (d + 4) // 6 if method == 'whitening' else 3 * m * d
