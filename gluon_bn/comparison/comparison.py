"""The main job: LeNet with and without batch normalization, on the same data from the same weights."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, TextIO, Tuple, Union

from ..data import find_files
from ..drawing import pictures
from ..errors import GluonBnError, InputError, OutputError, explained
from ..norm import choose
from ..system import threads
from ..system.arguments import check_count
from ..system.environment import machine, versions
from ..system.processes import run_tasks
from ..system.settings import check_path, new_folder
from ..system.store import DISK_FULL, check_writable, store
from ..training import Epoch
from . import folder, report
from .cluster import MODULE, WORKERS, check_same_workers, check_workers, run_on_workers, threads_of
from .configuration import Configuration
from .places import Part, on_this_machine
from .plots import plot_curves
from .progress import Progress
from .summary import Run, SideBySide, Summary, time_left
from .task import Failed, Finished, Started, Task, message_from

Pending = Tuple[Task, Optional[Run]]  # run is None for the chapter's batch_norm beside the others
ISA = "GLUON_BN_ISA"
BESIDE = "the chapter's batch_norm beside the others"


def compare(
    configuration: Optional[Configuration] = None,
    out: Union[None, str, Path] = None,
    root: Union[None, str, Path] = None,
    progress: bool = True,
    jobs: Optional[int] = None,
    resume: Union[None, str, Path] = None,
    workers: int = 1,
    parts: Sequence[Part] = (),
) -> Tuple[Dict[str, Any], Path]:
    """Train LeNet with each norm from each seed, and write the results to a run folder.

    For each seed, all norms have the same initial weights, minibatches, pooling and rate.
    Each run has its own process, or one for each worker; `system.threads` says how many threads each uses. `jobs` of
    them train at a time (by default, the number of cores that this process may use), which affects only the seconds.
    configuration: a `Configuration`; None is the chapter's.
    The folder `out` (a new one below runs/ by default) gets
        metrics.jsonl   a line per epoch, written as it completes
        nets/           the state of each run after its last epoch, and the trained net
        summary.json    configuration, versions, machine, results
        curves.svg/png  median over seeds and their range
        report.md       the table and the picture
    Beside `fused_batch_norm`, the chapter's `batch_norm` is measured too, on a tenth of an
    epoch. A run that fails is marked, and the others continue. Ctrl-C ends the training, and
    what has finished is kept and summarized. resume: the folder of a comparison that was
    stopped or killed, to continue each run after its last epoch, to the same metrics.
    workers: the number of processes that share the minibatches of a run; runs then train one at a time.
    parts: where these processes run; by default, all on this machine.

    Returns: (summary, out): the content of summary.json and the folder.
    Raises: InputError for a configuration that cannot be trained, an out that already holds results or
    cannot be written, or a damaged or different comparison to resume; DataUnavailable and NativeError
    before anything is written; OutputError if the results cannot be written.
    """
    if resume is not None:
        if out is not None:
            raise InputError(f'must not be given with resume, which continues in its own folder, got {out}', 'out')
        out = check_path('resume', resume, 'the folder of a comparison', folder.NAME_IT)
        configuration = configuration or folder.configuration_of(out)
        folder.check_same(configuration, out)
        expected = f'must be a folder that can be written, got {out}'
        with explained(lambda why: InputError(f'{expected}: {why}; check its permissions', 'resume')):
            check_writable(out / 'summary.json')
            check_writable(out / 'nets' / 'a net')
    else:
        configuration = configuration or Configuration()
        kind = 'compare' if len(configuration.norms) * len(configuration.seeds) > 1 else 'train'
        remedy = 'leave it out for a new one below runs/'
        out = new_folder(kind) if out is None else check_path('out', out, 'the folder for the results', remedy)
    jobs = check_count('jobs', threads.cores() if jobs is None else jobs)
    check_workers(workers, configuration)
    parts = parts or (on_this_machine(workers) if workers > 1 else ())
    jobs = 1 if parts else jobs
    find_files(root)  # fails on missing data before anything is written
    recorded = folder.environment_of(out) if resume is not None else {}
    check_same_workers(workers, configuration, recorded)
    environment = threads_of(configuration, parts, recorded)
    if workers > 1:
        environment[WORKERS] = str(workers)
    if {'fused', 'sync'} & set(configuration.norms):
        choose()  # compiles once for all runs, before the clock starts
    if 'fused' in configuration.norms:
        environment['GLUON_BN_FUSED'] = choose()[0]
        if environment['GLUON_BN_FUSED'] == 'native' and (resume is None or ISA in recorded):
            environment[ISA] = os.environ.get(ISA) or recorded.get(ISA, 'native')
    with folder.locked(out) if resume is not None else folder.create(out, configuration, environment):
        try:
            plan = _Plan(out, Progress(progress, configuration.num_epochs), jobs, environment, parts)
            return _run(plan, configuration, root).content(), out
        except OSError as error:
            in_folder = error.filename is not None and out.resolve() in Path(str(error.filename)).resolve().parents
            refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and in_folder
            if isinstance(error, GluonBnError) or error.errno not in DISK_FULL and not refused:
                raise
            remedy = 'free some space' if error.errno in DISK_FULL else 'check its permissions'
            raise OutputError(
                f'{error.filename or out} cannot be written: {error.strerror or error}; what was written '
                f'before is intact: {remedy}, and continue with --resume {out}'
            ) from error


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How to train: results folder, number of runs at a time, their environment variables, processes of the workers."""

    out: Path
    progress: Progress
    jobs: int
    environment: Dict[str, str]
    parts: Sequence[Part]


