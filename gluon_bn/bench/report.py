"""A result of the benchmark as text: tables for the terminal, and a page in Markdown that says how it was measured."""
from __future__ import annotations

import math
import os
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from tabulate import tabulate

from .parts import BATCH_SIZE, NUM_TRAIN
from .results import AccuracyResult, LayerResult, ProfileResult, Result
from .rounds import Measurement, present

HEADERS = {'scratch': 'batch_norm', 'portable': 'portable', 'native': 'native', 'gluon': 'Gluon', 'torch': 'PyTorch',
           'none': 'no normalization', 'd2l gluon': "Gluon, d2l's loop", 'd2l scratch': "batch_norm, d2l's loop"}
METHOD = (
    'Columns take turns, round by round, and each ratio is taken within its rounds; medians, with quartiles and rounds '
    'in the JSON. A turn takes about 40 ms, at least one run, after one that warms the cache. What takes more than '
    '0.3 s has three turns.',
    'Each framework has a process of its own, which sleeps while another works; copies have one too.',
    'Threads: PyTorch is told to use {cores}, the number of cores; MXNet and the native path decide for themselves '
    '(OMP_NUM_THREADS: {omp}). Nothing else of OpenMP is set (OMP_WAIT_POLICY: {wait}, GOMP_SPINCOUNT: {spin}).',
    "glibc keeps freed memory in MXNet's process and in PyTorch's alike (GLUON_BN_MALLOC=0 leaves both alone); d2l's "
    'loop runs as its reader runs it, without.',
    'A layer is one of a stack of four, and has a quarter of its time: in a network too its input is the output of '
    'another layer, and not a variable with a gradient of its own.',
    'A layer is called in training mode with all its bookkeeping: X has a gradient, the upstream gradient is random, '
    'the moving statistics move. MXNet works behind Python and is waited for at the end of a turn, as a training loop '
    "does not wait for a layer either. PyTorch's gradients are set to None before each run, as by zero_grad.",
    'The memory floor is a copy of an array of the same size, by one core or all, whichever is faster, in the same '
    'rounds. A copy passes over memory twice. Forward must do so twice (read X, write Y), forward + backward five '
    'times (and read dY, read X, write dX). Small arrays stay in the cache, and there starting an operator costs more '
    'than its work.',
    "An epoch trains a new LeNet; its time does not include the test after it. PyTorch's has the same architecture, "
    "batches in memory, shuffling, rate and metrics. d2l's is `train_ch6` with d2l's data loader, but from verified "
    'files, and nothing is drawn.',
)


def method(threads: int) -> List[str]:
    """How the benchmark measures, with what is set here."""
    def setting(name: str) -> str:
        return os.environ.get(name, 'not set')

    return [line.format(cores=threads, omp=setting('OMP_NUM_THREADS'), wait=setting('OMP_WAIT_POLICY'),
                        spin=setting('GOMP_SPINCOUNT')) for line in METHOD]


