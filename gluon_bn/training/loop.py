"""Training and evaluation."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, List, Optional, Tuple, Union

import mxnet as mx
import numpy
from mxnet import autograd, gluon, init
from mxnet.ndarray import NDArray
from tqdm.auto import tqdm

from ..devices import Device, check_devices
from ..errors import InputError
from ..system.arguments import is_whole
from ..system.interpreter import in_notebook, load_error
from ..system.memory import keep_freed_memory
from ..workers import Alone, Group, Threads, current
from . import inputs
from .blocks import blocks_of, is_sync
from .checkpoint import Checkpoint
from .divergence import DivergenceMonitor
from .inputs import pairs
from .together import share_parameters, share_start
from .totals import Epoch, Totals

Devices = List[mx.Context]
SOFTMAX_CROSS_ENTROPY = gluon.loss.SoftmaxCrossEntropyLoss()
CHECK_EVERY = 10  # minibatches between two reads from the device


def seed_everything(seed: int) -> None:
    """Seed MXNet's generator (initial weights, dropout) and NumPy's (order of the examples)."""
    if not is_whole(seed, 0, 2**31 - 1):
        raise InputError(f'must be a whole number from 0 to 2**31 - 1, got {seed!r}', 'seed')
    mx.random.seed(int(seed))
    numpy.random.seed(int(seed))


def train(
    net: gluon.Block,
    train_iter: Any,
    test_iter: Any,
    num_epochs: int,
    lr: float,
    device: Device = None,
    initialize: bool = True,
    plot: Optional[bool] = None,
    progress: Union[bool, Callable[..., Any]] = True,
    description: Optional[str] = None,
    on_epoch: Optional[Callable[[Epoch], None]] = None,
    checkpoint: Optional[Checkpoint] = None,
) -> List[Epoch]:
    """Train a classifier by minibatch SGD on the softmax cross-entropy.

    device: a context, or a list of them among which each minibatch is split; defaults to the CPU.
    initialize: start from new Xavier weights; False continues with the current ones.
    plot: draw the curves live with d2l's animator; None does so only in a notebook.
    progress: show a bar with loss, accuracy and time left, labelled with description; or a factory
    to use instead of tqdm. on_epoch: called with each `Epoch` as soon as it is measured.
    checkpoint: a `Checkpoint` to continue from, saved after each epoch.

    Minibatches are pairs (X, y) of MXNet or NumPy arrays. Loss and train accuracy are means
    over the epoch, while the weights change; test accuracy is measured after it, in prediction mode.

    Within `workers.joined`, this worker trains on its share of each minibatch, and the gradients are summed over the
    group. All start from worker 0's net and checkpoint, in its order of examples; only worker 0 saves.

    From the first step on, glibc keeps freed memory in the process for the next arrays, unless GLUON_BN_MALLOC is 0.

    Shapes: X (b, ...) as net takes it; y (b,), whole numbers from 0 to classes - 1; net's output (b, classes).
    Returns: a list of `Epoch`, including those of the checkpoint.
    Raises: InputError for bad arguments, before the first step; for a bad minibatch, before the step
    on it, or within 20 minibatches if only its labels are wrong. Diverged within 20 minibatches after a loss or a
    parameter is not finite, at the end of the epoch at the latest. Whatever the checkpoint raises.
    """
    num_epochs, lr = inputs.check_schedule(num_epochs, lr)
    inputs.check_countable('train_iter', train_iter)
    inputs.check_countable('test_iter', test_iter)
    sizes = set(inputs.known_sizes(train_iter))
    devices = check_devices(device)
    if on_epoch is not None and not callable(on_epoch):
        raise InputError(f'must be a function of an Epoch, got {on_epoch!r}', 'on_epoch')
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise InputError(f'must be a Checkpoint, got {checkpoint!r}', 'checkpoint')
    inputs.check_block(net)
    if initialize:
        net.initialize(init.Xavier(), ctx=devices, force_reinit=True)
    inputs.check_net(net, devices)
    group = current() or Alone()
    history = checkpoint.load(net) if checkpoint and group.rank == 0 else []
    order = numpy.random.get_state()
    X, y = next(pairs('test_iter', test_iter))
    numpy.random.set_state(order)  # so that this look at a shuffled iterator does not change the order of the others
    inputs.check_minibatch(net, X, y, devices)
    inputs.check_trainable(net, devices)
    for size in sizes:
        inputs.check_share(net, X, size, devices, group.size)
    history = share_start(net, history, group)
    keep_freed_memory()

    def replay_step(X: Any, y: Any) -> Totals:
        # a trainer for several devices keeps its own copy of the weights, so each step needs a new one
        totals = Totals()
        train_batch(net, X, y, sgd(net, lr, group), devices, totals, group)
        return totals

    trainer = sgd(net, lr, group)
    curves = _live_curves(num_epochs) if (in_notebook() if plot is None else plot) else None
    num_batches = len(train_iter)
    monitor = DivergenceMonitor(net, lr, replay_step, history)
    make_bar = progress if callable(progress) else tqdm
    total, initial = num_epochs * num_batches, len(history) * num_batches
    with make_bar(total=total, initial=initial, unit='batch', desc=description, disable=not progress) as bar:
        for epoch in range(len(history) + 1, num_epochs + 1):
            totals, shown, start = Totals(), None, time.perf_counter()
            for i, (X, y) in enumerate(pairs('train_iter', train_iter), 1):
                if i == 1:
                    inputs.check_minibatch(net, X, y, devices)
                if len(X) < 2 * len(devices) * group.size:
                    inputs.check_share(net, X, len(X), devices, group.size)
                monitor.record_batch(X, y)
                train_batch(net, X, y, trainer, devices, totals, group)
                if i % CHECK_EVERY == 0:
                    window = totals.over(group)
                    monitor.check_window(window)
                    # Reads the totals of a window ago, so that the device is never idle while Python waits.
                    if shown:
                        loss, train_acc = shown.means()
                        bar.set_postfix(epoch=f'{epoch}/{num_epochs}', loss=f'{loss:.3f}', train_acc=f'{train_acc:.3f}')
                        if curves and i % (num_batches // 5 // CHECK_EVERY * CHECK_EVERY or CHECK_EVERY) == 0:
                            curves.add(epoch - 1 + i / num_batches, (loss, train_acc, None))
                    shown = window
                    bar.update(CHECK_EVERY)
            totals = totals.over(group)
            monitor.finish_epoch(totals)
            loss, train_acc = totals.means()
            bar.update(num_batches % CHECK_EVERY)
            seconds = time.perf_counter() - start
            share_parameters(net, group, 'null')
            test_acc = _accuracy(net, pairs('test_iter', test_iter), devices, group)
            history.append(Epoch(epoch, loss, train_acc, test_acc, seconds, totals.count / seconds))
            if curves:
                curves.add(epoch, (loss, train_acc, test_acc))
            if checkpoint and group.rank == 0:
                checkpoint.save(net, history)
            if on_epoch:
                on_epoch(history[-1])
    return history


def sgd(net: gluon.Block, lr: float, group: Group) -> gluon.Trainer:
    """Return a trainer that sums the gradients over the group; each worker updates its own weights."""
    options = {'kvstore': group.store(), 'update_on_kvstore': False if group.size > 1 else None}
    return gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': lr}, **options)


def train_batch(
    net: gluon.Block, X: Any, y: Any, trainer: gluon.Trainer, devices: Devices, totals: Totals, group: Group
) -> None:
    """Take one step of SGD on the minibatch (X, y), split among the workers and their devices.

    totals: of this worker's share.
    """
    examples = len(X)
    if group.size > 1:
        X, y = X[group.share(examples)], y[group.share(examples)]
    shards = inputs.shares(net, X, y, devices)
    if len(devices) > 1 and any(map(is_sync, blocks_of(net))):  # in every layer, each device waits for the others
        found = Threads.run(len(devices), lambda device: forward_backward(net, [shards[device.thread]]), group)
        outputs, losses = [output for (output,), _ in found], [loss for _, (loss,) in found]
    else:
        outputs, losses = forward_backward(net, shards)
    if group.size > 1:
        mx.nd.waitall()  # backward's exchange of statistics, in another thread, must end before that of the gradients
    trainer.step(examples)
    for output, loss, (_, y_shard) in zip(outputs, losses, shards):
        totals.add(output, loss, y_shard)


def forward_backward(net: gluon.Block, shards: List[Tuple[NDArray, NDArray]]) -> Tuple[List[NDArray], List[NDArray]]:
    """Return the outputs and losses of the shares (X, y), each on its device; leave the gradients in net."""
    with autograd.record():
        outputs = [net(X) for X, _ in shards]
        losses = [SOFTMAX_CROSS_ENTROPY(output, y) for output, (_, y) in zip(outputs, shards)]
    autograd.backward(losses)
    return outputs, losses


def evaluate_accuracy(net: gluon.Block, data_iter: Iterable[Tuple[Any, Any]], device: Device = None) -> float:
    """Return the share of the examples in data_iter that net classifies correctly, in prediction mode.

    Raises: InputError for a net, minibatches or a device that `train` refuses.
    """
    devices = check_devices(device)
    inputs.check_block(net)
    return _accuracy(net, pairs('data_iter', data_iter), devices, Alone())


def _accuracy(net: gluon.Block, minibatches: Iterable[Tuple[Any, Any]], devices: Devices, group: Group) -> float:
    totals = Totals()
    with autograd.predict_mode():
        for X, y in minibatches:
            if not totals.count:
                inputs.check_net(net, devices)
                inputs.check_minibatch(net, X, y, devices)
            if group.size > 1:
                X, y = X[group.share(len(X))], y[group.share(len(y))]
                if not len(X):
                    continue
            for X_shard, y_shard in inputs.shares(net, X, y, devices[: len(X)]):
                totals.add(net(X_shard), None, y_shard)
    return totals.over(group).means()[1]


def _live_curves(num_epochs: int) -> Any:
    """Return d2l's animator, which draws three curves live in a notebook."""
    from ..system import before_matplotlib  # noqa: F401  d2l imports it

    # isort: split
    try:
        import d2l.mxnet as d2l
    except Exception as error:  # missing, or incompatible with its pandas, for example
        raise load_error("d2l, which draws the curves,", error) from error

    # black with different dashes, because everywhere else a colour stands for a norm
    styles, legend = ('k-', 'k--', 'k:'), ['train loss', 'train acc', 'test acc']
    return d2l.Animator(xlabel='epoch', xlim=[0, num_epochs], fmts=styles, legend=legend)
