"""Our layer and Gluon's: where the time of the chapter's maths goes, and whether the results are the same."""

from __future__ import annotations

import functools
import json
import math
import statistics
import time
from collections import Counter
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, TypeVar

import numpy
from mxnet import autograd, gluon, nd, sym
from mxnet.gluon import Block, nn
from mxnet.ndarray import NDArray

from ..bench.accuracy import EPS, make_arrays, reference
from ..norm import BatchNorm, batch_norm, batch_norm_portable, fused_batch_norm
from ..training import statistics_of
from . import Array

Name = TypeVar('Name')


class Compiled(nn.HybridBlock):
    """The operators of `batch_norm` in training, for (m, d) or (m, c, h, w), as one graph that MXNet compiles."""

    def __init__(self, num_features: int, num_dims: int = 4) -> None:
        super().__init__()
        shape = (1, num_features) + (1,) * (num_dims - 2)
        self.axes = (0,) if num_dims == 2 else (0, 2, 3)
        self.gamma = self.params.get('gamma', shape=shape, init='ones')
        self.beta = self.params.get('beta', shape=shape, init='zeros')
        self.hybridize(static_alloc=True, static_shape=True)

    def hybrid_forward(self, F: Any, X: Any, gamma: Any, beta: Any) -> Any:
        mean = F.mean(X, axis=self.axes, keepdims=True)
        var = F.mean(F.broadcast_sub(X, mean) ** 2, axis=self.axes, keepdims=True)
        X_hat = F.broadcast_div(F.broadcast_sub(X, mean), F.sqrt(var + EPS))
        return F.broadcast_add(F.broadcast_mul(gamma, X_hat), beta)


def layers(num_features: int) -> Dict[str, Block]:
    """Layers for (m, c, h, w) that compute the same, by name."""
    found: Dict[str, Block] = {
        'batch_norm, operator by operator': BatchNorm(num_features, 4),
        'its operators, compiled into one graph': Compiled(num_features),
        'fused_batch_norm, portable': BatchNorm(num_features, 4, fn=batch_norm_portable),
        'fused_batch_norm, as chosen here': BatchNorm(num_features, 4, fn=fused_batch_norm),
        'gluon.nn.BatchNorm': nn.BatchNorm(in_channels=num_features),
    }
    for layer in found.values():
        layer.initialize()
    return found


def operators(shape: Tuple[int, ...]) -> Dict[str, Counter[str]]:
    """How often each operator occurs in the forward pass of each layer that is made of operators."""
    X, found = nd.random.normal(shape=shape), {}
    X.attach_grad()
    for name, layer in list(layers(shape[1]).items())[:3]:
        if isinstance(layer, Compiled):
            graph = layer(sym.var('X'))
        else:
            with autograd.record():
                graph = autograd.get_symbol(layer(X))
        nodes = json.loads(graph.tojson())['nodes']
        found[name] = Counter(node['op'] for node in nodes if node['op'] != 'null')  # null: a variable
    return found


def time_layers(shape: Tuple[int, ...], rounds: int = 7) -> Dict[str, float]:
    """Median milliseconds of forward + backward of each of `layers`."""
    return _time_steps(layers(shape[1]), shape, rounds)


def gain_from_compiling(shapes: Sequence[Tuple[int, ...]]) -> List[Tuple[Tuple[int, ...], float, float, float]]:
    """The same operators run one by one and compiled: [(shape, milliseconds, compiled milliseconds, their ratio)].

    Short times vary more, so small shapes take more rounds.
    """
    rows = []
    for shape in shapes:
        eager, compiled = pair = [Compiled(shape[1], len(shape)) for _ in range(2)]
        eager.hybridize(False)
        for layer in pair:
            layer.initialize()
        rounds = min(200, max(7, 10_000_000 // math.prod(shape)))
        times = _time_steps({'eager': eager, 'compiled': compiled}, shape, rounds)
        rows.append((shape, times['eager'], times['compiled'], times['eager'] / times['compiled']))
    return rows


def _time_steps(layers: Dict[str, Block], shape: Tuple[int, ...], rounds: int) -> Dict[str, float]:
    """Median milliseconds of forward + backward of each layer."""
    X, dY = nd.random.normal(shape=shape), nd.random.normal(shape=shape)
    X.attach_grad()
    return time_in_turns(
        {name: functools.partial(forward_and_backward, layer, X, dY) for name, layer in layers.items()}, rounds
    )


def forward_and_backward(layer: Callable[[NDArray], NDArray], X: NDArray, dY: NDArray) -> NDArray:
    """Y of a layer, after the backward pass from the upstream gradient dY."""
    with autograd.record():
        Y = layer(X)
    Y.backward(dY)
    return Y


def time_in_turns(functions: Mapping[Name, Callable[[], Any]], rounds: int) -> Dict[Name, float]:
    """Median milliseconds of each function; they take turns, so that a busy moment slows all of them."""
    turns: Dict[Name, List[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            nd.waitall()
            start = time.perf_counter()
            function()
            nd.waitall()
            if i:  # the first round warms up
                turns[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(times) for name, times in turns.items()}


def compare_with_gluon(shape: Tuple[int, ...], steps: int = 5, fn: Callable[..., Any] = batch_norm) -> Dict[str, float]:
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


def _one_step(layer: Block, trainer: gluon.Trainer, X: NDArray, dY: NDArray) -> Dict[str, Array]:
    X.attach_grad()
    Y = forward_and_backward(layer, X, dY)
    mean, var = statistics_of(layer)
    arrays = {
        'Y': Y,
        'dX': X.grad,
        'dgamma': layer.gamma.grad(),
        'dbeta': layer.beta.grad(),
        'moving mean': mean.data(),
        'moving var': var.data(),
    }
    results = {name: array.asnumpy().ravel() for name, array in arrays.items()}
    trainer.step(X.shape[0])
    return results


def errors_by_mean(
    makers: Dict[str, Callable[[int], Block]], means: Sequence[float], shape: Tuple[int, ...] = (256, 6, 24, 24)
) -> Dict[str, List[float]]:
    """Errors of X_hat against float64, |error| / |exact| in Euclidean norms, for X of unit variance around each mean.

    makers: {name: function num_features -> layer}. Returns: {name: [error for each mean]}.
    """
    found: Dict[str, List[float]] = {name: [] for name in makers}
    for mean in means:
        arrays = make_arrays(shape, mean)
        exact = reference(arrays._replace(gamma=numpy.ones(shape[1]), beta=numpy.zeros(shape[1])))['Y']
        for name, make in makers.items():
            layer = make(shape[1])
            layer.initialize()
            with autograd.train_mode():
                X_hat = layer(nd.array(arrays.X)).asnumpy()
            found[name].append(float(numpy.linalg.norm(X_hat - exact) / numpy.linalg.norm(exact)))
    return found
