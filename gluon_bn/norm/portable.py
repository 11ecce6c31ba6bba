"""The portable path: the same maths in MXNet operators that exist for every device and are fast on a CPU."""

from __future__ import annotations

from typing import Callable, Optional, Tuple

import numpy
from mxnet import autograd, nd, np
from mxnet.ndarray import NDArray

from .definition import blend

# (n, K, mean - K, var) of a share -> (mean, mean - K, var) of the whole minibatch; the arrays are (1, c)
Merge = Callable[[int, NDArray, NDArray, NDArray], Tuple[NDArray, NDArray, NDArray]]


def batch_norm_portable(
    X: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    eps: float,
    momentum: float,
    merge: Optional[Merge] = None,
) -> Tuple[NDArray, NDArray, NDArray]:
    """`batch_norm` in fast MXNet operators, on any device and in any dtype.

        D = X - K,  Y = gamma * (D - mean(D)) / sqrt(var(D) + eps) + beta

    K is the mean from a first pass, and a constant to autograd. D is centered, so one more
    pass gives both its moments without cancellation, and the gradient needs only the two
    sums of the closed form, sum(dY) and sum(dY * D).

    The speed comes from how the sums are computed. A reduction in MXNet, or the gradient
    of a broadcast, is many times slower than a product with a vector of ones (notebook 06
    measures it on a CPU). Here such products sum over a channel and spread one value over
    a channel: each is the gradient of the other.

    merge: turns the mean and variance of a share into those of the whole minibatch, for `sync_batch_norm`.

    Shapes, Units, Source: as for `batch_norm`. float16 is computed in float32.
    """
    arrays = [X, gamma, beta, moving_mean, moving_var]
    is_np, is_half = isinstance(X, np.ndarray), X.dtype == numpy.float16
    if is_np:
        arrays = [array.as_nd_ndarray() for array in arrays]
    if is_half:
        arrays = [array.astype('float32') for array in arrays]
    X, gamma, beta, moving_mean, moving_var = arrays
    Y, mean, var = standardize(X, gamma, beta, moving_mean, moving_var, eps, momentum, merge)
    if is_half:
        Y, mean, var = (array.astype('float16') for array in (Y, mean, var))
    return (Y.as_np_ndarray(), mean.as_np_ndarray(), var.as_np_ndarray()) if is_np else (Y, mean, var)


def standardize(
    X: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    eps: float,
    momentum: float,
    merge: Optional[Merge] = None,
) -> Tuple[NDArray, NDArray, NDArray]:
    m, c = X.shape[:2]
    s = X.size // (m * c)  # the pixels of a plane; 1 for X (m, d)
    n = m * s
    ones_m, ones_s = (nd.ones((1, size), ctx=X.context, dtype=X.dtype) for size in (m, s))
    X_planes, gamma_row, beta_row = X.reshape((m * c, s)), gamma.reshape((1, c)), beta.reshape((1, c))

    def total(A: NDArray) -> NDArray:
        """(m * c, s) -> (1, c): the sum over each channel."""
        return nd.dot(ones_m, nd.dot(A, ones_s, transpose_b=True).reshape((m, c)))

    def spread(v: NDArray) -> NDArray:
        """(1, c) -> (m * c, s): each channel's value, repeated over the channel."""
        return nd.dot(nd.dot(ones_m, v, transpose_a=True).reshape((m * c, 1)), ones_s)

    moving_mean, moving_var = moving_mean.detach(), moving_var.detach()
    if not autograd.is_training():
        D = nd.elemwise_sub(X_planes, spread(moving_mean.reshape((1, c))))
        scale = gamma_row / nd.sqrt(moving_var.reshape((1, c)) + eps)
        shift = beta_row
    else:
        K = total(X_planes.detach()) / n
        D = nd.elemwise_sub(X_planes, spread(K))
        mean = total(D) / n  # only K's rounding error, but the gradient flows through it
        var = total(nd.square(D)) / n - nd.square(mean)
        whole = K + mean
        if merge:
            whole, mean, var = merge(n, K, mean, var)
        scale = gamma_row / nd.sqrt(var + eps)
        shift = beta_row - mean * scale
        with autograd.pause():
            moving_mean = blend(moving_mean, whole.reshape(gamma.shape), momentum)
            moving_var = blend(moving_var, var.reshape(gamma.shape), momentum)
    Y = nd.elemwise_add(nd.elemwise_mul(D, spread(scale)), spread(shift))
    return Y.reshape(X.shape), moving_mean, moving_var
