"""Inside LeNet: the shape of each unit's distribution, saturation, gradients and the size of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..training import Epoch, seed_everything, train
from . import Array
from .modes import Data, statistics_kept
from .rates import PLACES, initialize

WEIGHTS = (*PLACES, 'output')


@dataclass
class Layer:
    """One layer of LeNet on a minibatch in training mode; arrays (m, units) or (m, c, h, w)."""

    X: Array  # the layer's input: pixels, or the pooled activations of the layer below
    H: Array  # X W + b
    Z: Array  # the activation's input: H, or batch_norm(H)
    A: Array  # the activation
    dA: Array  # the gradient of the mean loss


def inspect_minibatch(net: nn.Sequential, X: NDArray, y: NDArray) -> Tuple[Dict[str, Layer], Dict[str, float]]:
    """Run one minibatch forward and backward through LeNet; only the gradients change.

    Returns: ({place: Layer}, {layer: std(dL/dW) / std(W)}).
    """
    layers: List[Tuple[NDArray, ...]] = []
    leaves: List[NDArray] = []
    affine: List[Tuple[gluon.Block, NDArray, NDArray]] = []
    with statistics_kept(net), autograd.record():
        for block in net:
            before, X = X, block(X)
            if isinstance(block, (nn.Conv2D, nn.Dense)):
                affine.append((block, before, X))
            if isinstance(block, nn.Activation):
                leaf = nd.zeros_like(X)  # added, so that its gradient is dL/dA
                leaf.attach_grad()
                X = X + leaf
                layers.append((*affine[-1][1:], before, X))
                leaves.append(leaf)
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(X, y).mean()
    loss.backward()
    arrays = [[array.asnumpy() for array in (*layer, leaf.grad)] for layer, leaf in zip(layers, leaves)]
    ratios = [block.weight.grad().asnumpy().std() / block.weight.data().asnumpy().std() for block, _, _ in affine]
    return {place: Layer(*five) for place, five in zip(PLACES, arrays)}, dict(zip(WEIGHTS, ratios))


def standardized_units(values: Array) -> Array:
    """Each unit or channel as a row of mean 0 and variance 1, without those that are constant over the minibatch."""
    units = numpy.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype('float64')
    units = units[units.std(axis=1) > 1e-6]
    Z: Array = (units - units.mean(axis=1, keepdims=True)) / units.std(axis=1, keepdims=True)
    return Z


def shape_of(values: Array) -> Tuple[Array, Array]:
    """Skewness and excess kurtosis of each unit or channel, 0 and 0 for a Gaussian: two arrays.

    Units that are constant over the minibatch are left out.
    """
    Z = standardized_units(values)
    return (Z**3).mean(axis=1), (Z**4).mean(axis=1) - 3


def typical_shapes(layers: Dict[str, Layer]) -> Dict[str, Dict[str, Tuple[float, ...]]]:
    """{place: {array: (skewness, excess kurtosis)}}, each the median of the absolute value over the units.

    array: 'X', the layer's input; 'H', before the activation; 'A', after it.
    """
    return {
        place: {
            name: tuple(float(numpy.median(numpy.abs(values))) for values in shape_of(getattr(layer, name)))
            for name in ('X', 'H', 'A')
        }
        for place, layer in layers.items()
    }


def shapes_over(runs: Sequence[TrainingTrace]) -> Dict[Tuple[str, str, str], Array]:
    """The moments of the inputs X and of H = X W + b in each layer but the lowest, for each seed.

    Returns: {(moment, 'before' or 'after' training, 'X' or 'H'): (seeds, 3)}, the median of |moment| over the units.
    """
    found = {}
    for when in ('before', 'after'):
        shapes = [typical_shapes(getattr(trace, when)) for trace in runs]
        for i, moment in enumerate(('skewness', 'kurtosis')):
            for name in 'XH':
                found[moment, when, name] = numpy.array(
                    [[shape[place][name][i] for place in list(PLACES)[1:]] for shape in shapes]
                )
    return found


def saturated(A: Array, margin: float = 0.05) -> float:
    """The share of sigmoids within `margin` of 0 or 1, where their slope is below a fifth of its greatest value."""
    return float(((A < margin) | (A > 1 - margin)).mean())


@dataclass
class TrainingTrace:
    """One training, measured on a fixed minibatch before it and after each epoch."""

    losses: List[float]  # (num_epochs,)
    saturation: Array  # (num_epochs + 1, 4), by place
    steps: Array  # (num_epochs + 1, 5), the size of the next step: std(lr dL/dW) / std(W), by layer
    before: Dict[str, Layer]  # by place
    after: Dict[str, Layer]


def watch(net: nn.Sequential, seed: int, lr: float, data: Data, num_epochs: int, m: int = 256) -> TrainingTrace:
    """Train a net from this seed; before it and after each epoch, inspect it with the first m test examples."""
    seed_everything(seed)
    (train_iter, test_iter), inspected = data, []
    X, y = test_iter.X[:m], test_iter.y[:m]
    initialize(net, X)

    def observe(epoch: Optional[Epoch] = None) -> None:
        inspected.append(inspect_minibatch(net, X, y))

    observe()
    history = train(
        net, train_iter, test_iter, num_epochs, lr, initialize=False, plot=False, progress=False, on_epoch=observe
    )
    losses = [epoch.loss for epoch in history]
    saturation = numpy.array([[saturated(layer.A) for layer in layers.values()] for layers, _ in inspected])
    steps = numpy.array([[lr * ratio for ratio in ratios.values()] for _, ratios in inspected])
    return TrainingTrace(losses, saturation, steps, inspected[0][0], inspected[-1][0])
