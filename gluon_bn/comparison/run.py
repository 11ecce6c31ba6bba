"""One run of a comparison, LeNet by one norm from one seed: `compare` starts it as a process of its own."""
from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from pathlib import Path

from mxnet import MXNetError

from ..data import load_data_fashion_mnist
from ..errors import GluonBnError, InputError, OutputError
from ..model import NORMS, lenet
from ..norm import choose
from ..system.store import store
from ..system.unexpected import describe_and_keep
from ..training import Checkpoint, Diverged, estimate_statistics, evaluate_accuracy, params_file, seed_everything, train

BESIDE = 24  # minibatches: a tenth of an epoch


def work(task, send):
    """Do a task and send what comes of it; an error is sent too, as {'failed': why} or {'diverged': why}.

    The traceback of an error that nobody expected goes to the log of the run, a file in the comparison's folder.
    """
    try:
        if task['norm'] == 'fused':
            choose()  # compiled and loaded before a clock runs
        send({'finished': {'train': train_one, 'beside': beside}[task['do']](task, send)})
    except Diverged as error:
        send({'diverged': str(error)})
    except GluonBnError as error:  # which says itself what to do
        send({'failed': str(error)})
    except Exception as error:  # whatever it is, the run is over, and the others go on
        send({'failed': describe_and_keep(error, log_of(task))})


def train_one(task, send):
    """Train by task['norm'] from task['seed']; sends its progress and each epoch, returns what was measured after."""
    seed_everything(task['seed'])
    train_iter, test_iter = load_data_fashion_mnist(task['batch_size'], task['root'], num_train=task['num_train'])
    net, checkpoint = lenet(task['norm'], task['pool']), checkpoint_of(task)
    _, results = checkpoint.peek()  # of a run that is over, but for the file of its net
    history = train(net, train_iter, test_iter, task['num_epochs'], task['lr'], plot=False,
                    progress=functools.partial(_SentBar, send), checkpoint=checkpoint,
                    on_epoch=lambda epoch: send({'epoch': dataclasses.asdict(epoch)}))
    if results is None:
        results = {}
        if NORMS[task['norm']] is not None:
            estimate_statistics(net, train_iter)
            results['test_acc_estimated'] = evaluate_accuracy(net, test_iter)
    try:
        store(saved(net), net_of(checkpoint))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f'{net_of(checkpoint)} cannot be written: {error.strerror or error}; make room or check its '
                          'permissions, and go on with --resume') from error
    checkpoint.save(net, history, results)  # the last: a run with results is over
    return results


def saved(net):
    """The content of the file that save_parameters writes. Raises: OutputError if there is no room for it."""
    try:
        with tempfile.TemporaryDirectory() as folder:  # MXNet would leave half a file behind where it is stopped
            path = Path(folder, 'net.params')
            try:
                net.save_parameters(str(path))
            except MXNetError:  # which names no reason where it cannot write
                Path(folder, 'as much').write_bytes(bytes(saved_size(net)))  # raises OSError if there is no room
                raise
            params_file.read(path)  # MXNet may not notice that a disk is full
            return path.read_bytes()
    except (OSError, InputError) as error:  # InputError: of params_file, for a file that is cut off
        raise OutputError(f'the trained net cannot be written to {tempfile.gettempdir()}, the folder for temporary '
                          'files: make room there, or set TMPDIR to another, and go on with --resume') from error


def saved_size(net):
    """How many bytes the file of a net has, about."""
    return sum(parameter.data().size * 8 for parameter in net.collect_params().values())


def net_of(checkpoint):
    """The file of the trained net, beside the checkpoint of its run."""
    return checkpoint.path.with_suffix('.params')


def checkpoint_of(task):
    """The checkpoint of a run, in the folder of its comparison."""
    configuration = {key: task[key] for key in ('norm', 'seed', 'num_epochs', 'lr', 'batch_size', 'pool', 'num_train')}
    if task['norm'] == 'fused':
        configuration['GLUON_BN_FUSED'] = choose()[0]  # the two paths round differently
    configuration['OMP_NUM_THREADS'] = threads()  # which split a sum, and so round differently too
    return Checkpoint(Path(task['folder']) / 'nets' / f"{task['norm']}-{task['seed']}.checkpoint", configuration)


def log_of(task):
    """The file for the traceback of a run that fails; it is made only then."""
    return Path(task['folder']) / ('beside.log' if task['do'] == 'beside' else f"{task['norm']}-{task['seed']}.log")


def threads():
    """How many threads a run has, as OMP_NUM_THREADS says it: one, unless that is set."""
    return os.environ.get('OMP_NUM_THREADS') or '1'


def beside(task, send):
    """The chapter's own maths beside the fused one: both on the same minibatches, too few to take long."""
    send({'said': f'{BESIDE} minibatches, some seconds'})
    losses, seconds = {}, {}
    num_train = min(BESIDE * task['batch_size'], task['num_train'] or 60_000)
    for norm in ('fused', 'scratch'):
        seed_everything(task['seed'])
        train_iter, test_iter = load_data_fashion_mnist(task['batch_size'], task['root'], num_train=num_train,
                                                        num_test=1)
        (epoch,) = train(lenet(norm, task['pool']), train_iter, test_iter, 1, task['lr'], plot=False, progress=False)
        losses[norm], seconds[norm] = epoch.loss, epoch.seconds / len(train_iter)
    return {'minibatches': len(train_iter), 'loss': losses, 'seconds_a_minibatch': seconds}


class _SentBar:
    """In the place of tqdm's bar: sends what that would show."""

    def __init__(self, send, total, initial, **kwargs):
        self.send, self.shown = send, {}
        send({'started': {'total': total, 'initial': initial}})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def set_postfix(self, **shown):
        self.shown = shown

    def update(self, minibatches):
        self.send({'update': {'minibatches': minibatches, 'shown': self.shown}})
