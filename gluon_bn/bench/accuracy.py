"""The same arrays for every framework, their float64 reference results, and the relative errors."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Sequence

import numpy

EPS = 1e-5
DEPTH = 4  # layers in the stack; each has a quarter of its time


class Arrays(NamedTuple):
    """X and the upstream gradient dY, in float32 with unit variance; gamma and beta (c,)."""

    X: numpy.ndarray[Any, Any]
    dY: numpy.ndarray[Any, Any]
    gamma: numpy.ndarray[Any, Any]
    beta: numpy.ndarray[Any, Any]


def make_arrays(shape: Sequence[int], mean: float = 0) -> Arrays:
    """Return random arrays, the same in every process; X has the given mean."""
    random = numpy.random.default_rng(0)
    X = random.standard_normal(shape, 'float32') + numpy.float32(mean)
    dY = random.standard_normal(shape, 'float32')
    gamma, beta = random.uniform(0.5, 1.5, shape[1]).astype('float32'), random.standard_normal(shape[1], 'float32')
    return Arrays(X, dY, gamma, beta)


def reference(arrays: Arrays) -> Dict[str, numpy.ndarray[Any, Any]]:
    """Return Y, dX, dgamma and dbeta in float64, from the closed form."""
    X, dY, gamma, beta = (array.astype('float64') for array in arrays)
    axes = (0,) + tuple(range(2, X.ndim))
    gamma, beta = (array.reshape((1, -1) + (1,) * (X.ndim - 2)) for array in (gamma, beta))
    D = X - X.mean(axes, keepdims=True)
    std = numpy.sqrt((D**2).mean(axes, keepdims=True) + EPS)
    X_hat = D / std
    dbeta, dgamma = dY.sum(axes, keepdims=True), (dY * X_hat).sum(axes, keepdims=True)
    n = X.size / X.shape[1]
    dX = gamma / std * (dY - dbeta / n - X_hat * dgamma / n)
    return {'Y': gamma * X_hat + beta, 'dX': dX, 'dgamma': dgamma, 'dbeta': dbeta}


def errors(arrays: Arrays, Y: Any, dX: Any, dgamma: Any, dbeta: Any) -> Dict[str, float]:
    """Return the relative error of each result: |result - reference| / |reference|, in Euclidean norms."""
    results = {'Y': Y, 'dX': dX, 'dgamma': dgamma, 'dbeta': dbeta}
    norm = numpy.linalg.norm
    return {
        name: float(norm(results[name].ravel() - exact.ravel()) / norm(exact))
        for name, exact in reference(arrays).items()
    }
