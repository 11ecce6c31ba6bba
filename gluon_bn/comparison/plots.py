"""The figure of a comparison."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..drawing import COLORS, LABELS, STYLES

PANELS = (('loss', 'train loss'), ('train_acc', 'train accuracy'), ('test_acc', 'test accuracy'))


def plot_curves(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracies over the epochs: the median over seeds as a line, their range as a band.

    runs: as summary.json has them, dicts with 'norm', 'seed' and 'history', a list of dicts with the fields of `Epoch`.
    Returns: a matplotlib Figure.
    """
    norms = list(dict.fromkeys(run['norm'] for run in runs if run['history']))
    longest = max((len(run['history']) for run in runs), default=0) or 1
    figure = Figure(figsize=(10, 3.2), layout='constrained')
    FigureCanvasAgg(figure)
    for ax, (key, title) in zip(figure.subplots(1, 3), PANELS):
        for norm in norms:
            histories = [[epoch[key] for epoch in run['history']] for run in runs if run['norm'] == norm]
            # A run that was stopped early is left out where a longer one can be drawn.
            length = max(map(len, histories))
            histories = [history for history in histories if len(history) == length]
            values = numpy.array(histories)
            epochs, color = numpy.arange(1, length + 1), COLORS.get(norm, 'black')
            ax.plot(epochs, numpy.median(values, axis=0), STYLES.get(norm, '-'), marker='o', markersize=3, color=color,
                    label=LABELS.get(norm, norm))
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2, linewidth=0)
        ax.set(title=title, xlabel='epoch', xlim=(0.5, longest + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower center', ncol=len(labels), frameon=False)
    return figure
