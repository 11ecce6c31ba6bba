"""The main job: LeNet with and without batch normalization, on the same data from the same weights."""
from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, TextIO, Tuple, Union

from ..arguments import check_count
from ..data import find_files
from ..drawing import pictures
from ..errors import GluonBnError, InputError, OutputError
from ..norm import choose
from ..system.environment import cores, machine, versions
from ..system.processes import perform
from ..system.settings import check_path
from ..system.store import DISK_FULL, check_writable, store
from . import folder, report
from .configuration import Configuration
from .plots import plot_curves
from .progress import Progress
from .run import checkpoint_of, net_of, threads


def compare(configuration: Optional[Configuration] = None, out: Union[None, str, Path] = None,
            root: Union[None, str, Path] = None, progress: bool = True, jobs: Optional[int] = None,
            resume: Union[None, str, Path] = None) -> Tuple[Dict[str, Any], Path]:
    """Train LeNet by each norm and seed and write what came of it to a run folder.

    Within a seed every norm has the same initial weights, minibatches, pooling and rate.
    Each run has a process of its own, with OMP_NUM_THREADS=1 unless that is set; `jobs` of
    them train at a time (as many as this process may use cores, by default), which changes
    the seconds and nothing else. configuration: a `Configuration`; None is that of the chapter.
    The folder `out` (a new one below runs/ by default) gets
        metrics.jsonl   a line an epoch, written as it comes
        nets/           the state of each run after its last epoch, and the trained net
        summary.json    configuration, versions, machine, results
        curves.svg/png  median over seeds and their range
        report.md       the table and the picture
    Where ours is `fused_batch_norm`, the chapter's `batch_norm` is shown beside it, on a
    tenth of an epoch. A run that fails is marked, and the others go on. Ctrl-C ends the training;
    what is finished is kept and summed up. resume: the folder of a comparison that was
    stopped or killed, to go on from the last epoch of each run, to the same metrics.

    Returns: (summary, out): the content of summary.json and the folder.
    Raises: InputError for a configuration that cannot be trained, an out that holds results already or
    cannot be written, or a damaged or different comparison to resume; DataUnavailable and NativeError
    before anything is written; OutputError if the results cannot be written.
    """
    if resume is not None:
        if out is not None:
            raise InputError(f'must be left out with resume, which goes on in its own folder, got {out}', 'out')
        out = check_path('resume', resume, 'the folder of a comparison', folder.NAME_IT)
        configuration = configuration or folder.configuration_of(out)
        folder.check_same(configuration, out)
        _check_writable(out)
    else:
        configuration = configuration or Configuration()
        kind = 'compare' if len(configuration.norms) * len(configuration.seeds) > 1 else 'train'
        out = (Path('runs') / time.strftime(f'{kind}-%Y%m%d-%H%M%S') if out is None else
               check_path('out', out, 'the folder for the results', 'leave it out for a new one below runs/'))
    jobs = check_count('jobs', cores() if jobs is None else jobs)
    find_files(root)  # what is missing is missed before anything is written
    environment = {'OMP_NUM_THREADS': threads()}
    if 'fused' in configuration.norms:
        environment['GLUON_BN_FUSED'] = choose()[0]  # compiles once, for all runs, before a clock starts
    with folder.locked(out) if resume is not None else folder.new(out, configuration):
        try:
            return _summarize(out, configuration, root, Progress(progress), jobs, environment), out
        except OSError as error:
            refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and _is_in(error.filename, out)
            if isinstance(error, GluonBnError) or error.errno not in DISK_FULL and not refused:
                raise
            remedy = 'make room' if error.errno in DISK_FULL else 'check its permissions'
            raise OutputError(f'{error.filename or out} cannot be written: {error.strerror or error}; what was written '
                              f'before is intact: {remedy}, and go on with --resume {out}') from error


def _check_writable(out: Path) -> None:
    try:
        check_writable(out / 'summary.json')
        check_writable(out / 'nets' / 'a net')
    except OSError as error:
        raise InputError(f'must be a folder that can be written, got {out}: {error.strerror or error}; '
                         'check its permissions', 'resume') from error


def _is_in(filename: Union[None, str, bytes, int], out: Path) -> bool:
    return isinstance(filename, str) and Path(out).resolve() in Path(filename).resolve().parents


