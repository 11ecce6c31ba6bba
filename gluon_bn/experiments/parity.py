"""Our layer and Gluon's, side by side over training steps; and both beside float64."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from mxnet.ndarray import NDArray

from ..bench.accuracy import errors, make_arrays
from ..norm import BatchNorm, batch_norm
from ..training import statistics_of
from . import Array


def compare_with_gluon(shape: Tuple[int, ...], steps: int = 5,
                       fn: Callable[..., Any] = batch_norm) -> Dict[str, float]:
    """Train one layer of each kind on the same minibatches and upstream gradients.

    Gluon's variance starts at 1, so ours does too. The moving statistics are read after the
    backward pass, because that is when Gluon's move.

    Returns: {result: largest error over the steps, in units of the largest value}.
    """
    pair = [BatchNorm(shape[1], len(shape), fn=fn, moving_var_initializer='ones'), nn.BatchNorm(in_channels=shape[1])]
    for layer in pair:
        layer.initialize()
    trainers = [gluon.Trainer(layer.collect_params(), 'sgd', {'learning_rate': 0.1}) for layer in pair]
    found: Dict[str, float] = {}
    for step in range(steps):
        random = numpy.random.RandomState(step)
        X, dY = random.randn(*shape) * 2 + 1, nd.array(random.randn(*shape))
        ours, theirs = (_one_step(layer, trainer, nd.array(X), dY) for layer, trainer in zip(pair, trainers))
        for name in ours:
            found[name] = max(found.get(name, 0.0), abs(ours[name] - theirs[name]).max() / abs(theirs[name]).max())
    return found


def _one_step(layer: gluon.Block, trainer: gluon.Trainer, X: NDArray, dY: NDArray) -> Dict[str, Array]:
    X.attach_grad()
    with autograd.record():
        Y = layer(X)
    Y.backward(dY)
    mean, var = statistics_of(layer)
    arrays = {'Y': Y, 'dX': X.grad, 'dgamma': layer.gamma.grad(), 'dbeta': layer.beta.grad(),
              'moving mean': mean.data(), 'moving var': var.data()}
    results = {name: array.asnumpy().ravel() for name, array in arrays.items()}
    trainer.step(X.shape[0])
    return results


def errors_by_mean(makers: Dict[str, Callable[[int], gluon.Block]], means: Sequence[float],
                   shape: Tuple[int, ...] = (256, 6, 24, 24)) -> Dict[str, List[float]]:
    """Errors of Y against float64, |error| / |exact| in Euclidean norms, for inputs of unit variance around each mean.

    makers: {name: function num_features -> layer}. Returns: {name: [error for each mean]}.
    """
    found: Dict[str, List[float]] = {name: [] for name in makers}
    for mean in means:
        arrays = make_arrays(shape, mean)
        X, dY = nd.array(arrays.X, dtype='float32'), nd.array(arrays.dY, dtype='float32')
        X.attach_grad()
        for name, make in makers.items():
            layer = make(shape[1])
            layer.initialize()
            for parameter, value in ((layer.gamma, arrays.gamma), (layer.beta, arrays.beta)):
                parameter.set_data(nd.array(value).reshape(parameter.shape))
            with autograd.record():
                Y = layer(X)
            Y.backward(dY)
            results = (array.asnumpy() for array in (Y, X.grad, layer.gamma.grad(), layer.beta.grad()))
            found[name].append(errors(arrays, *results)['Y'])
    return found
