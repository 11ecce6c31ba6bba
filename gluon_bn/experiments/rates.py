"""How far the learning rate can go, and which part of batch normalization helps: variants of LeNet, and their runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

import numpy
from mxnet import autograd, init, nd
from mxnet.gluon import Block, nn
from mxnet.gluon.contrib.nn import Identity
from mxnet.ndarray import NDArray

from ..data import Minibatches
from ..errors import InputError
from ..norm import BatchNorm, blend, fused_batch_norm
from ..training import Diverged, estimate_statistics, evaluate_accuracy, seed_everything, train
from ..training.blocks import norm_layers
from .modes import Data

# Where LeNet can have a norm, from the lowest up, and the number of channels or units there.
PLACES = {'conv 1': 6, 'conv 2': 16, 'dense 1': 120, 'dense 2': 84}


def norm_by(
    fn: Callable[..., Any] = fused_batch_norm, places: Iterable[str] = tuple(PLACES), frozen: Sequence[str] = ()
) -> Callable[[int, int], Block]:
    """A norm for `lenet`: a `BatchNorm` with the maths fn at these PLACES, nothing at the others.

    frozen: which of 'gamma' and 'beta' keep their initial values, 1 and 0.
    """
    unknown = set(places) - set(PLACES)
    if unknown:
        raise ValueError(f"places must be of {', '.join(PLACES)}; got {', '.join(sorted(unknown))}")

    def norm(num_features: int, num_dims: int) -> Block:
        if num_features not in [PLACES[place] for place in places]:
            return Identity()
        layer = BatchNorm(num_features, num_dims, fn=fn)
        for name in frozen:
            getattr(layer, name).grad_req = 'null'
        return layer

    return norm


def mean_only(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """Y = gamma * (X - mean) + beta: each unit is centred, its variance kept. The signature is batch_norm's."""
    mean = moving_mean
    if autograd.is_training():
        mean = mean_of(X)
        moving_mean = blend(moving_mean, mean.detach(), momentum)
    return gamma * (X - mean) + beta, moving_mean, moving_var


