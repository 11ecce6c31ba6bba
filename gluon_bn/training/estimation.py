"""Statistics for prediction, estimated once over a whole set with the weights fixed."""
from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator, List, Tuple

import numpy
from mxnet import autograd
from mxnet.gluon import Block, HybridBlock, Parameter, nn
from mxnet.gluon.contrib.nn import SyncBatchNorm

from ..norm import BatchNorm

LAYERS = (BatchNorm, nn.BatchNorm, nn.BatchNormReLU, SyncBatchNorm)


def estimate_statistics(net: Block, data_iter: Iterable[Tuple[Any, Any]]) -> None:
    """Replace the moving statistics of every batch normalization layer by those of a whole set.

        mean = E[mean_b],   var = E[var_b] + Var[mean_b]     over the minibatches b, by size

    The net runs in training mode over data_iter once, so each layer sees what it sees in
    training, and no weight changes. Serves this package's `BatchNorm` and Gluon's layers,
    BatchNormReLU and SyncBatchNorm too, with channels on any axis, on any number of devices,
    hybridized or not; sums are float64. A layer with use_global_stats=True keeps its own.
    If anything stops it half way, the statistics stay as they were.

    Raises: ValueError if the net has no such layer, or one that cannot be served; if
    data_iter has no minibatch; or if X, or a statistic, is not finite.
    Source: Ioffe and Szegedy (2015), Algorithm 2, with the biased variance.
    """
    layers = find_layers(net)
    moments = {layer: _Moments() for layer in layers}
    parameters = [parameter for layer in layers for parameter in statistics_of(layer)]
    device = parameters[0].list_ctx()[0]
    before = [[array.copy() for array in parameter.list_data()] for parameter in parameters]
    with eager(net):
        hooks = [layer.register_forward_pre_hook(lambda layer, inputs: moments[layer].add(inputs[0], axis_of(layer)))
                 for layer in layers]
        try:
            with autograd.train_mode():
                for number, (X, _) in enumerate(data_iter, 1):
                    if not numpy.isfinite(X.asnumpy()).all():
                        raise ValueError(f'X of minibatch {number} must be finite, but holds NaN or infinity; look at '
                                         'the data')
                    net(X.as_in_context(device))
        finally:  # this package's layer has moved its statistics in training mode
            for parameter, arrays in zip(parameters, before):
                for array, old in zip(parameter.list_data(), arrays):
                    old.copyto(array)
            for hook in hooks:
                hook.detach()
    estimates = [estimate for layer in layers for estimate in moments[layer].result()]
    for parameter, estimate in zip(parameters, estimates):
        if not numpy.isfinite(estimate.astype(parameter.dtype)).all():
            raise ValueError(f'{parameter.name} must be finite, got NaN or infinity: what reaches its layer is too '
                             'large, or a parameter before it is not finite; look at the parameters')
    for parameter, estimate in zip(parameters, estimates):
        for array in parameter.list_data():
            array[:] = estimate.reshape(parameter.shape)


def find_layers(net: Block) -> List[Block]:
    """The layers whose statistics are to be estimated; refuses by name what cannot be served."""
    layers: List[Block] = []
    for block in _blocks(net):
        constants = getattr(block, '_kwargs', {})  # of Gluon's layers: what they pass to the operator
        if isinstance(block, SyncBatchNorm) and constants['ndev'] > 1:
            raise ValueError(f'{block.name} is a SyncBatchNorm of {constants["ndev"]} devices, and would wait for the '
                             'others: the estimate runs on one; make it with num_devices=1 and load the parameters')
        if isinstance(block, LAYERS):
            layers += [] if constants.get('use_global_stats') else [block]
        elif hasattr(block, 'moving_mean') or hasattr(block, 'running_mean'):
            raise ValueError(f'{block.name} is a {type(block).__name__}, whose moving statistics cannot be set from '
                             "outside; use gluon_bn.BatchNorm, with your function as its fn, or Gluon's layer")
    if not layers:
        raise ValueError("net must hold a BatchNorm layer, got none; build one with it: lenet('scratch')")
    return layers


def axis_of(layer: Block) -> int:
    """The axis of the channels of a layer's input."""
    return 1 if isinstance(layer, BatchNorm) else layer._kwargs.get('axis', 1)


def statistics_of(layer: Block) -> Tuple[Parameter, Parameter]:
    """The two parameters that hold the moving mean and variance of a layer, ours or Gluon's."""
    if isinstance(layer, BatchNorm):
        return layer.moving_mean, layer.moving_var
    return layer.running_mean, layer.running_var


class _Moments:
    """Mean and sum of squared deviations by channel, of all that was added."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    @numpy.errstate(invalid='ignore')  # infinity - infinity; the estimate is refused
    def add(self, X: Any, axis: int) -> None:
        X = numpy.moveaxis(X.asnumpy(), axis, 0).reshape(X.shape[axis], -1)  # (channels, values)
        count, mean = X.shape[1], X.mean(axis=1, dtype='float64')
        squares = numpy.square(X - mean[:, None]).sum(axis=1)
        # Merge the two sets as Chan, Golub and LeVeque (1979) do: nothing cancels.
        total, shift = self.count + count, mean - self.mean
        self.squares += squares + shift ** 2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total

    def result(self) -> Tuple[Any, Any]:
        if not self.count:
            raise ValueError('data_iter must give minibatches (X, y) that reach every BatchNorm layer, got none; '
                             'an iterator that is used up needs to be made anew')
        return self.mean, self.squares / self.count


def _blocks(net: Block) -> List[Block]:
    found: List[Block] = []
    net.apply(found.append)
    return found


@contextlib.contextmanager
def eager(net: Block) -> Iterator[None]:
    """Run net without compiled graphs, which would not call the hooks of the layers inside."""
    hybrid = [(block, block._active, dict(block._flags)) for block in _blocks(net) if isinstance(block, HybridBlock)]
    for block, active, _ in hybrid:
        if active:
            block.hybridize(False)
    try:
        yield
    finally:
        if any(active for _, active, _ in hybrid):
            for block, active, flags in reversed(hybrid):  # parents before their children, whom they overrule
                block.hybridize(active, **flags)
