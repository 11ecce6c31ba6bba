"""Shows a result of the benchmark as tables, as a page that says how it was measured, and as a figure."""

from __future__ import annotations

import math
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy
from matplotlib.figure import Figure
from tabulate import tabulate

from ..drawing import COLORS, draw_bars, grid
from ..system.threads import SPINS, policy
from . import cost
from .parts import BATCH_SIZE, NUM_TRAIN
from .results import LayerResult, Result, with_threads
from .rounds import Measurement, present, ratio

HEADERS = {
    'scratch': 'batch_norm',
    'portable': 'portable',
    'native': 'native',
    'sigmoid': 'native, with sigmoid',
    'gluon': 'Gluon',
    'torch': 'PyTorch',
    'none': 'no normalization',
    'd2l gluon': "Gluon, d2l's loop",
    'd2l scratch': "batch_norm, d2l's loop",
    'floor': 'floor',
}
PAINT = {**COLORS, 'native': COLORS['fused'], 'floor': 'black'}
FASTEST = ('portable', 'native', 'gluon', 'torch')  # batch_norm's bars would dwarf the others
WIDEST = 4.4  # longer bars are cut off, but still show their number
METHOD = (
    'Every table is measured with one thread and with one thread per core; MXNet, the native path and PyTorch always '
    'have the same number. Waiting OpenMP threads spin {spins}, as in a training run. Each framework has its own '
    'process, which sleeps while another works.',
    'Columns take turns of about 40 ms, or at least one run, round by round. Ratios are computed within each round. '
    'The tables show medians; the JSON has quartiles and rounds too. A column with runs of more than 0.3 s has three '
    'turns. If other programs used more than a tenth of a core during a round, it is repeated, if time allows.',
    "glibc keeps freed memory in MXNet's process and in PyTorch's (GLUON_BN_MALLOC=0 turns this off). d2l's loop runs "
    "as it does for a reader of the book, with MXNet's own memory, threads and pooling; ours pools with the compiled "
    'operator.',
    'A layer is one of a stack of four in training mode, with all its bookkeeping, and is charged a quarter of its '
    "time. MXNet's clock stops only at the end of a turn, because a training loop does not wait for each layer either.",
    'The memory floor is the time to copy an array of the same size with one thread or all, whichever is faster. A '
    'copy makes two passes over memory. Forward needs at least two, forward + backward five. Small arrays fit in the '
    'cache, so launch overhead dominates.',
    "An epoch trains a new LeNet as `compare` does, hybridized where possible; its time excludes the test that "
    "follows. PyTorch's net has the same architecture, batches in memory, shuffling, rate and metrics. d2l's is "
    "trained by `train_ch6` from the verified files, without drawing. In 'native, with sigmoid', our norms also apply "
    'the sigmoid, so the profile counts it as normalization.',
)


def method() -> List[str]:
    """Return how the benchmark measures, with the current settings."""
    count = policy().get(SPINS)
    spins = f'{count} times' if count else 'as long as libgomp decides'
    return [line.format(spins=spins) for line in METHOD]


def gaps(missing: Mapping[str, str], failed: Mapping[str, str]) -> List[str]:
    """Return a sentence for each column that is missing and each part that failed; both map a name to the reason."""
    columns = [f'no column {HEADERS[name]}: {reason}' for name, reason in missing.items()]
    return columns + [f'the part {part} was not measured: {reason}' for part, reason in failed.items()]