def _summarize(out: Path, configuration: Configuration, root: Union[None, str, Path], progress: Progress, jobs: int,
               environment: Dict[str, str]) -> Dict[str, Any]:
    """Train what is not finished yet, write all results, and return the summary."""
    common = {**dataclasses.asdict(configuration), 'root': None if root is None else str(root), 'folder': str(out)}
    runs: List[Dict[str, Any]] = []
    tasks: List[Dict[str, Any]] = []
    for seed in configuration.seeds:
        for norm in configuration.norms:
            tasks.append({'do': 'train', 'norm': norm, 'seed': seed, **common})
            checkpoint = checkpoint_of(tasks[-1])
            history, results = checkpoint.peek()
            finished = results is not None and net_of(checkpoint).exists()
            runs.append({'norm': norm, 'seed': seed, 'history': history, 'finished': finished,
                         'failed': None, 'diverged': False, **(results or {})})
    # Of a process that was killed, the last line may be broken, or missing: the checkpoints have what is true.
    store(''.join(_line(run, epoch) for run in runs for epoch in run['history']).encode(), out / 'metrics.jsonl')
    earlier = _earlier(out)
    found: Dict[str, Any] = {'beside': earlier.get('beside'), 'interrupted': False}
    if not found['beside'] and 'fused' in configuration.norms and 'scratch' not in configuration.norms and (
            len(configuration.norms) > 1):
        tasks.append({'do': 'beside', 'norm': 'fused', 'seed': configuration.seeds[0], **common})
    if all(run['finished'] for run in runs):
        sitting = earlier.get('jobs')
        progress.say(f'Every run in {out} is finished')
    else:
        sitting = None if any(run['history'] for run in runs) else min(jobs, len(runs))
        progress.say(f'The results go to {out}; whatever ends this, --resume {out} goes on')
    with open(out / 'metrics.jsonl', 'a', encoding='utf-8') as metrics:
        try:
            _train_all(runs, tasks, found, metrics, progress, jobs, environment)
        except KeyboardInterrupt:
            found['interrupted'] = True
    summary = {'configuration': dataclasses.asdict(configuration), **found, 'versions': versions(),
               'machine': {**machine(), **environment}, 'jobs': sitting,
               'results': report.summarize(runs), 'runs': runs}
    _write(out, summary)
    return summary


def _train_all(runs: List[Dict[str, Any]], tasks: List[Dict[str, Any]], found: Dict[str, Any], metrics: TextIO,
               progress: Progress, jobs: int, environment: Dict[str, str]) -> None:
    """Do the tasks, one for each of the runs and then perhaps one more; fills in runs and found as results come."""
    todo = [i for i in range(len(tasks)) if i >= len(runs) or not runs[i]['finished']]
    coming = perform('gluon_bn.comparison.worker', [tasks[i] for i in todo], jobs, environment)
    with contextlib.closing(progress), contextlib.closing(coming):
        for index, message in coming:
            (kind, content), = message.items()
            if todo[index] == len(runs):
                if kind == 'finished':
                    found['beside'] = content
                else:
                    progress.say(f"the chapter's batch_norm beside the others: {content}")
                continue
            run = runs[todo[index]]
            name = f"{run['norm']}, seed {run['seed']}"
            if kind == 'started':
                progress.started(name, **content)
            elif kind == 'update':
                progress.update(name, **content)
            elif kind == 'epoch':
                run['history'].append(content)
                metrics.write(_line(run, content))
                metrics.flush()
                progress.epoch(name, tasks[0]['num_epochs'], content)
            elif kind == 'finished':
                run.update(content, finished=True)
                progress.ended(name)
            elif not run['finished'] and not run['failed']:  # of a process that says why and then crashes, the first
                run.update(failed=content, diverged=kind == 'diverged')
                progress.ended(name, content)


def _earlier(out: Path) -> Dict[str, Any]:
    """The summary of an earlier sitting; empty if there is none, or it is damaged.

    Raises: InputError if it cannot be read: what it says of the seconds would be lost.
    """
    path = out / 'summary.json'
    try:
        earlier = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f'must be a folder whose files can be read, got {out}: summary.json cannot be: '
                         f'{error.strerror or error}; check its permissions', 'resume') from error
    except ValueError:  # no JSON, or no UTF-8: of a process that was killed on a machine without atomic renames
        return {}
    return earlier if isinstance(earlier, dict) else {}


def _line(run: Dict[str, Any], epoch: Dict[str, Any]) -> str:
    return json.dumps({'norm': run['norm'], 'seed': run['seed'], **epoch}, allow_nan=False) + '\n'


def _write(out: Path, summary: Dict[str, Any]) -> None:
    """Write each result so that none is ever half there."""
    curves = pictures(plot_curves(summary['runs']))
    store((json.dumps(summary, indent=1, allow_nan=False) + '\n').encode(), out / 'summary.json')
    for extension, picture in curves.items():
        store(picture, out / f'curves.{extension}')
    store(report.markdown(summary).encode(), out / 'report.md')
