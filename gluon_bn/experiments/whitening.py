"""Whitening a layer against standardizing each unit: what it takes away, and what it costs."""
from __future__ import annotations

import functools
from typing import Callable, Dict, List, Sequence

import numpy
from mxnet import autograd, gluon, nd
from mxnet.ndarray import NDArray

from .chain import standardize
from .speed import time_in_turns


def whiten(H: NDArray, eps: float = 1e-5) -> NDArray:
    """Take mean, variances and all correlations out of H: (H - mean) L^-T with L L^T = covariance + eps I.

    Cholesky's factor is a root of the covariance that takes few operations; the gradient flows through all of it.
    Shapes: H (m, d) with m > d.
    """
    centred = H - H.mean(axis=0, keepdims=True)
    # Behind each line are its multiplications and divisions.
    covariance = nd.linalg.syrk(centred, transpose=True, alpha=1 / len(H))  # (d, d), symmetric: m d (d+1) / 2
    L = nd.linalg.potrf(covariance + eps * nd.eye(H.shape[1], dtype=H.dtype))  # d (d-1) (d+4) / 6
    Z: NDArray = nd.linalg.trsm(L, centred, transpose=True, rightside=True)  # m d (d+1) / 2
    return Z


def correlated(m: int, d: int, seed: int = 0, dtype: str = 'float32') -> NDArray:
    """A minibatch (m, d) whose units share half of their variance, with an offset."""
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
        functions: Dict[str, Callable[[NDArray], NDArray]] = {
            'whitening': whiten, 'batch_norm': standardize, 'gluon.nn.BatchNorm': layer}
        for name, function in functions.items():
            steps[name, width] = functools.partial(_forward_and_backward, function, H, dY)
    times = time_in_turns(steps, rounds)
    return {name: [times[name, width] for width in widths] for name in functions}


def _forward_and_backward(function: Callable[[NDArray], NDArray], H: NDArray, dY: NDArray) -> None:
    with autograd.record():
        Y = function(H)
    Y.backward(dY)


def multiplications(method: str, m: int, d: int) -> int:
    """Multiplications and divisions of one forward pass of 'whitening' or 'standardizing' on (m, d).

        whitening: m d (d+1) + d (d-1) (d+4) / 6, about m d^2 + d^3 / 6
        standardizing: 3 m d, for the squares, the division by the deviation, and gamma

    Whitening is counted without a gamma. Of neither are counted additions, roots, and the divisions by m,
    one for each mean.
    """
    return m * d * (d + 1) + d * (d - 1) * (d + 4) // 6 if method == 'whitening' else 3 * m * d