def sections(result: Result, tablefmt: str = 'simple') -> Iterator[Tuple[str, str, str]]:
    """(title, note, table) of each part that was measured."""
    def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
        return str(tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True))

    columns = [name for name in HEADERS if name in result.columns]
    heads = [HEADERS[name] for name in columns]
    for mode, title in (('both', 'Layer, forward + backward'), ('forward', 'Layer, forward')):
        if result.layers:
            rows = [[shape(entry), *(format_ms(getattr(entry, mode).get(name)) for name in columns),
                     three_digits(getattr(entry, mode)['floor'].median * 1e3)] for entry in result.layers]
            yield (title, 'Milliseconds, in training; in brackets the multiple of the memory floor.',
                   table(rows, ['X', *heads, 'floor']))
    if result.sizes:
        rows = [[f'{entry.megabytes:.1f}', *(ns_per_value(entry, name) for name in [*columns, 'floor'])]
                for entry in result.sizes]
        yield ('Time against size, forward + backward',
               'Nanoseconds for each value of X (m, 32, 28, 28), by the size of X in megabytes.',
               table(rows, ['MB', *heads, 'floor']))
    if result.accuracy:
        first = shape(result.accuracy[0])
        rows = [[f'{entry.mean:,.0f}', name, *(f'{entry.errors[column][name]:.1e}' for column in columns)]
                for entry in result.accuracy if shape(entry) == first for name in ('Y', 'dX')]
        yield ('Error against float64',
               f'X {first} of variance 1 and the mean given; |error| / |exact|, in Euclidean norms.',
               table(rows, ['mean', 'of', *heads]))
    if result.epochs:
        rows = [[HEADERS[name], three_digits(epoch.train.median),
                 f'{three_digits(epoch.train.q1)} to {three_digits(epoch.train.q3)}', three_digits(epoch.test.median),
                 f'{epoch.share:.3g} x {len(present(epoch.train.rounds))}', f'{epoch.loss:.2f}']
                for name, epoch in result.epochs.items()]
        yield ('One epoch of LeNet',
               'Seconds for 60,000 images in batches of 256 at learning rate 1.0, and for the test of 10,000 after it. '
               'Where less than an epoch was trained, the time is scaled up; the loss is of what was trained.',
               table(rows, ['', 'train, s', 'quartiles', 'test, s', 'epochs measured', 'loss']))
    if result.profile:
        note = "Milliseconds, by MXNet's profiler, which slows it a little."
        if result.epochs and 'torch' in result.epochs:
            batch = result.epochs['torch'].train.median * BATCH_SIZE / NUM_TRAIN
            note += f" PyTorch's whole minibatch takes {three_digits(batch * 1e3)}."
        yield 'Where a minibatch of LeNet goes', note, table(*_kinds(result.profile.minibatch, 1e3))
        yield ('Where a dense layer goes', f'Microseconds for X {shape(result.profile)}, forward + backward. Between '
               'the operators are Python, the graph and the engine.', table(*_kinds(result.profile.layer, 1e6)))
    if result.goals:
        rows = [[goal.goal, three_digits(goal.value), f'{goal.sense} {goal.limit:g}', 'yes' if goal.met else 'NO']
                for goal in result.goals]
        yield ('Ratios', 'Each within the rounds of this run; median.', table(rows, ['', 'measured', 'goal', 'met']))


def _kinds(columns: Mapping[str, Mapping[str, float]], scale: float) -> Tuple[List[List[str]], List[str]]:
    """(rows, headers)"""
    def row(kind: str, values: Sequence[float]) -> List[str]:
        return [kind, *(three_digits(value * scale) if value else '-' for value in values)]

    rows = [row(kind, values) for kind in next(iter(columns.values()))
            if any(values := [column[kind] for column in columns.values()])]
    return [*rows, row('in all', [sum(column.values()) for column in columns.values()])], [
        '', *(HEADERS[name] for name in columns)]


def shape(entry: Union[LayerResult, AccuracyResult, ProfileResult]) -> str:
    return '(' + ', '.join(map(str, entry.shape)) + ')'


def format_ms(measured: Optional[Measurement]) -> str:
    """Milliseconds, and the multiple of the memory floor."""
    return f'{three_digits(measured.median * 1e3)} ({three_digits(measured.floors or 0)})' if measured else '-'


def ns_per_value(entry: LayerResult, name: str) -> str:
    return three_digits(entry.both[name].median * 1e9 / math.prod(entry.shape)) if name in entry.both else '-'


def three_digits(value: float) -> str:
    """Three digits, without an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f'{value:,.{digits}f}'


def markdown(result: Result, figure: Optional[str] = None) -> str:
    """The page of a result, with a picture beside it."""
    machine = result.machine
    lines = [f'# The benchmark, {result.date}', '',
             f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}; "
             + ', '.join(f'{name} {version}' for name, version in result.versions.items())
             + f'. Made by `{result.command}` in {three_digits(result.seconds / 60)} minutes. Load average before it: '
             f'{result.load:.2f}; what uses all cores suffers most from other programs.', '',
             '## How it is measured', '', *(f'- {line}' for line in result.method), '']
    if result.missing:
        lines += [*(f'- No column {HEADERS[name]}: {reason}' for name, reason in result.missing.items()), '']
    if figure:
        lines += [f'![layer times relative to Gluon, and time against size]({figure})', '']
    for title, note, table in sections(result, 'github'):
        lines += [f'## {title}', '', note, '', table, '']
    return '\n'.join(lines)
