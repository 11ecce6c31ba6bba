"""How far can the learning rate go, and what in batch normalization does it: LeNet trained over and over."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence

import numpy
from mxnet.gluon import nn

from ..data import Minibatches
from ..norm import BatchNorm
from ..training import Diverged, estimate_statistics, evaluate_accuracy, seed_everything, train
from .modes import Data
from .variants import initialize

Nets = Dict[str, Callable[[], nn.Sequential]]  # functions that make a net, by name


@dataclass
class Run:
    """One training."""

    loss: float  # mean over the last epoch
    train_acc: float  # mean over the last epoch, while the weights move, in training mode
    train_acc_predicted: float  # after it, in prediction mode: as test_acc is measured
    test_acc: float  # with statistics for prediction estimated over the training set, where there are any
    losses: List[float]  # by epoch


def learn(net: nn.Sequential, lr: float, seed: int, data: Data, num_epochs: int) -> Run:
    """Train a net on data = (train_iter, test_iter): a `Run`.

    One seed gives every net the same initial weights where it has the same layers, and the same minibatches.
    """
    seed_everything(seed)
    train_iter, test_iter = data
    train_images = Minibatches(train_iter.X, train_iter.y, 500, shuffle=False)  # in prediction, where larger is faster
    initialize(net, test_iter.X[:1])
    try:
        history = train(net, train_iter, test_iter, num_epochs, lr, initialize=False, plot=False, progress=False)
    except Diverged as error:  # which is a result too: a net that guesses
        train_acc, test_acc = evaluate_accuracy(net, train_images), evaluate_accuracy(net, test_iter)
        return Run(float('inf'), train_acc, train_acc, test_acc, [epoch.loss for epoch in error.history])
    if normalizes(net):
        estimate_statistics(net, train_iter)
    last = history[-1]
    return Run(last.loss, last.train_acc, evaluate_accuracy(net, train_images), evaluate_accuracy(net, test_iter),
               [epoch.loss for epoch in history])


def normalizes(net: nn.Sequential) -> bool:
    """Whether net holds a `BatchNorm` layer."""
    return any(isinstance(block, BatchNorm) for block in net)


def over_seeds(nets: Nets, lr: float, seeds: Sequence[int], data: Data, num_epochs: int) -> Dict[str, List[Run]]:
    """Train each of `nets` from each seed: {name: [Run, ...]}."""
    return {name: [learn(make(), lr, seed, data, num_epochs) for seed in seeds] for name, make in nets.items()}


def over_rates(nets: Nets, lrs: Sequence[float], seeds: Sequence[int], data: Data,
               num_epochs: int) -> Dict[str, Dict[float, List[Run]]]:
    """The same at each learning rate: {name: {lr: [Run, ...]}}."""
    runs = {lr: over_seeds(nets, lr, seeds, data, num_epochs) for lr in lrs}
    return {name: {lr: runs[lr][name] for lr in lrs} for name in nets}


def rates_that_learn(runs: Dict[float, List[Run]], test_acc: float) -> List[float]:
    """The learning rates at which every seed reaches this test accuracy; runs: {lr: [Run, ...]}."""
    return [lr for lr, of_seeds in runs.items() if min(run.test_acc for run in of_seeds) >= test_acc]


def table(runs: Dict[str, List[Run]]) -> List[List[str]]:
    """Rows for a table: name, then the median of loss, train and test accuracy over the seeds, with the range."""
    return [[name, *(spread([getattr(run, key) for run in of_seeds]) for key in ('loss', 'train_acc', 'test_acc'))]
            for name, of_seeds in runs.items()]


def spread(values: Sequence[float]) -> str:
    """The median and the range, as text: '0.83 (0.81 to 0.84)'."""
    return f'{numpy.median(values):.2f} ({min(values):.2f} to {max(values):.2f})'
