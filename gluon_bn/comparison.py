"""The main job: LeNet with and without batch normalization, on the same data from the same weights."""
from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import time
from pathlib import Path
from typing import Optional

from . import report
from .data import check_count
from .environment import cores, machine, versions
from .fashion_mnist import find_files
from .fused import choose
from .model import NORMS, lenet
from .plots import plot_curves
from .processes import perform
from .progress import Progress
from .store import store
from .training import check_schedule


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a comparison trains: every norm from every seed, all else the same.

    num_train: only the first so many training examples, for a quick run.
    """

    norms: tuple = ('none', 'fused', 'gluon')
    num_epochs: int = 10
    lr: float = 1.0
    batch_size: int = 256
    seeds: tuple = (0, 1, 2)
    pool: str = 'max'
    num_train: Optional[int] = None

    def __post_init__(self):
        for name, values in (('norms', self.norms), ('seeds', self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f'{name} must be one or more different ones, got {list(values)}')
        check_schedule(self.num_epochs, self.lr)
        check_count('batch_size', self.batch_size)
        if self.num_train is not None:
            check_count('num_train', self.num_train, 60_000)
        for norm in self.norms:
            lenet(norm, self.pool)  # refuses unknown names before hours of training
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2 ** 31:
                raise ValueError(f'seeds must be whole numbers from 0 to 2**31 - 1, got {seed!r}')
        if any(NORMS[norm] for norm in self.norms):
            self._check_smallest_minibatch()

    def _check_smallest_minibatch(self):
        num_train = self.num_train or 60_000
        smallest = num_train % self.batch_size or self.batch_size
        if smallest == 1:
            raise ValueError(f'batch_size must leave no minibatch of a single example, from which batch normalization '
                             f'learns nothing, got {self.batch_size} for {num_train:,} examples; take another')


def compare(configuration=None, out=None, root=None, progress=True, jobs=None):
    """Train LeNet by each norm and seed and write what came of it to a run folder.

    Within a seed every norm has the same initial weights, minibatches, pooling and rate.
    Each run has a process of its own, with OMP_NUM_THREADS=1 unless that is set; `jobs` of
    them train at a time (as many as this process may use cores, by default), which changes
    the seconds and nothing else. configuration: a `Configuration`; None is that of the chapter.
    The folder `out` (a new one below runs/ by default) gets
        metrics.jsonl   a line an epoch, written as it comes
        summary.json    configuration, versions, machine, results
        curves.svg/png  median over seeds and their range
        report.md       the table and the picture
    Where ours is `fused_batch_norm`, the chapter's `batch_norm` is shown beside it, on a
    tenth of an epoch. Ctrl-C ends the training; what is finished is kept and summed up. A run
    that fails is marked, and the others go on.

    Returns: (summary, out): the content of summary.json and the folder.
    Raises: ValueError for a configuration that cannot be trained, or an out that holds a
    comparison already; DataUnavailable and NativeError before anything is written.
    """
    configuration = configuration or Configuration()
    jobs = cores() if jobs is None else jobs
    check_count('jobs', jobs)
    out = Path(out) if out else Path('runs') / time.strftime('compare-%Y%m%d-%H%M%S')
    if (out / 'metrics.jsonl').exists():
        raise ValueError(f'out must be a folder without a comparison in it, got {out}; name a new one, or remove it')
    find_files(root)  # what is missing is missed before anything is written
    environment = {'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS') or '1'}
    if 'fused' in configuration.norms:
        environment['GLUON_BN_FUSED'] = choose()[0]  # compiles once, for all runs, before a clock starts
    out.mkdir(parents=True, exist_ok=True)
    runs = [{'norm': norm, 'seed': seed, 'history': [], 'finished': False, 'failed': None}
            for seed in configuration.seeds for norm in configuration.norms]
    found = {'beside': None, 'interrupted': False}
    with open(out / 'metrics.jsonl', 'x', encoding='utf-8') as metrics:
        try:
            _train_all(runs, found, configuration, root, metrics, Progress(progress), jobs, environment)
        except KeyboardInterrupt:
            found['interrupted'] = True
    summary = {'configuration': dataclasses.asdict(configuration), **found, 'versions': versions(),
               'machine': {**machine(), **environment}, 'jobs': min(jobs, len(runs)),
               'results': report.summarize(runs), 'runs': runs}
    _write(out, summary)
    return summary, out


def _train_all(runs, found, configuration, root, metrics, progress, jobs, environment):
    """Train each of the runs, and the chapter's norm beside them; fills in runs and found as results come."""
    common = {**dataclasses.asdict(configuration), 'root': None if root is None else str(root)}
    tasks = [{'do': 'train', 'norm': run['norm'], 'seed': run['seed'], **common} for run in runs]
    if 'fused' in configuration.norms and 'scratch' not in configuration.norms and len(configuration.norms) > 1:
        tasks.append({'do': 'beside', 'norm': 'fused', 'seed': configuration.seeds[0], **common})
    with contextlib.closing(progress), contextlib.closing(perform('gluon_bn.run', tasks, jobs, environment)) as coming:
        for index, message in coming:
            (kind, content), = message.items()
            if index == len(runs):
                if kind == 'failed':
                    progress.say(f"the chapter's batch_norm beside the others: {content}")
                else:
                    found['beside'] = content
                continue
            run, name = runs[index], f"{runs[index]['norm']}, seed {runs[index]['seed']}"
            if kind == 'started':
                progress.started(name, **content)
            elif kind == 'update':
                progress.update(name, **content)
            elif kind == 'epoch':
                run['history'].append(content)
                metrics.write(json.dumps({'norm': run['norm'], 'seed': run['seed'], **content}, allow_nan=False) + '\n')
                metrics.flush()
                progress.epoch(name, configuration.num_epochs, content)
            elif kind == 'finished':
                run.update(content, finished=True)
                progress.ended(name)
            elif not run['finished']:
                run['failed'] = content
                progress.ended(name, content)


def _write(out, summary):
    """Write each result so that none is ever half there."""
    figure, pictures = plot_curves(summary['runs']), {}
    for extension in ('svg', 'png'):
        pictures[extension] = io.BytesIO()
        figure.savefig(pictures[extension], format=extension, dpi=150)
    store((json.dumps(summary, indent=1, allow_nan=False) + '\n').encode(), out / 'summary.json')
    for extension, picture in pictures.items():
        store(picture.getvalue(), out / f'curves.{extension}')
    store(report.markdown(summary).encode(), out / 'report.md')
