"""The maths of batch normalization: one function, and the checks of its input."""

from __future__ import annotations

import math
import numbers
from typing import Any, Sequence, Tuple

import numpy
from mxnet import autograd, nd, np
from mxnet.ndarray import NDArray

from ..errors import InputError


def batch_norm(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """Standardize each unit over the minibatch, then scale by gamma and shift by beta.

        Y = gamma * (X - mean) / sqrt(var + eps) + beta

    In training mode (`autograd.is_training()`) mean and var are the minibatch's, and
    the gradient flows through both; in prediction mode they are the moving ones.
    Nothing is mutated: the blended statistics are returned, detached from the graph.
    float16 is computed in float32, because the square of 256 overflows it.

    Shapes: X, Y (m, d) or (m, c, h, w); the other arrays (1, d) or (1, c, 1, 1).
    Units: X_hat has none; mean has those of X, var and eps those of X squared, gamma and beta those of Y.
    momentum weighs the old value: new = momentum * old + (1 - momentum) * batch.
    Raises: InputError for input that `check_input` refuses.
    Source: Ioffe and Szegedy (2015), Algorithm 1, with the biased variance throughout.

    >>> X = nd.array([[1, 2], [3, 2], [5, 6], [7, 6]])     # means (4, 4), variances (5, 4)
    >>> gamma, beta, zero = nd.ones((1, 2)), nd.zeros((1, 2)), nd.zeros((1, 2))
    >>> with autograd.train_mode():
    ...     Y, moving_mean, moving_var = batch_norm(X, gamma, beta, zero, zero, 1e-5, 0.9)
    """
    arrays = (X, gamma, beta, moving_mean, moving_var)
    check_input(arrays, eps, momentum)
    if X.dtype == numpy.float16:
        X, gamma, beta, moving_mean, moving_var = (array.astype('float32') for array in arrays)
        Y, moving_mean, moving_var = batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        return Y.astype('float16'), moving_mean.astype('float16'), moving_var.astype('float16')
    if not autograd.is_training():
        X_hat = (X - moving_mean) / sqrt(moving_var + eps)
        return gamma * X_hat + beta, moving_mean, moving_var

    axes = (0,) if X.ndim == 2 else (0, 2, 3)  # every axis but the channel's
    mean = X.mean(axis=axes, keepdims=True)  # (1, d) or (1, c, 1, 1)
    # Two passes: E[X^2] - E[X]^2 would cancel when the mean is large.
    var = ((X - mean) ** 2).mean(axis=axes, keepdims=True)
    X_hat = (X - mean) / sqrt(var + eps)
    Y = gamma * X_hat + beta
    with autograd.pause():  # otherwise each iteration would keep the graph of the previous one alive
        return Y, blend(moving_mean, mean, momentum), blend(moving_var, var, momentum)


def blend(old: NDArray, batch: NDArray, momentum: float) -> NDArray:
    """Move `old` towards the minibatch's statistic: momentum * old + (1 - momentum) * batch."""
    return momentum * old + (1 - momentum) * batch


def sqrt(x: NDArray) -> NDArray:
    """Return the square root, as an array of the same front as x (`mx.nd` or `mx.np`)."""
    root: NDArray = np.sqrt(x) if isinstance(x, np.ndarray) else nd.sqrt(x)
    return root


def check_input(arrays: Sequence[NDArray], eps: float, momentum: float, least: int = 2) -> None:
    """Refuse arguments that batch normalization cannot use; the error names the argument.

    Raises: InputError if X is not an MXNet float array of rank 2 or 4, is empty, or has too few
    values per channel in training; if another array does not match X's channels, dtype or
    front; if eps or momentum is out of range (`check_constants`).
    arrays: X, gamma, beta, moving_mean, moving_var. least: the minimum number of values per channel in training; 1 for
    a share of a minibatch.
    """
    X, *others = arrays
    check_array(X)
    shape, dtype = X.shape, numpy.dtype(X.dtype)
    if len(shape) not in (2, 4):
        remedy = {1: 'add a batch axis', 3: 'flatten sequences to (m * steps, d), or add a batch axis to one image'}
        raise InputError(f'must be (m, d) or (m, c, h, w), got {shape}; {remedy.get(len(shape), "reshape it")}', 'X')
    if dtype.kind != 'f':
        raise InputError(f"must hold floats, got {dtype}; convert it by X.astype('float32')", 'X')
    if 0 in shape:
        raise InputError(f'must hold at least one example and one value, got {shape}; leave out empty batches', 'X')
    expected = (1, shape[1]) + (1,) * (len(shape) - 2)
    names = ('gamma', 'beta', 'moving_mean', 'moving_var')
    for name, array in zip(names, others):
        if type(array) is not type(X):
            raise InputError(
                f'must be an {_front(X)} array as X is, got {_front(array)}; '
                'use one front, mx.nd or mx.np, for all arrays',
                name,
            )
        if array.shape != expected:
            raise InputError(
                f'must be {expected} for X {shape}, got {array.shape}; one value per channel, '
                'in the shape that broadcasts over X',
                name,
            )
        if array.dtype != dtype:
            raise InputError(
                f"must be {dtype} as X is, got {numpy.dtype(array.dtype)}; "
                f"cast the layer by .cast('{dtype}') or the input by .astype",
                name,
            )
    check_constants(eps, momentum)
    if shape[0] * math.prod(shape[2:]) < least and autograd.is_training():
        raise InputError(
            f'must hold more than one value per channel in training, got {shape}; its variance is 0 and '
            'nothing can be learned: use a larger batch, or prediction mode',
            'X',
        )


def check_array(X: Any) -> None:
    """Refuse an X that is not an MXNet array."""
    if not isinstance(X, NDArray):
        raise InputError(
            f'must be an MXNet array, got {type(X).__module__}.{type(X).__name__}; '
            'wrap it by mx.nd.array(X) or mx.np.array(X)',
            'X',
        )


def check_constants(eps: float, momentum: float) -> None:
    """Refuse an eps that is not a finite number >= 0, or a momentum outside [0, 1]."""
    for name, value in (('eps', eps), ('momentum', momentum)):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise InputError(f'must be a number, got {value!r}; the usual ones are eps=1e-5, momentum=0.9', name)
    if not 0 <= eps < math.inf:
        raise InputError(f'must be a finite number >= 0, got {eps}; the usual one is 1e-5', 'eps')
    if not 0 <= momentum <= 1:
        raise InputError(f'must be between 0 and 1, got {momentum}; it weighs the old value, usually 0.9', 'momentum')


def _front(array: Any) -> str:
    return 'mx.np' if isinstance(array, np.ndarray) else 'mx.nd' if isinstance(array, NDArray) else type(array).__name__