def variance_only(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """Y = gamma * X / sqrt(var + eps) + beta: each unit gets variance 1; its mean is scaled, not removed."""
    var = moving_var
    if autograd.is_training():
        var = mean_of(nd.square(X - mean_of(X)))
        moving_var = blend(moving_var, var.detach(), momentum)
    return gamma / nd.sqrt(var + eps) * X + beta, moving_mean, moving_var


def mean_of(X: NDArray) -> NDArray:
    """The mean of each unit or channel, in the shape that broadcasts over X: (1, d) or (1, c, 1, 1)."""
    return X.mean(axis=(0,) if X.ndim == 2 else (0, 2, 3), keepdims=True)


def with_activation(net: nn.Sequential, activation: str) -> nn.Sequential:
    """The same net with another activation, such as 'relu', instead of the sigmoid."""
    return _rebuilt(net, lambda block: [nn.Activation(activation) if isinstance(block, nn.Activation) else block])


def with_dropout(net: nn.Sequential, rate: float = 0.5) -> nn.Sequential:
    """The same net with dropout after the activation of each dense layer."""
    dense: List[Block] = []

    def blocks(block: Block) -> List[Block]:
        dense.extend([block] if isinstance(block, nn.Dense) else [])
        return [block, nn.Dropout(rate)] if dense and isinstance(block, nn.Activation) else [block]

    return _rebuilt(net, blocks)


def freeze_lower(net: nn.Sequential, num_layers: int) -> nn.Sequential:
    """The same net, whose lowest num_layers affine layers, and the norms after them, keep their initial parameters."""
    affine = 0
    for block in net:
        affine += isinstance(block, (nn.Conv2D, nn.Dense))
        if affine <= num_layers:
            block.collect_params().setattr('grad_req', 'null')
    return net


def initialize(net: nn.Sequential, X: NDArray) -> nn.Sequential:
    """Draw new Xavier weights for all layers at once; the minibatch X determines the sizes.

    In the first training step dropout would draw its masks in between, and the weights would differ.
    """
    net.initialize(init.Xavier(), force_reinit=True)
    with autograd.predict_mode():
        net(X)
    return net


def _rebuilt(net: nn.Sequential, blocks: Callable[[Block], List[Block]]) -> nn.Sequential:
    new = nn.Sequential()
    for block in net:
        if isinstance(block, BatchNorm) and block.act:
            raise InputError(
                f'must apply its activations in separate blocks, got {block}; '
                'build it without fuse_sigmoid or activation',
                'net',
            )
        new.add(*blocks(block))
    return new


Nets = Dict[str, Callable[[], nn.Sequential]]  # functions that make a net, by name


@dataclass
class Run:
    """One training."""

    loss: float  # mean over the last epoch
    train_acc: float  # mean over the last epoch, while the weights move, in training mode
    train_acc_predicted: float  # after it, in prediction mode, as test_acc
    test_acc: float  # with statistics estimated over the training set, if the net has any
    losses: List[float]  # by epoch


def train_once(net: nn.Sequential, lr: float, seed: int, data: Data, num_epochs: int) -> Run:
    """Train a net on data = (train_iter, test_iter): a `Run`.

    One seed gives every net the same initial weights where it has the same layers, and the same minibatches.
    """
    seed_everything(seed)
    train_iter, test_iter = data
    train_images = Minibatches(train_iter.X, train_iter.y, 500, shuffle=False)  # larger minibatches predict faster
    initialize(net, test_iter.X[:1])
    try:
        history = train(net, train_iter, test_iter, num_epochs, lr, initialize=False, plot=False, progress=False)
    except Diverged as error:  # a result too: the net guesses
        train_acc, test_acc = evaluate_accuracy(net, train_images), evaluate_accuracy(net, test_iter)
        return Run(float('inf'), train_acc, train_acc, test_acc, [epoch.loss for epoch in error.history])
    if norm_layers(net):
        estimate_statistics(net, train_iter)
    last = history[-1]
    predicted = evaluate_accuracy(net, train_images), evaluate_accuracy(net, test_iter)
    return Run(last.loss, last.train_acc, *predicted, [epoch.loss for epoch in history])


def over_seeds(nets: Nets, lr: float, seeds: Sequence[int], data: Data, num_epochs: int) -> Dict[str, List[Run]]:
    """Train each of `nets` from each seed: {name: [Run, ...]}."""
    return {name: [train_once(make(), lr, seed, data, num_epochs) for seed in seeds] for name, make in nets.items()}


def over_rates(
    nets: Nets, lrs: Sequence[float], seeds: Sequence[int], data: Data, num_epochs: int
) -> Dict[str, Dict[float, List[Run]]]:
    """The same at each learning rate: {name: {lr: [Run, ...]}}."""
    runs = {lr: over_seeds(nets, lr, seeds, data, num_epochs) for lr in lrs}
    return {name: {lr: runs[lr][name] for lr in lrs} for name in nets}


def rates_that_learn(runs: Dict[float, List[Run]], test_acc: float) -> List[float]:
    """The learning rates at which every seed reaches this test accuracy; runs: {lr: [Run, ...]}."""
    return [lr for lr, of_seeds in runs.items() if min(run.test_acc for run in of_seeds) >= test_acc]


def table(runs: Dict[str, List[Run]]) -> List[List[str]]:
    """Rows for a table: name, then the median of loss, train and test accuracy over the seeds, with the range."""
    return [
        [name, *(spread([getattr(run, key) for run in of_seeds]) for key in ('loss', 'train_acc', 'test_acc'))]
        for name, of_seeds in runs.items()
    ]


def spread(values: Sequence[float]) -> str:
    """The median and the range, as text: '0.83 (0.81 to 0.84)'."""
    return f'{numpy.median(values):.2f} ({min(values):.2f} to {max(values):.2f})'
