"""The benchmark as a figure: layer times relative to Gluon's, and time against size with the floor of memory."""
from __future__ import annotations

import math
from typing import Any, Optional, Sequence

import numpy
from matplotlib.figure import Figure

from ..drawing import COLORS
from .report import HEADERS, shape
from .results import LayerResult, Result
from .rounds import ratio

FASTEST = ('portable', 'native', 'gluon', 'torch')  # batch_norm would leave no room for the others' bars

WIDEST = 4  # longer bars are cut, and keep their number


def color(name: str) -> str:
    return COLORS['fused' if name == 'native' else name]


def draw(result: Result) -> Optional[Figure]:
    """A matplotlib Figure with a panel for each of 'layers' and 'sizes' that was measured; None without either."""
    panels = [(entries, paint) for entries, paint in ((result.layers, bars), (result.sizes, curves)) if entries]
    if not panels:
        return None
    figure = Figure(figsize=(6 * len(panels), 4.4), layout='constrained')
    for ax, (entries, paint) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        paint(ax, entries, [name for name in HEADERS if name in result.columns])
        ax.grid(alpha=0.3, axis='x' if paint is bars else 'both', which='major')
        ax.set_axisbelow(True)
    return figure


def bars(ax: Any, entries: Sequence[LayerResult], columns: Sequence[str]) -> None:
    columns = [name for name in FASTEST if name in columns]
    y, height = numpy.arange(len(entries)), 0.8 / len(columns)
    for i, name in enumerate(columns):
        values = [ratio(entry.both[name], entry.both['gluon']) for entry in entries]
        offset = (i - (len(columns) - 1) / 2) * height
        ax.barh(y + offset, values, height * 0.9, color=color(name), label=HEADERS[name])
        for place, value in zip(y + offset, values):
            ax.annotate(f'{value:.2f}', (min(value, WIDEST), place), (3, 0), textcoords='offset points', va='center',
                        fontsize=7)
    ax.set(xlim=(0, WIDEST * 1.1), yticks=y, xlabel="Gluon's time = 1",
           title="layer, forward + backward: time relative to Gluon's")
    ax.set_yticklabels([shape(entry) for entry in entries], fontsize=8)
    ax.axvline(1, color='black', linewidth=0.8)
    ax.invert_yaxis()
    ax.legend(frameon=False, fontsize=8, ncol=len(columns), loc='upper center', bbox_to_anchor=(0.5, -0.12))


def curves(ax: Any, entries: Sequence[LayerResult], columns: Sequence[str]) -> None:
    for name in [*columns, 'floor']:
        measured = [entry for entry in entries if name in entry.both]
        size = [entry.megabytes for entry in measured]
        values = numpy.array([math.prod(entry.shape) for entry in measured])
        line = {key: [getattr(entry.both[name], key) for entry in measured] / values * 1e9
                for key in ('median', 'q1', 'q3')}
        floor = name == 'floor'
        ax.plot(size, line['median'], ':' if floor else '-', marker=None if floor else 'o', markersize=3,
                color='black' if floor else color(name), label='memory floor (2.5 copies)' if floor else HEADERS[name])
        ax.fill_between(size, line['q1'], line['q3'], color='black' if floor else color(name), alpha=0.2, linewidth=0)
    ax.set(xscale='log', yscale='log', title='time against size, forward + backward', xlabel='size of X, MB',
           ylabel='nanoseconds a value')
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter('{x:g}')
        axis.set_minor_formatter('')
    ax.legend(frameon=False, fontsize=8, ncol=3, loc='upper center', bbox_to_anchor=(0.5, -0.12))
