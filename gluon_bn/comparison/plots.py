"""The figure of a comparison."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..drawing import COLORS, LABELS, STYLES, panels, plot_median_and_range

PANELS = (('loss', 'train loss'), ('train_acc', 'train accuracy'), ('test_acc', 'test accuracy'))


def plot_curves(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot loss and accuracies over the epochs: the median over seeds as a line, their range as a band.

    runs: those of summary.json, dicts with 'norm', 'seed' and 'history', a list of dicts with the fields of `Epoch`.
    Returns: a matplotlib Figure.
    """
    norms = list(dict.fromkeys(run['norm'] for run in runs if run['history']))
    longest = max((len(run['history']) for run in runs), default=0) or 1
    figure, *axes = panels(len(PANELS), 10, 3.2)
    for ax, (key, title) in zip(axes, PANELS):
        for norm in norms:
            histories = [[epoch[key] for epoch in run['history']] for run in runs if run['norm'] == norm]
            # Runs that were stopped early are omitted if there is a longer one.
            length = max(map(len, histories))
            histories = [history for history in histories if len(history) == length]
            style = STYLES.get(norm, '-')
            look: Dict[str, Any] = {'color': COLORS.get(norm, 'black'), 'markersize': 3}
            if not style.startswith('.'):  # this style already has a marker
                look['marker'] = 'o'
            plot_median_and_range(ax, histories, style, label=LABELS.get(norm, norm), **look)
        ax.set(title=title, xlabel='epoch', xlim=(0.5, longest + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc='outside lower center', ncol=len(labels), frameon=False)
    return figure
