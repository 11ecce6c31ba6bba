"""The main job: LeNet with and without batch normalization, on the same data from the same weights."""
from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

from . import report
from .data import check_count, load_data_fashion_mnist
from .environment import machine, versions
from .estimation import estimate_statistics
from .model import NORMS, lenet
from .plots import plot_curves
from .training import check_schedule, evaluate_accuracy, seed_everything, train

BESIDE = 24  # minibatches: a tenth of an epoch


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a comparison trains: every norm from every seed, all else the same."""

    norms: tuple = ('none', 'fused', 'gluon')
    num_epochs: int = 10
    lr: float = 1.0
    batch_size: int = 256
    seeds: tuple = (0, 1, 2)
    pool: str = 'max'

    def __post_init__(self):
        for name, values in (('norms', self.norms), ('seeds', self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f'{name} must be one or more different ones, got {list(values)}')
        check_schedule(self.num_epochs, self.lr)
        check_count('batch_size', self.batch_size)
        for norm in self.norms:
            lenet(norm, self.pool)  # refuses unknown names before hours of training
        for seed in self.seeds:
            if not 0 <= seed < 2 ** 31:
                raise ValueError(f'seeds must be whole numbers from 0 to 2**31 - 1, got {seed}')


def compare(configuration=Configuration(), out=None, root=None, progress=True):
    """Train LeNet by each norm and seed and write what came of it to a run folder.

    Within a seed every norm has the same initial weights, minibatches, pooling and rate.
    The folder `out` (a new one below runs/ by default) gets
        metrics.jsonl   a line an epoch, written as it comes
        summary.json    configuration, versions, machine, results
        curves.svg/png  median over seeds and their range
        report.md       the table and the picture
    Where ours is `fused_batch_norm`, the chapter's `batch_norm` is shown beside it, on a
    tenth of an epoch. Ctrl-C ends the training; what is finished is kept and summed up.

    Returns: (summary, out): the content of summary.json and the folder.
    Raises: ValueError for a configuration that cannot be trained, or an out that holds a
    comparison already.
    """
    out = Path(out) if out else Path('runs') / time.strftime('compare-%Y%m%d-%H%M%S')
    if (out / 'metrics.jsonl').exists():
        raise ValueError(f'out must be a folder without a comparison in it, got {out}; name a new one, or remove it')
    out.mkdir(parents=True, exist_ok=True)
    runs, beside, interrupted = [], None, False
    with open(out / 'metrics.jsonl', 'x', encoding='utf-8') as metrics:
        try:
            for seed in configuration.seeds:
                for norm in configuration.norms:
                    run = {'norm': norm, 'seed': seed, 'history': [], 'finished': False}
                    runs.append(run)
                    _train_one(run, configuration, root, metrics, progress)
            if 'fused' in configuration.norms and 'scratch' not in configuration.norms:
                beside = _beside(configuration, root)
        except KeyboardInterrupt:
            interrupted = True
    summary = {'configuration': dataclasses.asdict(configuration), 'interrupted': interrupted, 'versions': versions(),
               'machine': machine(), 'results': report.summarize(runs), 'beside': beside, 'runs': runs}
    _write(out, summary)
    return summary, out


def _train_one(run, configuration, root, metrics, progress):
    def record(epoch):
        run['history'].append(dataclasses.asdict(epoch))
        metrics.write(json.dumps({'norm': run['norm'], 'seed': run['seed'], **run['history'][-1]}) + '\n')
        metrics.flush()

    seed_everything(run['seed'])
    train_iter, test_iter = load_data_fashion_mnist(configuration.batch_size, root)
    net = lenet(run['norm'], configuration.pool)
    train(net, train_iter, test_iter, configuration.num_epochs, configuration.lr, plot=False, progress=progress,
          on_epoch=record, description=f"{run['norm']}, seed {run['seed']}")
    if NORMS[run['norm']] is not None:
        estimate_statistics(net, train_iter)
        run['test_acc_estimated'] = evaluate_accuracy(net, test_iter)
    run['finished'] = True


def _beside(configuration, root):
    """The chapter's own maths beside the fused one: both on the same minibatches, too few to take long."""
    losses, seconds = {}, {}
    for norm in ('fused', 'scratch'):
        seed_everything(configuration.seeds[0])
        train_iter, test_iter = load_data_fashion_mnist(
            configuration.batch_size, root, num_train=min(BESIDE * configuration.batch_size, 60_000), num_test=1)
        (epoch,) = train(lenet(norm, configuration.pool), train_iter, test_iter, 1, configuration.lr, plot=False,
                         progress=False)
        losses[norm], seconds[norm] = epoch.loss, epoch.seconds / len(train_iter)
    return {'minibatches': len(train_iter), 'loss': losses, 'seconds_a_minibatch': seconds}


def _write(out, summary):
    """Write each result under a temporary name first, so that none is ever half there."""
    figure = plot_curves(summary['runs'])
    text = json.dumps(summary, indent=1) + '\n'
    for name, write in (('summary.json', lambda path: path.write_text(text, encoding='utf-8')),
                        ('curves.svg', lambda path: figure.savefig(path, format='svg')),
                        ('curves.png', lambda path: figure.savefig(path, format='png', dpi=150)),
                        ('report.md', lambda path: path.write_text(report.markdown(summary), encoding='utf-8'))):
        write(out / f'.{name}.part')
        os.replace(out / f'.{name}.part', out / name)
