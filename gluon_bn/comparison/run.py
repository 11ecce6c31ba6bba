"""The process of one run of a comparison, LeNet with one norm from one seed:  python -m gluon_bn.comparison.run"""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict

import numpy
from mxnet import MXNetError
from mxnet.gluon import Block

from ..data import DataWarning, load_data_fashion_mnist
from ..errors import GluonBnError, InputError, OutputError, explained
from ..model import NORMS, compiled, lenet
from ..norm import choose
from ..system.processes import serve_task
from ..system.store import store
from ..system.unexpected import describe_and_keep
from ..training import Diverged, estimate_statistics, evaluate_accuracy, params_file, seed_everything, train
from ..workers import Alone, current, joined
from ..workers.parameter_server import ParameterServer, Role, serve
from .cluster import check_alike
from .summary import SideBySide
from .task import Failed, Finished, Joined, Message, Silent, Started, Task, Trained, content_of, task_from

SIDE_BY_SIDE_BATCHES = 24  # a tenth of an epoch
Send = Callable[[Message], None]


def run_task(task: Task, send: Send) -> None:
    """Run a task and send its result, or an error as `Failed`.

    The traceback of an unexpected error goes to the log of the run, a file in the comparison's folder.
    """
    try:
        if 'GLUON_BN_FUSED' in task.environment:  # at least one norm is fused_batch_norm
            choose()  # loads the operator before the clock starts; every net then pools with it
        if task.role:
            run_role(task, task.role, send)
        else:
            with joined(Alone()):
                send(train_one(task, task.norm, send) if task.norm else compare_with_scratch(task, send))
    except Diverged as error:
        send(Failed(str(error), diverged=True))
    except GluonBnError as error:  # its message says what to do
        send(Failed(str(error)))
    except Exception as error:  # ends this run, but not the others
        send(Failed(describe_and_keep(error, task.log)))
    if task.role:
        os._exit(0)  # a normal exit would wait for the other workers, which may be gone


def run_role(task: Task, role: Role, send: Send) -> None:
    """Be a scheduler, a server or a worker. All workers send messages, but only worker 0 writes files."""
    if role.name != 'worker':
        serve(role, lambda number: send(Silent(number)))
        return
    group = ParameterServer(role, lambda number: send(Silent(number)))
    send(Joined(group.number))
    with joined(group):
        assert task.norm
        finished = train_one(task, task.norm, send)
        group.gather(numpy.zeros(1))  # waits until worker 0 has written everything
    send(finished)


def train_one(task: Task, norm: str, send: Send) -> Finished:
    """Train with one norm from one seed, send the progress and each epoch, and return what was measured afterwards."""
    seed_everything(task.seed)
    group = current() or Alone()
    what, checkpoint = task.configuration, task.checkpoint()
    train_iter, test_iter = load_data_fashion_mnist(what.batch_size, task.root, num_train=what.num_train)
    if group.size > 1:
        check_alike(group, task, train_iter)
    net = compiled(lenet(norm, what.pool))
    _, results = checkpoint.peek()  # present if only the file of the net is missing
    how: Dict[str, Any] = {'progress': functools.partial(_ProgressSender, send), 'on_epoch': send, 'plot': False}
    history = train(net, train_iter, test_iter, what.num_epochs, what.lr, checkpoint=checkpoint, **how)
    if group.rank > 0:
        return Finished()
    if results is None:
        results = {}
        if NORMS[norm] is not None:
            with joined(Alone()):  # the other workers have finished
                estimate_statistics(net, train_iter)
                results['test_acc_estimated'] = evaluate_accuracy(net, test_iter)
    remedy = 'free some space or check its permissions, and continue with --resume'
    with explained(lambda why: OutputError(f'{task.net_file} cannot be written: {why}; {remedy}')):
        store(parameter_bytes(net), task.net_file)
    checkpoint.save(net, history, results)  # comes last, because a run with results counts as finished
    return Finished(**results)


def parameter_bytes(net: Block) -> bytes:
    """Return the content of the file that save_parameters writes. Raises: OutputError if the disk is full."""
    try:
        with tempfile.TemporaryDirectory() as folder:  # MXNet would leave half a file behind if interrupted
            path = Path(folder, 'net.params')
            try:
                net.save_parameters(str(path))
            except MXNetError:  # gives no reason when it cannot write
                size = sum(parameter.data().size * 8 for parameter in net.collect_params().values())
                Path(folder, 'as much').write_bytes(bytes(size))  # raises OSError if the disk is full
                raise
            params_file.read(path)  # because MXNet may not notice a full disk
            return path.read_bytes()
    except (OSError, InputError) as error:  # InputError: from params_file, for a truncated file
        raise OutputError(
            f'the trained net cannot be written to {tempfile.gettempdir()}, the folder for temporary '
            'files: free some space there, or set TMPDIR to another, and continue with --resume'
        ) from error


def compare_with_scratch(task: Task, send: Send) -> SideBySide:
    """Train with the chapter's maths and with the fused one, on the same few minibatches."""
    send(Started(SIDE_BY_SIDE_BATCHES, 0))
    what, losses, seconds = task.configuration, {}, {}
    num_train = min(SIDE_BY_SIDE_BATCHES * what.batch_size, what.num_train or 60_000)
    for norm in ('fused', 'scratch'):
        seed_everything(task.seed)
        train_iter, test_iter = load_data_fashion_mnist(what.batch_size, task.root, num_train=num_train, num_test=1)
        (epoch,) = train(
            compiled(lenet(norm, what.pool)), train_iter, test_iter, 1, what.lr, plot=False, progress=False
        )
        losses[norm], seconds[norm] = epoch.loss, epoch.seconds / len(train_iter)
    return SideBySide(len(train_iter), losses, seconds)


class _ProgressSender(ContextManager[Any]):
    """A replacement for tqdm's bar, which sends what the bar would show."""

    def __init__(self, send: Send, total: int, initial: int, **kwargs: Any) -> None:
        self.send = send
        self.shown: Any = {}
        send(Started(total, initial))

    def __exit__(self, *error: object) -> None:
        pass

    def set_postfix(self, **shown: str) -> None:
        self.shown = shown

    def update(self, minibatches: int) -> None:
        self.send(Trained(minibatches, self.shown))


if __name__ == '__main__':
    warnings.simplefilter('ignore', DataWarning)  # `compare` has shown it already
    serve_task(lambda task, send: run_task(task_from(task), lambda message: send(content_of(message))))