def sections(result: Result, tablefmt: str = 'simple') -> Iterator[Tuple[str, str, str]]:
    """Yield (title, note, table) for each part that was measured."""

    def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        return str(tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True))

    with_floor = [*result.columns, 'floor']
    heads = [HEADERS[name] for name in with_floor]
    for mode, title in (('both', 'Layer, forward + backward'), ('forward', 'Layer, forward')):
        for threads, entries in _by_threads(result.layers):
            note = 'Milliseconds, in training mode; in brackets, the multiple of the memory floor.'
            rows = [
                [str(each.shape), *(format_ms(times[name]) for name in with_floor)]
                for each in entries
                for times in [getattr(each, mode)]
                if times
            ]
            if rows:
                yield title + threads, note, table(['X', *heads], rows)
    for threads, entries in _by_threads(result.sizes):
        note = 'Nanoseconds per value of X (m, 32, 28, 28), by the size of X in megabytes.'
        rows = [[f'{entry.megabytes:.1f}', *(ns_per_value(entry, name) for name in with_floor)] for entry in entries]
        yield f'Time against size, forward + backward{threads}', note, table(['MB', *heads], rows)
    if result.accuracy:
        first = result.accuracy[0].shape
        note = f'X {first} with variance 1 and the given mean; |error| / |exact|, in Euclidean norms.'
        rows = [
            [f'{entry.mean:,.0f}', name, *(f'{entry.errors[column][name]:.1e}' for column in result.columns)]
            for entry in result.accuracy
            if entry.shape == first
            for name in ('Y', 'dX')
        ]
        yield 'Error against float64', note, table(['mean', 'of', *heads[:-1]], rows)
    for title, epochs in result.by_threads('One epoch of LeNet'):
        note = (
            'Seconds for 60,000 images in batches of 256 at learning rate 1.0, and for the test of 10,000 after it. '
            'If less than an epoch was trained, the time is scaled up; the loss is that of the examples trained.'
        )
        rows = []
        for name, epoch in epochs.items():
            seconds = epoch.train.median, epoch.train.q1, epoch.train.q3, epoch.test.median
            train, q1, q3, test = map(three_digits, seconds)
            measured = f'{epoch.share:.3g} x {len(present(epoch.train.rounds))}'
            rows.append([HEADERS[name], train, f'{q1} to {q3}', test, measured, f'{epoch.loss:.2f}'])
        headers = ['', 'train, s', 'quartiles', 'test, s', 'epochs measured', 'loss']
        yield title, note, table(headers, rows)
    if result.company:
        row = [three_digits(result.company[which].median) for which in ('quiet', 'beside')]
        note = 'Seconds for the same minibatches, alone and while another program keeps one core busy.'
        title = with_threads('Beside a busy core', max(result.threads))
        yield title, note, table(['alone', 'beside a busy core'], [row])
    if result.workers:
        headers, rows = cost.table(result.workers)
        yield 'Several workers', cost.note(result.workers, result.machine['cores']), table(headers, rows)
    if result.profile:
        note = "Milliseconds, measured by MXNet's profiler, which slows training a little."
        trained = result.epochs_one_thread or result.epochs
        if trained and 'torch' in trained:
            batch = trained['torch'].train.median * BATCH_SIZE / NUM_TRAIN
            note += f" PyTorch's whole minibatch takes {three_digits(batch * 1e3)}."
        yield 'Where the time of a minibatch of LeNet goes', note, table(*_kinds(result.profile.minibatch, 1e3))
        note = (
            f'Microseconds for X {result.profile.shape}, forward + backward. The time between '
            'operators is spent in Python, the graph and the engine.'
        )
        yield 'Where the time of a dense layer goes', note, table(*_kinds(result.profile.layer, 1e6))
    if result.goals:
        rows = [
            [one.goal, three_digits(one.value), f'{one.sense} {one.limit:g}', 'yes' if one.met else 'NO', one.bound]
            for one in result.goals
        ]
        headers = ['', 'measured', 'goal', 'met', 'what limits it']
        yield 'Ratios', 'Medians of the ratios within each round.', table(headers, rows)


def _by_threads(entries: Optional[Sequence[LayerResult]]) -> Iterator[Tuple[str, List[LayerResult]]]:
    """Yield (', 1 thread', entries) and so on."""
    for threads in dict.fromkeys(entry.threads for entry in entries or ()):
        yield with_threads('', threads), [entry for entry in entries or () if entry.threads == threads]


def _kinds(columns: Mapping[str, Mapping[str, float]], scale: float) -> Tuple[List[str], List[List[str]]]:
    """Return the headers and rows of a profile: a column per norm, a row per kind of operator, and their sum."""
    profiles = list(columns.values())
    times = {kind: [profile[kind] for profile in profiles] for kind in profiles[0]}
    times['in all'] = [sum(profile.values()) for profile in profiles]
    rows = [
        [kind, *(three_digits(value * scale) if value else '-' for value in values)]
        for kind, values in times.items()
        if any(values)
    ]
    return ['', *(HEADERS[name] for name in columns)], rows


def format_ms(measured: Measurement) -> str:
    """Format milliseconds, and the multiple of the memory floor."""
    multiple = '' if measured.floors is None else f' ({three_digits(measured.floors)})'
    return f'{three_digits(measured.median * 1e3)}{multiple}'


def ns_per_value(entry: LayerResult, name: str) -> str:
    return three_digits(entry.both[name].median * 1e9 / math.prod(entry.shape)) if name in entry.both else '-'


