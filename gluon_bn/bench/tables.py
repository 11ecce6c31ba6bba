"""A result of the benchmark as text: tables for the terminal, and a page in Markdown."""
from __future__ import annotations

from tabulate import tabulate

from .epochs import BATCH_SIZE, NUM_TRAIN
from .rounds import taken

HEADERS = {'scratch': 'batch_norm', 'portable': 'portable', 'native': 'native', 'gluon': 'Gluon', 'torch': 'PyTorch',
           'none': 'no normalization', 'd2l gluon': "Gluon, d2l's loop", 'd2l scratch': "batch_norm, d2l's loop"}


def sections(result, tablefmt='simple'):
    """(title, note, table) of each part that was measured."""
    def table(rows, headers):
        return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True)

    columns = [name for name in HEADERS if name in result['columns']]
    for mode, title in (('both', 'Layer, forward + backward'), ('forward', 'Layer, forward')):
        if 'layers' in result:
            rows = [[shape(entry), *(times(entry[mode], name) for name in columns),
                     number(entry[mode]['floor']['median'] * 1e3)] for entry in result['layers']]
            yield (title, 'Milliseconds, in training; in brackets the multiple of the memory floor.',
                   table(rows, ['X', *map(HEADERS.get, columns), 'floor']))
    if 'sizes' in result:
        rows = [[f"{entry['megabytes']:.1f}", *(each(entry, name) for name in columns), each(entry, 'floor')]
                for entry in result['sizes']]
        yield ('Time against size, forward + backward',
               'Nanoseconds for each value of X (m, 32, 28, 28), by the size of X in megabytes.',
               table(rows, ['MB', *map(HEADERS.get, columns), 'floor']))
    if 'accuracy' in result:
        first = shape(result['accuracy'][0])
        rows = [[f"{entry['mean']:,.0f}", name, *(f"{entry['errors'][column][name]:.1e}" for column in columns)]
                for entry in result['accuracy'] if shape(entry) == first for name in ('Y', 'dX')]
        yield ('Error against float64',
               f'X {first} of variance 1 and the mean given; |error| / |exact|, in Euclidean norms.',
               table(rows, ['mean', 'of', *map(HEADERS.get, columns)]))
    if 'epochs' in result:
        rows = [[HEADERS[name], number(entry['train']['median']),
                 f"{number(entry['train']['q1'])} to {number(entry['train']['q3'])}", number(entry['test']['median']),
                 f"{entry['share']:.3g} x {len(taken(entry['train']['rounds']))}", f"{entry['loss']:.2f}"]
                for name, entry in result['epochs'].items()]
        yield ('One epoch of LeNet',
               'Seconds for 60,000 images in batches of 256 at learning rate 1.0, and for the test of 10,000 after it. '
               'Where less than an epoch was trained, the time is scaled up; the loss is of what was trained.',
               table(rows, ['', 'train, s', 'quartiles', 'test, s', 'epochs measured', 'loss']))
    if 'profile' in result:
        yield from _profile(result['profile'], result.get('epochs', {}).get('torch'), table)
    if result['goals']:
        rows = [[entry['goal'], number(entry['value']), f"{entry['sense']} {entry['limit']:g}",
                 'yes' if entry['met'] else 'NO'] for entry in result['goals']]
        yield ('Ratios', 'Each within the rounds of this run; median.', table(rows, ['', 'measured', 'goal', 'met']))


def _profile(profile, torch, table):
    note = "Milliseconds, by MXNet's profiler, which slows it a little."
    if torch:
        note += f" PyTorch's whole minibatch takes {number(torch['train']['median'] * BATCH_SIZE / NUM_TRAIN * 1e3)}."
    yield 'Where a minibatch of LeNet goes', note, table(*_kinds(profile['minibatch'], 1e3))
    yield ('Where a dense layer goes', f'Microseconds for X {shape(profile)}, forward + backward. Between the '
           'operators are Python, the graph and the engine.', table(*_kinds(profile['layer'], 1e6)))


def _kinds(columns, scale):
    """(rows, headers)"""
    def row(kind, values):
        return [kind, *(number(value * scale) if value else '-' for value in values)]

    rows = [row(kind, values) for kind in next(iter(columns.values()))
            if any(values := [column[kind] for column in columns.values()])]
    return [*rows, row('in all', [sum(column.values()) for column in columns.values()])], [
        '', *map(HEADERS.get, columns)]


def shape(entry):
    return '(' + ', '.join(map(str, entry['shape'])) + ')'


def times(columns, name):
    if name not in columns:
        return '-'
    return f"{number(columns[name]['median'] * 1e3)} ({number(columns[name]['floors'])})"


def each(entry, name):
    values = entry['megabytes'] * 1e6 / 4
    return number(entry['both'][name]['median'] * 1e9 / values) if name in entry['both'] else '-'


def number(value):
    """Three digits, without an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f'{value:,.{digits}f}'


def markdown(result, figure=None):
    """The page of a result, with a picture beside it."""
    machine, versions = result['machine'], result['versions']
    lines = [f"# The benchmark, {result['date']}", '',
             f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}; "
             + ', '.join(f'{name} {version}' for name, version in versions.items())
             + f". Made by `{result['command']}` in {number(result['seconds'] / 60)} minutes. Load average before it: "
             f"{result['load']:.2f}; what uses all cores suffers most from other programs.", '',
             '## How it is measured', '', *(f'- {line}' for line in result['method']), '']
    if result['missing']:
        lines += [*(f'- No column {HEADERS[name]}: {reason}' for name, reason in result['missing'].items()), '']
    if figure:
        lines += [f'![layer times relative to Gluon, and time against size]({figure})', '']
    for title, note, table in sections(result, 'github'):
        lines += [f'## {title}', '', note, '', table, '']
    return '\n'.join(lines)
