"""Whitening a layer against standardizing each unit: what it takes away, and what it costs."""
from __future__ import annotations

import functools

import numpy
from mxnet import autograd, gluon, nd

from .chain import standardize
from .speed import time_in_turns


def whiten(H, eps=1e-5):
    """Take mean, variances and all correlations out of H: (H - mean) L^-T with L L^T = covariance + eps I.

    Cholesky's factor is a root of the covariance that takes few operations; the gradient flows through all of it.
    Shapes: H (m, d) with m > d.
    """
    centred = H - H.mean(axis=0, keepdims=True)
    # Behind each line are its multiplications and divisions.
    covariance = nd.linalg.syrk(centred, transpose=True, alpha=1 / len(H))  # (d, d), symmetric: m d (d+1) / 2
    L = nd.linalg.potrf(covariance + eps * nd.eye(H.shape[1], dtype=H.dtype))  # d (d-1) (d+4) / 6
    return nd.linalg.trsm(L, centred, transpose=True, rightside=True)  # m d (d+1) / 2


def correlated(m, d, seed=0, dtype='float32'):
    """A minibatch (m, d) whose units share half of their variance, with an offset."""
    random = numpy.random.RandomState(seed)
    return nd.array(1 + random.randn(m, d) + random.randn(m, 1), dtype=dtype)


def largest_correlation(H):
    """The largest correlation between two different units of H (m, d)."""
    correlations = numpy.corrcoef(H.asnumpy().astype('float64'), rowvar=False)
    return numpy.abs(correlations - numpy.eye(len(correlations))).max()


def milliseconds(widths, m=1024, rounds=15, seed=0):
    """Forward and backward of the three on (m, width), in milliseconds: the median over rounds, in turns.

    Returns: {'whitening', 'batch_norm', 'gluon.nn.BatchNorm'} -> list over the widths.
    """
    names, steps = ('whitening', 'batch_norm', 'gluon.nn.BatchNorm'), {}
    for width in widths:
        H, dY = correlated(m, width, seed), nd.random.randn(m, width)
        H.attach_grad()
        layer = gluon.nn.BatchNorm(in_channels=width)
        layer.initialize()
        for name, function in zip(names, (whiten, standardize, layer)):
            steps[name, width] = functools.partial(_forward_and_backward, function, H, dY)
    times = time_in_turns(steps, rounds)
    return {name: [times[name, width] for width in widths] for name in names}


def _forward_and_backward(function, H, dY):
    with autograd.record():
        Y = function(H)
    Y.backward(dY)


def multiplications(method, m, d):
    """Multiplications and divisions of one forward pass of 'whitening' or 'standardizing' on (m, d).

        whitening: m d (d+1) + d (d-1) (d+4) / 6, about m d^2 + d^3 / 6
        standardizing: 3 m d, for the squares, the division by the deviation, and gamma

    Whitening is counted without a gamma. Of neither are counted additions, roots, and the divisions by m,
    one for each mean.
    """
    return m * d * (d + 1) + d * (d - 1) * (d + 4) // 6 if method == 'whitening' else 3 * m * d