def three_digits(value: float) -> str:
    """Format with about three digits, without an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f'{value:,.{digits}f}'


def markdown(result: Result, figure: Optional[str] = None) -> str:
    """Return the page of a result, which shows the picture beside it."""
    machine = result.machine
    built = machine.get('GLUON_BN_ISA', 'native')
    disturbed = (
        f' Other programs used more than a tenth of a core during {result.loaded} of the {result.rounds} rounds; '
        f'{result.discarded} more such rounds were repeated.'
    )
    subject = 'The benchmark of several workers' if result.workers and not result.layers else 'The benchmark'
    sets = machine.get('instruction_sets', ())
    lines = [
        f'# {" on ".join([subject, *(sets[-1:] if built == "native" else [built])])}, {result.date}',
        '',
        f"{machine['processor']}, {machine['cores']} cores, {', '.join(sets)}, "
        f"{machine['platform']}; "
        + ', '.join(f'{name} {version}' for name, version in result.versions.items())
        + f'. The native path was compiled for {"this processor" if built == "native" else built}. '
        f'Made by `{result.command}` in {three_digits(result.seconds / 60)} minutes. Load average before the start: '
        f'{result.load:.2f}.{disturbed if result.rounds else ""}',
        '',
        '## How it is measured',
        '',
        *(f'- {line}' for line in result.method),
        '',
    ]
    if result.missing or result.failed:
        lines += [*(f'- {gap[0].upper()}{gap[1:]}' for gap in gaps(result.missing, result.failed)), '']
    if figure:
        steps = 'steps by several workers, predicted and measured'
        shown = {
            'layer times relative to Gluon': result.layers,
            'time against size': result.sizes,
            steps: result.workers,
        }
        lines += [f'![{", and ".join(text for text in shown if shown[text])}]({figure})', '']
    for title, note, table in sections(result, 'github'):
        lines += [f'## {title}', '', note, '', table, '']
    return '\n'.join(lines)


def draw(result: Result) -> Optional[Figure]:
    """Return a figure with a panel each for 'layers' and 'sizes', and two for 'workers', if measured; else None."""
    painted = [(entries, paint) for entries, paint in ((result.layers, bars), (result.sizes, curves)) if entries]
    workers = result.workers
    rows, columns = bool(painted) + bool(workers), max(len(painted), 2 * bool(workers))
    if not rows:
        return None
    figure, axes = grid(rows, columns, 5 * columns, 4 * rows)
    for ax in axes.flat:
        ax.grid(alpha=0.3)
    for ax in axes[0][len(painted) or columns :]:
        ax.set_axis_off()
    for ax, (entries, paint) in zip(axes[0], painted):
        threads = entries[0].threads
        paint(ax, [entry for entry in entries if entry.threads == threads], result.columns)
        ax.set_title(with_threads(ax.get_title(), threads))
        ax.set_axisbelow(True)
    if workers:
        cost.draw_measured(axes[-1][0], workers, result.machine['cores'])
        cost.draw_predicted(axes[-1][1], workers)
    return figure


def bars(ax: Any, entries: Sequence[LayerResult], columns: Sequence[str]) -> None:
    columns = [name for name in FASTEST if name in columns]
    times = {HEADERS[name]: [ratio(entry.both[name], entry.both['gluon']) for entry in entries] for name in columns}
    cut = {name: numpy.minimum(values, WIDEST) for name, values in times.items()}
    draw_bars(ax, [str(entry.shape) for entry in entries], cut, [PAINT[name] for name in columns])
    for drawn, values in zip(ax.containers, times.values()):
        ax.bar_label(drawn, [f'{value:.2f}' for value in values], padding=3, fontsize=7)
    ax.set_title("forward + backward, relative to Gluon's")
    ax.set(xlim=(0, WIDEST), xlabel="Gluon's time = 1")
    ax.tick_params(axis='y', labelsize=8)
    ax.grid(False, axis='y')
    ax.axvline(1, color='black', linewidth=0.8)
    ax.legend(frameon=False, fontsize=8, ncol=len(columns), loc='upper center', bbox_to_anchor=(0.5, -0.12))


def curves(ax: Any, entries: Sequence[LayerResult], columns: Sequence[str]) -> None:
    for name in [*columns, 'floor']:
        measured = [entry for entry in entries if name in entry.both]
        size, values = [entry.megabytes for entry in measured], [math.prod(entry.shape) for entry in measured]
        median, q1, q3 = (
            numpy.array([getattr(entry.both[name], key) for entry in measured]) / values * 1e9
            for key in ('median', 'q1', 'q3')
        )
        label, style = (HEADERS[name], 'o-') if name != 'floor' else ('memory floor (2.5 copies)', ':')
        ax.plot(size, median, style, markersize=3, color=PAINT[name], label=label)
        ax.fill_between(size, q1, q3, color=PAINT[name], alpha=0.2, linewidth=0)
    ax.set_title('time against size, forward + backward')
    ax.set(xscale='log', yscale='log', xlabel='size of X, MB', ylabel='nanoseconds a value')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter('{x:g}')
        axis.set_minor_formatter('')
    ax.legend(frameon=False, fontsize=8, ncol=3, loc='upper center', bbox_to_anchor=(0.5, -0.12))
