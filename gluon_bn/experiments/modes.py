"""Training and prediction: which statistics a layer uses, what selects them, and what they do to the test accuracy."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Sequence, Tuple

import numpy
from mxnet import autograd, nd
from mxnet.gluon import Block
from mxnet.ndarray import NDArray

from ..data import Minibatches
from ..model import lenet
from ..training import Epoch, estimate_statistics, evaluate_accuracy, seed_everything, statistics_of, train
from ..training.blocks import norm_layers
from . import Array

Data = Tuple[Minibatches, Minibatches]  # train_iter, test_iter

# The five ways to call a layer.
CALL_MODES: Dict[str, Callable[[], ContextManager[Any]]] = {
    'plain': contextlib.nullcontext,
    'predict_mode()': autograd.predict_mode,
    'train_mode()': autograd.train_mode,
    'record(train_mode=False)': lambda: autograd.record(train_mode=False),
    'record()': autograd.record,
}


@contextlib.contextmanager
def statistics_kept(net: Block) -> Iterator[None]:
    """Restore the moving statistics of all layers at the end."""
    parameters = [parameter for layer in norm_layers(net) for parameter in statistics_of(layer)]
    before = [parameter.data().copy() for parameter in parameters]
    try:
        yield
    finally:
        for parameter, value in zip(parameters, before):
            parameter.set_data(value)


@dataclass
class CallMode:
    """What a layer does when it is called in one of the CALL_MODES."""

    recording: bool
    training: bool
    uses_batch: bool  # whether an example's output depends on its companions
    statistics_move: bool  # by the call, and its backward pass if there is one
    gradient: str  # 'none', 'through the statistics' or 'past the statistics', which are constants then


def ways(layer: Block, X: NDArray, seed: int = 0) -> Dict[str, CallMode]:
    """Call a trained layer, ours or Gluon's, in each of the CALL_MODES on X (m, d)."""
    # A seed that X is unlikely to have: a dY proportional to X has no gradient.
    dY = nd.array(numpy.random.RandomState(seed + 1000).randn(*X.shape))
    other = nd.concat(X[:1], 3 * X[1:] + 1, dim=0)  # the first example with other companions
    found = {}
    for name, mode in CALL_MODES.items():
        with statistics_kept(layer):
            found[name] = _behaviour(layer, X.copy(), other, dY, mode)
    return found


def _behaviour(
    layer: Block, X: NDArray, other: NDArray, dY: NDArray, mode: Callable[[], ContextManager[Any]]
) -> CallMode:
    before = [parameter.data().asnumpy() for parameter in statistics_of(layer)]
    X.attach_grad()
    with mode():
        recording, training = autograd.is_recording(), autograd.is_training()
        Y = layer(X)
    if recording:
        Y.backward(dY)
    # Gluon's backward pass rewrites its averages in every mode; changes by rounding do not count.
    moved = any(
        not numpy.allclose(parameter.data().asnumpy(), value, rtol=1e-4)
        for parameter, value in zip(statistics_of(layer), before)
    )
    with mode():
        in_other_company = layer(other)
    uses_batch = not numpy.allclose(Y[0].asnumpy(), in_other_company[0].asnumpy(), atol=1e-3)
    dX = X.grad.asnumpy()
    # A gradient through the mean never shifts a unit: it sums to 0 over the minibatch.
    sums_vanish = numpy.abs(dX.sum(axis=0)).max() < 1e-3 * numpy.abs(dX).sum(axis=0).max()
    gradient = 'none' if not recording else 'through the statistics' if sums_vanish else 'past the statistics'
    return CallMode(recording, training, bool(uses_batch), bool(moved), gradient)


def trained(seed: int, data: Data, num_epochs: int = 2, lr: float = 1.0, norm: str = 'fused') -> Block:
    """LeNet, trained from this seed on data = (train_iter, test_iter), with statistics estimated over train_iter."""
    seed_everything(seed)
    net = lenet(norm)
    train(net, *data, num_epochs, lr, plot=False, progress=False)
    estimate_statistics(net, data[0])
    return net


def in_company(net: Block, x: NDArray, companions: Sequence[NDArray]) -> Dict[str, Array]:
    """Logits of the one example x (1, ...) beside each minibatch of companions: {mode: (len(companions), 10)}."""
    logits = {}
    for name, mode in (('prediction', autograd.predict_mode), ('training', autograd.train_mode)):
        with statistics_kept(net), mode():
            logits[name] = numpy.array([net(nd.concat(x, others, dim=0))[0].asnumpy() for others in companions])
    return logits


def accuracy(net: Block, data_iter: Minibatches, train_mode: bool = False) -> float:
    """`evaluate_accuracy`, or with train_mode the same with each minibatch normalized by its own statistics."""
    if not train_mode:
        return evaluate_accuracy(net, data_iter)
    with statistics_kept(net), autograd.train_mode():
        right = [(net(X).argmax(axis=1).astype('int32') == y).sum() for X, y in data_iter]
    return sum(int(count.asscalar()) for count in right) / len(data_iter.X)


def accuracies_in_company(net: Block, test_iter: Minibatches, batch_size: int = 100) -> Dict[str, Dict[str, float]]:
    """Test accuracy by company and mode: {'mixed' or 'one class': {'prediction' or 'training': accuracy}}.

    mixed: minibatches as they come; one class: the same examples sorted by label.
    """
    order = nd.array(numpy.argsort(test_iter.y.asnumpy(), kind='stable'), dtype='int32')
    sets = {
        'mixed': (test_iter.X, test_iter.y),
        'one class': (nd.take(test_iter.X, order), nd.take(test_iter.y, order)),
    }
    return {
        company: {
            mode: accuracy(net, Minibatches(X, y, batch_size, shuffle=False), mode == 'training')
            for mode in ('prediction', 'training')
        }
        for company, (X, y) in sets.items()
    }


@dataclass
class Accuracies:
    """Test accuracy after each epoch of one training by the statistics used; arrays (num_epochs,)."""

    moving: Array  # the moving averages of training
    estimated: Array  # estimated once over the training set, the weights fixed
    batch: Array  # each test minibatch by its own


def accuracies_over_epochs(seed: int, lr: float, data: Data, num_epochs: int) -> Accuracies:
    """Train LeNet with batch normalization and test it after each epoch in the three ways of `Accuracies`."""
    seed_everything(seed)
    net, (train_iter, test_iter) = lenet('fused'), data
    rows: List[List[float]] = []

    def measure(epoch: Epoch) -> None:
        order = numpy.random.get_state()  # the estimate shuffles too, which must not change the training
        with statistics_kept(net):
            estimate_statistics(net, train_iter)
            rows.append([epoch.test_acc, accuracy(net, test_iter), accuracy(net, test_iter, train_mode=True)])
        numpy.random.set_state(order)

    train(net, train_iter, test_iter, num_epochs, lr, plot=False, progress=False, on_epoch=measure)
    return Accuracies(*numpy.array(rows).T)


def summarize(results: Dict[float, List[Accuracies]]) -> Dict[Tuple[float, str], Dict[str, float]]:
    """Of {lr: [Accuracies, one a seed]}: {(lr, source): mean, worst epoch, mean distance between the seeds}."""
    summary = {}
    for lr, runs in results.items():
        for source in ('moving', 'estimated', 'batch'):
            values = numpy.array([getattr(run, source) for run in runs])  # (seeds, epochs)
            summary[lr, source] = {
                'mean': values.mean(),
                'worst epoch': values.min(),
                'between seeds': numpy.ptp(values, axis=0).mean(),
            }
    return summary
