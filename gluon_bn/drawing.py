"""Shared by figures and tables: a colour for each norm, panels, a line for several runs, and three digits."""

from __future__ import annotations

import io
import numbers
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple

from .system import before_matplotlib  # noqa: F401  must come first: see that module

# isort: split
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tabulate import tabulate

# Okabe and Ito's palette, made for every kind of colour vision. In grey most of these look alike: then the dashes
# below, the markers and the labels distinguish them.
COLORS = {
    'none': '#999999',
    'scratch': '#0072B2',
    'portable': '#56B4E9',
    'fused': '#009E73',
    'sync': '#E69F00',
    'gluon': '#D55E00',
    'torch': '#CC79A7',
}
LABELS = {
    'none': 'no normalization',
    'scratch': 'batch_norm',
    'portable': 'fused_batch_norm, portable',
    'fused': 'fused_batch_norm',
    'sync': 'sync_batch_norm',
    'gluon': 'gluon.nn.BatchNorm',
    'torch': 'PyTorch',
}
STYLES = {'none': ':', 'scratch': '-.', 'gluon': '--', 'sync': '.-'}  # others solid; overlapping curves stay visible


def grid(rows: int, columns: int, width: float, height: float, **shared: Any) -> Tuple[Figure, Any]:
    """Return a figure and its panels (rows, columns)."""
    figure = Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panels(columns: int, width: float, height: float = 3.3, **shared: Any) -> Tuple[Any, ...]:
    """Return a figure and the panels of its single row, with grid lines."""
    figure, (axes,) = grid(1, columns, width, height, **shared)
    for ax in axes:
        ax.grid(alpha=0.3)
    return (figure, *axes)


def plot_median_and_range(ax: Axes, curves: Any, style: str = '-', first: int = 1, **line: Any) -> None:
    """Draw the median of curves (runs, steps) as a line and their range as a band; steps count from `first`."""
    curves = numpy.asarray(curves)
    steps = numpy.arange(first, first + curves.shape[1])
    (median,) = ax.plot(steps, numpy.median(curves, axis=0), style, **line)
    ax.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=median.get_color(), alpha=0.2, linewidth=0)


def draw_bars(ax: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]], colors: Sequence[str]) -> None:
    """Draw a group of horizontal bars for each name, the first at the top, one bar per series."""
    height = 0.8 / len(series)
    for i, ((label, values), color) in enumerate(zip(series.items(), colors)):
        places = numpy.arange(len(names)) + (i - (len(series) - 1) / 2) * height
        ax.barh(places, values, height, color=color, label=label)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(max(len(names), 1) - 0.5, -0.5))


def bars(names: Sequence[str], titles: Mapping[str, Mapping[str, Sequence[float]]], log: bool = False) -> Figure:
    """A panel of `draw_bars` for each title."""
    most = max(map(len, titles.values()))
    width = 9 if len(titles) > 1 else 5.5  # a phone shows panels one below the other, but must shrink a single one
    figure, *axes = panels(len(titles), width, 0.8 + len(names) * (0.12 + 0.16 * most), sharey=True)
    colors = [COLORS[name] for name in ('scratch', 'portable', 'none', 'sync', 'torch')]
    for ax, (title, series) in zip(axes, titles.items()):
        draw_bars(ax, names, series, colors)
        for drawn, values in zip(ax.containers, series.values()):
            ax.bar_label(drawn, ['' if value else '0' for value in values], padding=2, fontsize=8)
        ax.set_xlabel(title)
        if log:
            ax.set_xscale('log')
        else:
            ax.axvline(0, color='black', linewidth=0.8)
    if most > 1:
        ax.legend(frameon=False, loc='upper left', bbox_to_anchor=(1, 1))
    return figure


def pictures(figure: Figure) -> Dict[str, bytes]:
    """Return the content of the figure's files by extension, svg and png."""
    found = {}
    for extension in ('svg', 'png'):
        file = io.BytesIO()
        # no date, so that equal results give equal files
        figure.savefig(file, format=extension, dpi=150, metadata={'Date': None} if extension == 'svg' else None)
        found[extension] = file.getvalue()
    return found


def table(rows: Iterable[Iterable[Any]], headers: Sequence[str]) -> str:
    """Return an HTML table for a notebook, with numbers aligned right and rounded to three digits."""
    rows = [list(row) for row in rows]
    sides = ['left' if isinstance(value, str) else 'right' for value in rows[0]]
    cells = [[_digits(value) for value in row] for row in rows]
    # a subclass of str that notebooks show as HTML
    html: str = tabulate(cells, headers, tablefmt='html', colalign=sides, disable_numparse=True)
    return html


def _digits(value: Any) -> str:
    if isinstance(value, (str, numbers.Integral)):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, _, exponent = f'{value:.1e}'.partition('e')
        return f"{digits.replace('.0', '')}e{int(exponent)}" if exponent else digits
    return f'{value:,.0f}' if abs(value) >= 999.5 else f'{value:.3g}'  # .3g would turn 999.7 into 1e+03
