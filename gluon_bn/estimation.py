"""Statistics for prediction, estimated once over a whole set with the weights fixed."""
from __future__ import annotations

import contextlib

import numpy
from mxnet import autograd
from mxnet.gluon import HybridBlock, nn

from .layer import BatchNorm


def estimate_statistics(net, data_iter):
    """Replace the moving statistics of every batch normalization layer by those of a whole set.

        mean = E[mean_b],   var = E[var_b] + Var[mean_b]     over the minibatches b, by size

    The net runs in training mode over data_iter once, so each layer sees what it sees in
    training, and no weight changes. Serves this package's `BatchNorm` and Gluon's, on any
    number of devices, hybridized or not; sums are float64. If anything stops it half way,
    the statistics stay as they were.

    Raises: ValueError if the net has no such layer, or data_iter no minibatch.
    Source: Ioffe and Szegedy (2015), Algorithm 2, with the biased variance.
    """
    layers = [block for block in _blocks(net) if isinstance(block, (BatchNorm, nn.BatchNorm))]
    if not layers:
        raise ValueError("net must hold a BatchNorm layer, got none; build one with it: lenet('scratch')")
    moments = {layer: _Moments() for layer in layers}
    parameters = [parameter for layer in layers for parameter in statistics_of(layer)]
    device = parameters[0].list_ctx()[0]
    before = [[array.copy() for array in parameter.list_data()] for parameter in parameters]
    with _eager(net):
        hooks = [layer.register_forward_pre_hook(lambda layer, inputs: moments[layer].add(inputs[0]))
                 for layer in layers]
        try:
            with autograd.train_mode():
                for X, _ in data_iter:
                    net(X.as_in_context(device))
        finally:  # this package's layer has moved its statistics in training mode
            for parameter, arrays in zip(parameters, before):
                for array, old in zip(parameter.list_data(), arrays):
                    old.copyto(array)
            for hook in hooks:
                hook.detach()
    estimates = [estimate for layer in layers for estimate in moments[layer].result()]
    for parameter, estimate in zip(parameters, estimates):
        for array in parameter.list_data():
            array[:] = estimate.reshape(parameter.shape)


def statistics_of(layer):
    """The two parameters that hold the moving mean and variance of a layer, ours or Gluon's."""
    if isinstance(layer, BatchNorm):
        return layer.moving_mean, layer.moving_var
    return layer.running_mean, layer.running_var


class _Moments:
    """Mean and sum of squared deviations by channel, of all that was added."""

    def __init__(self):
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, X):
        X = numpy.moveaxis(X.asnumpy(), 1, 0).reshape(X.shape[1], -1)  # (channels, values)
        count, mean = X.shape[1], X.mean(axis=1, dtype='float64')
        squares = numpy.square(X - mean[:, None]).sum(axis=1)
        # Merge the two sets as Chan, Golub and LeVeque (1979) do: nothing cancels.
        total, shift = self.count + count, mean - self.mean
        self.squares += squares + shift ** 2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total

    def result(self):
        if not self.count:
            raise ValueError('data_iter must give minibatches (X, y) that reach every BatchNorm layer, got none; '
                             'an iterator that is used up needs to be made anew')
        return self.mean, self.squares / self.count


def _blocks(net):
    found = []
    net.apply(found.append)
    return found


@contextlib.contextmanager
def _eager(net):
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
