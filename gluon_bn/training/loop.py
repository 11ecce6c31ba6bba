"""Training and evaluation."""
from __future__ import annotations

import numbers
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy
from mxnet import autograd, gluon, init
from tqdm.auto import tqdm

from ..data import check_count
from .divergence import Watch

Device = Union[None, mx.Context, Sequence[mx.Context]]

STRETCH = 10  # minibatches between two looks at the device


@dataclass
class Epoch:
    """What one epoch came to: loss in nats an example, accuracies from 0 to 1, seconds of training."""

    epoch: int
    loss: float
    train_acc: float
    test_acc: float
    seconds: float
    examples_per_sec: float


def seed_everything(seed: int) -> None:
    """Seed MXNet's generator (initial weights, dropout) and NumPy's (the order of the examples)."""
    mx.random.seed(seed)
    numpy.random.seed(seed)


def train(net: gluon.Block, train_iter: Any, test_iter: Any, num_epochs: int, lr: float, device: Device = None,
          initialize: bool = True, plot: Optional[bool] = None, progress: Union[bool, Callable] = True,
          description: Optional[str] = None, on_epoch: Optional[Callable[[Epoch], None]] = None,
          checkpoint: Any = None) -> List[Epoch]:
    """Train a classifier by minibatch SGD on the softmax cross-entropy.

    device: a context or a list of them, each of which takes its share of every minibatch;
    the CPU by default. initialize: start from new Xavier weights; False trains on from the
    present ones. plot: draw the curves live by d2l's animator; None does so in a notebook.
    progress: show a bar with loss, accuracy and time left, after the description; or what makes the
    bar in the place of tqdm. on_epoch: called with each `Epoch` as soon as it is measured.
    checkpoint: a `Checkpoint`, from which the training goes on, and which is saved after each epoch.

    Loss and train accuracy are means over the epoch while the weights move; test accuracy
    is measured after it, in prediction mode.

    Returns: a list of `Epoch`, one for each, with those of the checkpoint.
    Raises: ValueError for a number of epochs, a learning rate or labels out of range, no minibatches or no device;
    Diverged as soon as a loss or a parameter is not finite; what the checkpoint raises.
    """
    check_schedule(num_epochs, lr)
    check_minibatches('train_iter', train_iter)
    check_minibatches('test_iter', test_iter)
    devices = _devices(device)
    if initialize:
        net.initialize(init.Xavier(), ctx=devices, force_reinit=True)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()

    def sgd() -> gluon.Trainer:
        return gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': lr})

    def step_from_here(X: Any, y: Any) -> _Totals:
        # a trainer for several devices keeps weights of its own, so each step has a new one
        return train_batch(net, X, y, loss_fn, sgd(), devices, _Totals())

    trainer = sgd()
    curves = _Curves(num_epochs) if (in_notebook() if plot is None else plot) else None
    history, num_batches = checkpoint.load(net) if checkpoint else [], len(train_iter)
    watch = Watch(net, lr, step_from_here, history)
    make_bar = progress if callable(progress) else tqdm
    with make_bar(total=num_epochs * num_batches, initial=len(history) * num_batches, unit='batch', desc=description,
                  disable=not progress) as bar:
        for epoch in range(len(history) + 1, num_epochs + 1):
            totals, shown, start = _Totals(), None, time.perf_counter()
            for i, (X, y) in enumerate(train_iter, 1):
                watch.keep(X, y)
                train_batch(net, X, y, loss_fn, trainer, devices, totals)
                if i % STRETCH == 0:
                    watch.look(totals)
                    # Reads where the device was a stretch ago, so that it never runs dry while Python waits.
                    if shown:
                        loss, train_acc = shown.means()
                        bar.set_postfix(epoch=f'{epoch}/{num_epochs}', loss=f'{loss:.3f}', train_acc=f'{train_acc:.3f}')
                        if curves and i % (num_batches // 5 // STRETCH * STRETCH or STRETCH) == 0:
                            curves.add(epoch - 1 + i / num_batches, loss, train_acc)
                    shown = totals.snapshot()
                    bar.update(STRETCH)
            watch.end(totals)
            loss, train_acc = totals.means()
            bar.update(num_batches % STRETCH)
            seconds = time.perf_counter() - start
            test_acc = evaluate_accuracy(net, test_iter, devices)
            history.append(Epoch(epoch, loss, train_acc, test_acc, seconds, totals.count / seconds))
            if curves:
                curves.add(epoch, loss, train_acc, test_acc)
            if checkpoint:
                checkpoint.save(net, history)
            if on_epoch:
                on_epoch(history[-1])
    return history


def check_schedule(num_epochs: int, lr: float) -> None:
    """Refuse a number of epochs below 1, or a learning rate that is not a finite, positive number."""
    check_count('num_epochs', num_epochs)
    if isinstance(lr, bool) or not isinstance(lr, numbers.Real) or not 0 < lr < float('inf'):
        raise ValueError(f'lr must be a finite number > 0, got {lr!r}; LeNet with batch normalization takes 1.0')


def check_minibatches(name: str, data_iter: Any) -> None:
    """Refuse what cannot give minibatches again and again, or gives none."""
    if not hasattr(data_iter, '__len__') or not hasattr(data_iter, '__iter__'):
        raise ValueError(f'{name} must be minibatches (X, y) that can be counted and iterated over anew each epoch, '
                         f'got {type(data_iter).__name__}; use load_data_fashion_mnist, a DataLoader or a list')
    if len(data_iter) == 0:
        raise ValueError(f'{name} must give at least one minibatch (X, y), got none')


def train_batch(net: gluon.Block, X: Any, y: Any, loss_fn: Callable, trainer: gluon.Trainer,
                devices: List[mx.Context], totals: _Totals) -> _Totals:
    """One step of SGD on the minibatch (X, y), split over the devices; adds its results to totals and returns them."""
    shards = list(zip(gluon.utils.split_and_load(X, devices, even_split=False),
                      gluon.utils.split_and_load(y, devices, even_split=False)))
    with autograd.record():
        outputs = [net(X_shard) for X_shard, _ in shards]
        losses = [loss_fn(output, y_shard) for output, (_, y_shard) in zip(outputs, shards)]
    autograd.backward(losses)
    trainer.step(len(X))
    for output, loss, (_, y_shard) in zip(outputs, losses, shards):
        totals.add(output, loss, y_shard)
    return totals


def evaluate_accuracy(net: gluon.Block, data_iter: Iterable[Tuple[Any, Any]], device: Device = None) -> float:
    """The share of the examples in data_iter that net classifies rightly, in prediction mode.

    Raises: ValueError for labels out of range, no minibatches or no device.
    """
    totals, devices = _Totals(), _devices(device)
    with autograd.predict_mode():
        for X, y in data_iter:
            for X_shard, y_shard in zip(gluon.utils.split_and_load(X, devices, even_split=False),
                                        gluon.utils.split_and_load(y, devices, even_split=False)):
                totals.add(net(X_shard), None, y_shard)
    return totals.means()[1]


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, which can show a figure that grows."""
    return 'ipykernel' in sys.modules and 'IPython' in sys.modules and sys.modules['IPython'].get_ipython() is not None


def _devices(device: Device) -> List[mx.Context]:
    given = [mx.cpu()] if device is None else device
    devices = list(given) if isinstance(given, (list, tuple)) else [given]
    if not devices or not all(isinstance(each, mx.Context) for each in devices):
        raise ValueError(f'device must be a context, as mx.cpu(), or a list of them, got {device!r}')
    return devices


class _Totals:
    """Sums over minibatches that stay on their device until they are read."""

    def __init__(self, loss: Any = (), correct: Any = (), others: Any = (), count: int = 0, classes: int = 0) -> None:
        self.loss: Dict[mx.Context, Any] = dict(loss)
        self.correct: Dict[mx.Context, Any] = dict(correct)
        self.others: Dict[mx.Context, Any] = dict(others)  # labels of no class: the loss takes the nearest one
        self.count, self.classes = count, classes

    def add(self, output: Any, loss: Any, y: Any) -> None:
        device, self.classes, y = output.context, output.shape[1], y.astype('float32')
        correct = (output.argmax(axis=1).astype('float32') == y).astype('float32').sum()
        self.correct[device] = self.correct.get(device, 0) + correct
        others = (y.clip(0, self.classes - 1) != y).astype('float32').sum()
        self.others[device] = self.others.get(device, 0) + others
        if loss is not None:
            self.loss[device] = self.loss.get(device, 0) + loss.sum()
        self.count += len(y)

    def snapshot(self) -> _Totals:
        """The sums as they are now; later minibatches make new arrays and leave these alone."""
        return _Totals(self.loss, self.correct, self.others, self.count, self.classes)

    def means(self) -> Tuple[float, float]:
        """(loss, accuracy) an example; waits until the device has come so far."""
        if not self.count:
            raise ValueError('data_iter must give minibatches (X, y), got none; '
                             'an iterator that is used up needs to be made anew')
        loss, correct, others = (sum(float(total.asnumpy()) for total in sums.values())
                                 for sums in (self.loss, self.correct, self.others))
        if others:
            raise ValueError(f'y must be labels from 0 to {self.classes - 1}, as the net has {self.classes} outputs, '
                             f'got {others:.0f} others among {self.count}; number the classes from 0')
        return loss / self.count, correct / self.count


class _Curves:
    """The three curves, live in a notebook, by d2l's animator."""

    def __init__(self, num_epochs: int) -> None:
        import d2l.mxnet as d2l
        # black: a colour stands for a norm, and here the lines are told apart by their dashes
        self.animator = d2l.Animator(xlabel='epoch', xlim=[0, num_epochs], fmts=('k-', 'k--', 'k:'),
                                     legend=['train loss', 'train acc', 'test acc'])

    def add(self, epoch: float, loss: float, train_acc: float, test_acc: Optional[float] = None) -> None:
        self.animator.add(epoch, (loss, train_acc, test_acc))