def _run(plan: _Plan, configuration: Configuration, root: Union[None, str, Path]) -> Summary:
    """Train the runs that have not finished, write all results, and return the summary."""
    out, norms, environment = plan.out, configuration.norms, plan.environment
    where = str(out), None if root is None else str(root)
    tasks = [Task(configuration, norm, seed, *where, environment) for seed in configuration.seeds for norm in norms]
    runs = [_earlier_run(task) for task in tasks]
    # Rewrite it from the checkpoints: if a process was killed, its last line may be cut off or missing.
    store(''.join(_line(run, epoch) for run in runs for epoch in run.history).encode(), out / 'metrics.jsonl')
    earlier_jobs, earlier_beside = _earlier_summary(out)
    if all(run.finished for run in runs):
        jobs_used = earlier_jobs
        plan.progress.say(f'Every run in {out} has finished')
    else:
        jobs_used = None if any(run.history for run in runs) else min(plan.jobs, len(runs))
        plan.progress.say(f'The results go to {out}; to continue after an interruption: --resume {out}')
    used = {**machine(), **environment, **({'workers': plan.parts[0].role.workers} if plan.parts else {})}
    summary = Summary(configuration, earlier_beside, False, versions(), used, jobs_used, runs)
    pending: List[Pending] = [(task, run) for task, run in zip(tasks, runs) if not run.finished]
    if not summary.beside and 'fused' in norms and 'scratch' not in norms and len(norms) > 1:
        pending.append((Task(configuration, None, configuration.seeds[0], *where, environment), None))
    with open(out / 'metrics.jsonl', 'a', encoding='utf-8') as metrics:
        try:
            _train(plan, pending, summary, metrics)
        except KeyboardInterrupt:
            summary.interrupted = True
    _write(out, summary)
    return summary


def _earlier_run(task: Task) -> Run:
    """Return the run as recorded in its checkpoint."""
    assert task.norm
    history, results = task.checkpoint().peek()
    finished = results is not None and task.net_file.exists()
    return Run(task.norm, task.seed, [Epoch(**epoch) for epoch in history], finished, **(results or {}))


def _is_over(run: Run) -> bool:
    return run.finished or run.failed is not None


def _train(plan: _Plan, pending: Sequence[Pending], summary: Summary, metrics: TextIO) -> None:
    """Run the tasks, and fill in their runs as results arrive; the task without a run fills in the summary.

    After each seed, the results so far are written and shown.
    """
    start, progress = time.perf_counter(), plan.progress
    measured: List[Tuple[str, float]] = []  # (norm, seconds) of each epoch
    tasks = [task for task, _ in pending]
    if plan.parts:
        messages = run_on_workers(MODULE, tasks, plan.parts, plan.environment)
    else:
        messages = run_tasks(MODULE, list(map(dataclasses.asdict, tasks)), plan.jobs, plan.environment)
    with contextlib.closing(progress), contextlib.closing(messages):
        for index, content in messages:
            run, message = pending[index][1], message_from(content)
            if run is None:
                if isinstance(message, SideBySide):
                    summary.beside = message
                elif isinstance(message, Started):
                    progress.say(f'{BESIDE}: {message.total} minibatches, some seconds')
                else:
                    progress.update(BESIDE, message)
                continue
            if isinstance(message, Failed):
                if run.finished or run.failed:  # the first reason counts
                    continue
                run.failed, run.diverged = message.reason, message.diverged
            elif isinstance(message, Finished):
                run.finished, run.test_acc_estimated = True, message.test_acc_estimated
            elif isinstance(message, Epoch):
                run.history.append(message)
                metrics.write(_line(run, message))
                metrics.flush()
                measured.append((run.norm, message.seconds))
                elapsed = time.perf_counter() - start
                progress.left = time_left(summary.runs, summary.configuration.num_epochs, measured, elapsed)
            progress.update(f'{run.norm}, seed {run.seed}', message)
            seed_is_over = all(_is_over(other) for other in summary.runs if other.seed == run.seed)
            if isinstance(message, (Finished, Failed)) and seed_is_over:
                finished = sum(map(_is_over, summary.runs))
                if finished < len(summary.runs):
                    _write(plan.out, dataclasses.replace(summary, interrupted=True), partial=True)
                    progress.say(report.partial(summary, finished, plan.out, progress.left))


def _earlier_summary(out: Path) -> Tuple[Optional[int], Optional[SideBySide]]:
    """Return the jobs and the side-by-side run of the comparison to resume; None for what its summary does not tell.

    Raises: InputError if it cannot be read, because its note on the seconds would be lost.
    """
    expected = f'must be a folder whose files can be read, got {out}: summary.json cannot be'
    with explained(lambda why: InputError(f'{expected}: {why}; check its permissions', 'resume')):
        try:
            content = json.loads((out / 'summary.json').read_bytes())
            return content['jobs'], SideBySide(**content['beside']) if content['beside'] else None
        except FileNotFoundError:
            return None, None
        except (ValueError, TypeError, KeyError):  # damaged: the process was killed on a machine without atomic renames
            return None, None


def _line(run: Run, epoch: Epoch) -> str:
    return json.dumps({'norm': run.norm, 'seed': run.seed, **dataclasses.asdict(epoch)}, allow_nan=False) + '\n'


def _write(out: Path, summary: Summary, partial: bool = False) -> None:
    """Write each result atomically. partial: whether the training continues."""
    content = summary.content()
    curves = pictures(plot_curves(content['runs']))
    store((json.dumps(content, indent=1, allow_nan=False) + '\n').encode(), out / 'summary.json')
    for extension, picture in curves.items():
        store(picture, out / f'curves.{extension}')
    store(report.markdown(summary, partial).encode(), out / 'report.md')
