"""The report of a comparison: the results by norm, as a table and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence

from tabulate import tabulate

from ..drawing import LABELS
from .summary import Result, Spread, Summary

HEADERS = ('norm', 'train loss', 'train acc', 'test acc', 'test acc, estimated', 's/epoch')

CAPTION = (
    'Median over the seeds (lowest to highest) of the last epoch. Estimated: with the statistics estimated once '
    'over the training set in place of the moving averages.'
)


def three_digits(number: float) -> str:
    """Format with three decimals, or with three digits and an exponent from 10,000 on."""
    return f'{number:.3f}' if number < 1e4 else f'{number:.2e}'


def table(results: Sequence[Result], tablefmt: str = 'simple') -> str:
    """Return the results as a text table."""
    rows = []
    for result in results:
        spreads = map(_show, (result.loss, result.train_acc, result.test_acc, result.test_acc_estimated))
        rows.append([_label(result), *spreads, f'{result.seconds.median:.1f}' if result.seconds else '-'])
    return str(tabulate(rows, HEADERS, tablefmt=tablefmt, disable_numparse=True))


def caption(jobs: Optional[int]) -> str:
    """Explain the numbers of the table, and say how many runs shared the machine when the seconds were measured."""
    if jobs is None:
        return f'{CAPTION} Seconds: measured with interruptions, so they may not be comparable.'
    return f'{CAPTION} Seconds: ' + (f'with {jobs} runs at a time.' if jobs > 1 else 'one run at a time.')


def failures(summary: Summary) -> List[str]:
    """Return a line for each run that failed, with the reason."""
    return [
        f'{LABELS.get(run.norm, run.norm)}, seed {run.seed}, failed after {len(run.history)} epochs: {run.failed}'
        for run in summary.runs
        if run.failed is not None
    ]


def beside(summary: Summary) -> str:
    """Return a sentence that compares the chapter's maths with the fused one, or '' if that was not run."""
    found = summary.beside
    if not found:
        return ''
    loss, seconds = found.loss, found.seconds_a_minibatch
    batches = -(-(summary.configuration.num_train or 60_000) // summary.configuration.batch_size)
    return (
        f"For comparison, the chapter's batch_norm on the same {found.minibatches} minibatches: mean loss "
        f"{loss['scratch']:.4f} (fused_batch_norm: {loss['fused']:.4f}), {seconds['scratch'] * 1000:.0f} ms each, "
        f"or {seconds['scratch'] * batches:.1f} s per epoch."
    )


def minutes(seconds: float) -> str:
    """Return a rough time in words: about 40 s, about 12 min."""
    return f'about {seconds / 60:.0f} min' if seconds >= 90 else f'about {max(10, round(seconds, -1)):.0f} s'


def partial(summary: Summary, finished: int, out: Path, left: Optional[float]) -> str:
    """Return the table of the finished runs, to show while the others train."""
    ends = f'; {minutes(left)} left' if left else ''
    title = f'Partial result, {finished} of {len(summary.runs)} runs{ends}. Curves so far: {out / "curves.png"}'
    return f'\n{title}\n{table(summary.results)}\n'


def markdown(summary: Summary, is_partial: bool = False) -> str:
    """Return the report of a comparison as a Markdown page, to be stored beside its curves.png."""
    configuration, machine = summary.configuration, summary.machine
    lines = ['# LeNet on Fashion-MNIST, with and without batch normalization', '']
    if is_partial:
        lines += ['Partial result: the comparison is still running; this page shows the finished runs.', '']
    elif summary.interrupted:
        lines += ['The comparison was stopped; this page shows what had finished.', '']
    lines += [
        f'Epochs: {configuration.num_epochs}; learning rate: {configuration.lr}; batch size: '
        f'{configuration.batch_size}; training examples: {configuration.num_train or 60_000:,}; '
        f"pooling: {configuration.pool}; seeds: {', '.join(map(str, configuration.seeds))}.",
        '',
        table(summary.results, 'github'),
        '',
        caption(summary.jobs),
        '',
    ]
    if failed := failures(summary):
        lines += [*(f'- {line}' for line in failed), '']
    if summary.beside:
        lines += [beside(summary), '']
    versions = ', '.join(f'{name} {version}' for name, version in summary.versions.items())
    lines += [
        '![loss and accuracy over the epochs](curves.png)',
        '',
        f"Measured on {machine['processor']}, {machine['cores']} cores, with {versions}.",
        '',
    ]
    return '\n'.join(lines)


def _label(result: Result) -> str:
    label, runs = LABELS.get(result.norm, result.norm), result.failed + result.seeds
    return f'{label} ({result.failed} of {runs} failed)' if result.failed else label


def _show(value: Optional[Spread]) -> str:
    if value is None:
        return '-'
    median, lowest, highest = map(three_digits, (value.median, value.min, value.max))
    return median if lowest == highest else f'{median} ({lowest} to {highest})'
