"""`sync_batch_norm`: statistics of a whole minibatch that several workers share."""

from __future__ import annotations

import functools
from typing import Any, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.ndarray import NDArray

from ..errors import InputError
from ..workers import Group, current
from .definition import blend, check_input
from .fused import fused_batch_norm, is_native
from .portable import in_nd_float32, pass_portable


def sync_batch_norm(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """`batch_norm` by the statistics of the whole minibatch; X is this worker's share of it.

    In training mode, forward exchanges (count, mean, variance) of the shares. Every worker merges them in float64, in
    the order of the ranks, so all get the same statistics, bit for bit. Backward exchanges the sums of dY and of
    dY * X_hat, so the gradient is exact: it flows through the shared statistics into every share. Shares may differ in
    size. A group of one gets the results of `fused_batch_norm`; prediction mode needs no group.

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
    return in_nd_float32(functools.partial(_normalize, group, eps=eps, momentum=momentum), arrays)


vars(sync_batch_norm)['merges_shares'] = True  # read by `train`


def _normalize(
    group: Group,
    X: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    eps: float,
    momentum: float,
) -> Tuple[NDArray, NDArray, NDArray]:
    function = _Normalize(group, eps)
    Y = function(X, gamma, beta)
    with autograd.pause():
        mean, var = (row.reshape(gamma.shape).astype(X.dtype) for row in function.statistics)
        return Y, blend(moving_mean.detach(), mean, momentum), blend(moving_var.detach(), var, momentum)


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


class _Normalize(autograd.Function):
    """Y of a share, by the statistics of the whole minibatch of n values per channel.

        dX = gamma / sqrt(var + eps) * (dY - sum(dY) / n - X_hat * sum(dY * X_hat) / n)

    The sums run over all workers. Those of this share alone are the gradients of beta and gamma.
    """

    def __init__(self, group: Group, eps: float) -> None:
        super().__init__()
        self.group, self.eps = group, eps

    def run(self, of: str, *arrays: Any) -> Any:
        function = nd.gluon_bn_pass if is_native(self.X) else pass_portable
        return function(self.X, *arrays, of=of, eps=self.eps)

    def forward(self, X: NDArray, gamma: NDArray, beta: NDArray) -> Any:
        self.X, self.gamma = X, gamma.copy()
        share = self.run('statistics').asnumpy().ravel()
        self.n, mean, var = merge_statistics(self.group.gather(numpy.r_[X.size // X.shape[1], share]))
        if self.n == 1:
            raise InputError(
                'must hold more than one value per channel over all workers in training, got one; '
                'its variance is 0 and nothing can be learned: use a larger batch, or prediction mode',
                'X',
            )
        self.statistics = self.array([mean, var])
        return self.run('Y', self.statistics, gamma, beta)

    def backward(self, dY: NDArray) -> Tuple[NDArray, NDArray, NDArray]:
        # MXNet runs this in a thread of its own. Do not read a parameter here: it may be waiting for this gradient.
        sums = self.run('sums', self.statistics, dY)
        given = numpy.r_[0.0, sums.asnumpy().ravel()]  # as many values as forward: see Group.gather
        means = self.array(self.group.gather(given).sum(axis=0)[1:].reshape((2, -1)) / self.n)
        dbeta, dgamma = (row.reshape(self.gamma.shape).astype(dY.dtype) for row in sums)
        return self.run('dX', self.statistics, dY, self.gamma, means), dgamma, dbeta

    def array(self, values: Any) -> Any:
        return nd.array(numpy.array(values), ctx=self.X.context, dtype='float64')
