"""Statistics for prediction, estimated in one pass over a data set with fixed weights."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, List, Tuple

import numpy
from mxnet import autograd
from mxnet.gluon import Block, Parameter
from mxnet.gluon.contrib.nn import SyncBatchNorm
from mxnet.ndarray import NDArray

from ..errors import InputError
from .blocks import axis_of, blocks_of, inputs_seen, norm_layers, statistic_names
from .inputs import check_block, check_net, pairs, run, to_devices


def estimate_statistics(net: Block, data_iter: Iterable[Tuple[Any, Any]]) -> None:
    """Replace the moving statistics of every batch normalization layer with those of a whole data set.

        mean = E[mean_b],   var = E[var_b] + Var[mean_b]     over the minibatches b, by size

    The net runs over data_iter once, in training mode, so each layer sees the same inputs as
    in training; no weight changes. Supported are this package's `BatchNorm`; Gluon's layers,
    including BatchNormReLU and SyncBatchNorm, with channels on any axis; and custom layers with
    moving_mean and moving_var, as parameters or plain arrays. The net may be on several devices
    and hybridized; sums are float64. A layer with use_global_stats=True keeps its statistics.
    After an error or interruption, the statistics are unchanged.

    Raises: InputError if the net has no such layer, or one that is not supported; if
    data_iter has no minibatch; or if X or a statistic is not finite.
    Source: Ioffe and Szegedy (2015), Algorithm 2, with two differences: the paper multiplies E[var_b] by m/(m-1),
    where m is the number of values in a minibatch, and omits Var[mean_b]. For independent values the two estimates
    have the same expectation up to a factor of 1 - 1/(number of values). Only this one counts the spread of the means.
    """
    layers = find_layers(net)
    check_net(net, [])
    device = next(iter(net.collect_params().values())).list_ctx()[0]
    minibatches = pairs('data_iter', data_iter, labelled=False)
    first = next(minibatches)
    run(net, first[0][:2], device)  # Gluon now knows the sizes
    statistics = [_Statistic(layer, name) for layer in layers for name in statistic_names(layer)]
    moments = {layer: _Moments() for layer in layers}
    before = [[array.copy() for array in statistic.arrays()] for statistic in statistics]
    with inputs_seen(net, {layer: layer for layer in layers}, lambda layer, X: moments[layer].add(X, axis_of(layer))):
        try:
            with autograd.train_mode():
                for number, (X, _) in enumerate(itertools.chain([first], minibatches), 1):
                    (X,) = to_devices(net, X, [device])
                    if not numpy.isfinite(X.asnumpy()).all():
                        what = f'of minibatch {number} must be finite, but holds NaN or infinity'
                        raise InputError(f'{what}; look at the data', 'X')
                    net(X)
        finally:  # undo the updates that layers made in training mode
            for statistic, arrays in zip(statistics, before):
                statistic.set(arrays)
    estimates = [estimate for layer in layers for estimate in moments[layer].result()]
    for statistic, (old, *_), estimate in zip(statistics, before, estimates):
        if estimate.size != old.size:
            what = f'must hold one value for each of {estimate.size} channels (axis 1 of X), got shape {old.shape}'
            raise InputError(f'{what}; its layer is not supported', str(statistic))
        with numpy.errstate(over='ignore'):  # later versions of NumPy warn
            finite = numpy.isfinite(estimate.astype(old.dtype)).all()
        if not finite:
            why = 'the input of its layer is too large, or an earlier parameter is not finite'
            raise InputError(f'must be finite, got NaN or infinity: {why}; look at the parameters', str(statistic))
    for statistic, arrays, estimate in zip(statistics, before, estimates):
        statistic.set([estimate.reshape(arrays[0].shape)] * len(arrays))


def find_layers(net: Block) -> List[Block]:
    """Return the layers whose statistics to estimate. Raises: InputError if one is not supported, or there is none."""
    check_block(net)
    for block in blocks_of(net):
        if isinstance(block, SyncBatchNorm) and block._kwargs['ndev'] > 1:
            why = f'{block.name} is a SyncBatchNorm of {block._kwargs["ndev"]} devices, and would wait for the others'
            remedy = 'make it with num_devices=1 and load the parameters'
            raise InputError(f'must run on one device, but {why}; {remedy}', 'net')
        if not statistic_names(block) and (hasattr(block, 'moving_mean') or hasattr(block, 'running_mean')):
            expected = 'must keep its moving statistics in parameters or MXNet arrays named moving_mean and moving_var'
            raise InputError(f'{expected}, but {block.name}, a {type(block).__name__}, does not', 'net')
    layers = norm_layers(net)
    if not layers:
        raise InputError("must hold a BatchNorm layer, got none; build one with it: lenet('scratch')", 'net')
    return layers


class _Statistic:
    """A moving mean or variance: a parameter, or a plain array of a custom layer."""

    def __init__(self, layer: Block, name: str) -> None:
        self.layer, self.name = layer, name

    def __str__(self) -> str:
        value = getattr(self.layer, self.name)
        return value.name if isinstance(value, Parameter) else f'{self.layer.name}.{self.name}'

    def arrays(self) -> List[NDArray]:
        """Return its arrays, one per device."""
        value = getattr(self.layer, self.name)
        return value.list_data() if isinstance(value, Parameter) else [value]

    def set(self, values: List[Any]) -> None:
        """Set each of its arrays to a value of MXNet or NumPy."""
        if not isinstance(getattr(self.layer, self.name), Parameter):  # the current array may be part of a graph
            setattr(self.layer, self.name, self.arrays()[0].zeros_like())
        for array, value in zip(self.arrays(), values):
            array[:] = value


class _Moments:
    """Running mean and sum of squared deviations per channel."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def add(self, X: Any, axis: int) -> None:
        X = numpy.moveaxis(X.asnumpy(), axis, 0).astype('float64', 'C').reshape(X.shape[axis], -1)  # (channels, values)
        with numpy.errstate(invalid='ignore'):  # infinity - infinity; the estimate is refused
            count, mean = X.shape[1], X.mean(axis=1)
            X -= mean[:, None]
            squares = numpy.einsum('ij,ij->i', X, X)
            # Merge the two sets like Chan, Golub and LeVeque (1979): nothing cancels.
            total, shift = self.count + count, mean - self.mean
            self.squares += squares + shift**2 * self.count * count / total
            self.mean += shift * count / total
        self.count = total

    def result(self) -> Tuple[Any, Any]:
        if not self.count:
            raise InputError('must use each of its BatchNorm layers in forward, but one got no input', 'net')
        return self.mean, self.squares / self.count
