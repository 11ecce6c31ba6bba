"""`sync_batch_norm`: statistics of a whole minibatch that several workers share."""

from __future__ import annotations

import functools
from typing import Any, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.ndarray import NDArray

from ..errors import InputError
from ..workers import Group, current
from .definition import check_input
from .fused import fused_batch_norm
from .portable import batch_norm_portable


def sync_batch_norm(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """`batch_norm` with the statistics of the whole minibatch; X is this worker's share of it.

    In training mode, forward exchanges (count, mean, variance) of the shares. Every worker merges them in float64, in
    the order of the ranks, so all get the same statistics, bit for bit. Backward exchanges their gradients, so the
    gradient is exact: it flows through the shared statistics into every share. Shares may differ in size. A group of
    one gets the results of `fused_batch_norm`; a larger group uses the portable path. Prediction mode needs no group.

    The group is the one that this thread has joined: `train --workers` joins one, and `workers.Threads` forms one.
    The gradients of gamma and beta are this share's part: sum them over the workers, like those of other parameters.

    Shapes, Units, Source: as for `batch_norm`. float16 is computed in float32.
    Raises: InputError as `batch_norm`; in training, also without a group, or if all shares together have only one
    value per channel.
    """
    group = current()
    if group is None and autograd.is_training():
        raise InputError(
            'sync_batch_norm needs workers whose statistics it can merge, got none; train with '
            '`python -m gluon_bn train --norm sync --workers 2`, start threads with '
            'gluon_bn.workers.Threads.run, or use fused_batch_norm'
        )
    arrays = (X, gamma, beta, moving_mean, moving_var)
    if group is None or group.size == 1 or not autograd.is_training():
        return fused_batch_norm(*arrays, eps, momentum)
    try:
        check_input(arrays, eps, momentum, least=1)
    except InputError as error:
        if isinstance(X, NDArray) and 0 in X.shape:
            where = f'; this is the share of worker {group.rank} of {group.size}, and every worker needs an example'
            raise InputError(f'{error.text}{where}', error.argument) from None
        raise
    return batch_norm_portable(*arrays, eps, momentum, functools.partial(_merge_shares, group))


vars(sync_batch_norm)['merges_shares'] = True  # read by `train`


def _merge_shares(group: Group, n: int, K: NDArray, mean: NDArray, var: NDArray) -> Tuple[NDArray, NDArray, NDArray]:
    merge = _Merge(group, n, K)
    mean, var = merge(mean, var)
    return merge.mean, mean, var


def merge_statistics(shares: Any) -> Tuple[float, Any, Any]:
    """Merge (count, mean, variance) of shares into those of the whole.

        mean = sum(n_i * mean_i) / n,    var = sum(n_i * (var_i + (mean_i - mean)^2)) / n

    It adds one share after the other, by the difference of the means, to avoid cancellation.

    Shapes: shares (k, 1 + 2c) in float64: a count, c means and c variances each. Returns a count, (c,) and (c,).
    Source: Chan, Golub and LeVeque (1983).
    """
    c = (shares.shape[1] - 1) // 2
    n, mean, M2 = 0.0, numpy.zeros(c), numpy.zeros(c)  # M2: the sum of squared deviations
    for share in shares:
        m, delta = share[0], share[1 : c + 1] - mean
        mean = mean + delta * (m / (n + m))
        M2 = M2 + m * share[c + 1 :] + delta**2 * (n * m / (n + m))
        n += m
    return n, mean, M2 / n


class _Merge(autograd.Function):
    """(mean, var) of a share to those of the whole minibatch; means are relative to K. Shapes: (1, c).

    Backward, with the gradients summed over the workers, because each one's output depends on the whole:
        d mean_i = n_i / n * (d mean + 2 * (mean_i - mean) * d var),    d var_i = n_i / n * d var
    """

    def __init__(self, group: Group, n: int, K: NDArray) -> None:
        super().__init__()
        self.group, self.n, self.K = group, n, K

    def forward(self, mean: NDArray, var: NDArray) -> Tuple[NDArray, NDArray]:
        K, mean64, var64 = (array.asnumpy()[0].astype('float64') for array in (self.K, mean, var))
        count, whole_mean, whole_var = merge_statistics(self.group.gather(numpy.r_[self.n, K + mean64, var64]))
        if count == 1:
            raise InputError(
                'must hold more than one value per channel over all workers in training, got one; '
                'its variance is 0 and nothing can be learned: use a larger batch, or prediction mode',
                'X',
            )
        self.part, self.offset = self.n / count, K + mean64 - whole_mean
        self.mean = _like(mean, whole_mean)  # K differs between workers, so K + (mean - K) would be rounded differently
        return _like(mean, whole_mean - K), _like(var, whole_var)

    def backward(self, dmean: NDArray, dvar: NDArray) -> Tuple[NDArray, NDArray]:
        # MXNet runs this in a thread of its own. Do not read a parameter here: it may be waiting for this gradient.
        given = numpy.r_[0.0, dmean.asnumpy()[0], dvar.asnumpy()[0]]  # as many values as forward: see Group.gather
        dmean64, dvar64 = numpy.split(self.group.gather(given).sum(axis=0)[1:], 2)
        return _like(dmean, self.part * (dmean64 + 2 * self.offset * dvar64)), _like(dvar, self.part * dvar64)


def _like(array: NDArray, values: Any) -> NDArray:
    return nd.array(values[None], ctx=array.context, dtype=array.dtype)
