"""Whitening a layer against standardizing each unit: what it takes away, and what it costs."""
from __future__ import annotations

import statistics
import time

import numpy
from mxnet import autograd, gluon, nd

from .chain import standardize


def whiten(H, eps=1e-5):
    """Take mean, variances and all correlations out of H: (H - mean) L^-T with L L^T = covariance + eps I.

    Cholesky's factor is the cheapest root of the covariance; the gradient flows through all of it.
    Shapes: H (m, d) with m > d.
    """
    centred = H - H.mean(axis=0, keepdims=True)
    covariance = nd.linalg.syrk(centred, transpose=True, alpha=1 / len(H))  # (d, d), m d^2 multiplications
    L = nd.linalg.potrf(covariance + eps * nd.eye(H.shape[1], dtype=H.dtype))  # d^3 / 3
    return nd.linalg.trsm(L, centred, transpose=True, rightside=True)  # m d^2


def correlated(m, d, seed=0, dtype='float32'):
    """A minibatch (m, d) whose units share half of their variance, with an offset."""
    random = numpy.random.RandomState(seed)
    return nd.array(1 + random.randn(m, d) + random.randn(m, 1), dtype=dtype)


def largest_correlation(H):
    """The largest correlation between two different units of H (m, d)."""
    correlations = numpy.corrcoef(H.asnumpy().astype('float64'), rowvar=False)
    return numpy.abs(correlations - numpy.eye(len(correlations))).max()


def milliseconds(widths, m=1024, repeats=15, seed=0):
    """Forward and backward of the three on (m, width), in milliseconds: the median of interleaved repeats.

    Returns: {'whitening', 'batch_norm', 'gluon.nn.BatchNorm'} -> list over the widths.
    """
    times = {'whitening': [], 'batch_norm': [], 'gluon.nn.BatchNorm': []}
    for width in widths:
        H, dY = correlated(m, width, seed), nd.random.randn(m, width)
        H.attach_grad()
        layer = gluon.nn.BatchNorm()
        layer.initialize()
        functions = dict(zip(times, (whiten, standardize, layer)))
        taken = {name: [] for name in times}
        for repeat in range(repeats + 1):
            for name, function in functions.items():
                seconds = _forward_and_backward(function, H, dY)
                if repeat:  # the first one warms up
                    taken[name].append(1000 * seconds)
        for name in times:
            times[name].append(statistics.median(taken[name]))
    return times


def _forward_and_backward(function, H, dY):
    nd.waitall()
    start = time.perf_counter()
    with autograd.record():
        Y = function(H)
    Y.backward(dY)
    nd.waitall()
    return time.perf_counter() - start


def multiplications(method, m, d):
    """Of one forward pass, to leading order: 'whitening' 2 m d^2 + d^3 / 3, 'standardizing' 3 m d."""
    return 2 * m * d ** 2 + d ** 3 / 3 if method == 'whitening' else 3 * m * d
