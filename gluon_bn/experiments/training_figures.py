"""The figures of notebooks 04 and 05, which train LeNet, each from its results."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy
from matplotlib.figure import Figure

from ..drawing import COLORS, LABELS, STYLES, grid, panels, plot_median_and_range, table
from ..drawing import bars as bars  # for the notebooks
from . import Array
from .activations import WEIGHTS, Layer, TrainingTrace, standardized_units, typical_shapes
from .figures import NONE, OTHER
from .modes import Accuracies
from .rates import PLACES, Run

FUSED = COLORS['fused']
SHADES = ('#DDCC77', '#CC6677', '#332288', '#AA4499', '#88CCEE')  # for layers and statistics; no norm has them


def accuracies_by_statistics(results: Dict[float, List[Accuracies]]) -> Figure:
    """Test accuracy over the epochs by where the statistics are from: the median over the seeds, and the range."""
    figure, *axes = panels(len(results), 4.6 * len(results), sharey=True)
    sources = (
        ('moving', 'moving averages', ':', SHADES[1]),
        ('estimated', 'estimated over the training set', '-', FUSED),
        ('batch', "each test minibatch's own", '--', SHADES[2]),
    )
    for ax, (lr, runs) in zip(axes, results.items()):
        for key, label, style, color in sources:
            values = [getattr(run, key) for run in runs]
            plot_median_and_range(ax, values, style, marker='o', markersize=3, color=color, label=label)
        ax.set(title=f'learning rate {lr:g}', xlabel='epoch', xticks=range(1, len(runs[0].moving) + 1))
    axes[0].set_ylabel('test accuracy')
    axes[0].legend(frameon=False, loc='lower right', fontsize=9, title='statistics')
    return figure


def shapes(layers: Dict[str, Layer]) -> Figure:
    """The inputs of each layer above the pixels, and X W + b: every unit standardized, beside a Gaussian."""
    places, typical = list(PLACES)[1:], typical_shapes(layers)
    figure, axes = grid(2, len(places), 9.5, 4, sharex=True, sharey='row')
    bins = numpy.linspace(-4, 4, 81)
    for column, place in zip(axes.T, places):
        for ax, name, color in zip(column, 'XH', (SHADES[1], SHADES[2])):
            ax.hist(standardized_units(getattr(layers[place], name)).ravel(), bins, density=True, color=color)
            ax.plot(bins, numpy.exp(-(bins**2) / 2) / (2 * numpy.pi) ** 0.5, color='black', linewidth=1)
            ax.set_title('skewness {:.1f}, kurtosis {:.1f}'.format(*typical[place][name]), fontsize=9)
            ax.set_yticks([])
        column[1].set_xlabel(place)
    axes[0, 0].set_ylabel('X, its input')
    axes[1, 0].set_ylabel('X W + b')
    return figure


def moments(shapes: Dict[str, Dict[Tuple[str, str, str], Array]]) -> Figure:
    """The moments of inputs and of X W + b, a dot for each seed and layer; shapes: {net: of shapes_over}."""
    figure, *axes = panels(2 * len(shapes), 10, 3.2, sharey='row')
    for ax, (net, moment) in zip(axes, ((net, moment) for moment in ('skewness', 'kurtosis') for net in shapes)):
        for i, when in enumerate(('before', 'after')):
            for name, marker, color, side in (('X', 'o', SHADES[1], -0.18), ('H', 's', SHADES[2], 0.18)):
                values = shapes[net][moment, when, name].ravel()
                spots = i + side + numpy.linspace(-0.1, 0.1, len(values))
                ax.plot(spots, values, marker, color=color, markersize=3.5, alpha=0.7)
                ax.plot([i + side - 0.15, i + side + 0.15], [numpy.median(values)] * 2, color=color)
        ax.set(title=f'{moment}, {net}', xticks=[0, 1], xticklabels=['before', 'after training'], xlim=(-0.5, 1.5))
    axes[0].set_ylim(0, None)  # of all: they share it
    handles = [ax.plot([], [], marker, color=color)[0] for marker, color in (('o', SHADES[1]), ('s', SHADES[2]))]
    figure.legend(handles, ['X, the input', 'X W + b'], loc='outside lower center', ncol=2, frameon=False)
    return figure


def by_seed(values: Dict[str, Sequence[float]], what: str) -> str:
    """An HTML table of one number for each norm and seed."""
    count = len(next(iter(values.values())))
    return table(
        [(LABELS[norm], *map(float, of_seeds)) for norm, of_seeds in values.items()],
        [what, *(f'seed {seed}' for seed in range(count))],
    )


def activations(runs: Dict[str, TrainingTrace]) -> Figure:
    """Histograms of the sigmoids after training."""
    return _histograms(runs, lambda layer: layer.A, numpy.linspace(0, 1, 51), 'sigmoid')


def gradients(runs: Dict[str, TrainingTrace]) -> Figure:
    """Histograms of the size of dL/dA after training, in powers of ten."""
    bins = numpy.linspace(-9, -1, 49)
    return _histograms(runs, lambda layer: numpy.log10(numpy.abs(layer.dA[layer.dA != 0])), bins, 'log10 |dL/dA|')


def _histograms(
    runs: Dict[str, TrainingTrace], values_of: Callable[[Layer], Array], bins: Array, xlabel: str
) -> Figure:
    figure, axes = grid(len(runs), len(PLACES), 10, 3.6, sharex=True, sharey='col')
    for row, (norm, trace) in zip(axes, runs.items()):
        for ax, (place, layer) in zip(row, trace.after.items()):
            values = values_of(layer).ravel()
            ax.hist(values, bins, weights=numpy.full(len(values), 1 / len(values)), color=COLORS[norm])
            ax.set_yticks([])
            if ax in axes[0]:
                ax.set_title(place)
            if ax in axes[-1]:
                ax.set_xlabel(xlabel)
        row[0].set_ylabel(LABELS[norm], fontsize=9)
    return figure


def over_training(runs: Dict[str, List[TrainingTrace]], key: str, ylabel: str, hint: Optional[float] = None) -> Figure:
    """'saturation' or 'steps' by layer over the epochs: the median over the seeds, and the range."""
    figure, *axes = panels(len(runs), 9.5, 3.4, sharey=True)
    for ax, (norm, of_seeds) in zip(axes, runs.items()):
        values = numpy.array([getattr(trace, key) for trace in of_seeds])  # (seeds, epochs + 1, layers)
        for i, (layer, color, marker) in enumerate(zip(WEIGHTS[: values.shape[2]], SHADES, 'os^Dv')):
            plot_median_and_range(ax, values[:, :, i], first=0, marker=marker, markersize=4, color=color, label=layer)
        if hint:
            ax.axhline(hint, color='black', linestyle=':', linewidth=1)
        ax.set(title=LABELS[norm], xlabel='epoch')
    axes[0].set_ylabel(ylabel)
    if key == 'steps':
        axes[0].set_yscale('log')
    figure.legend(*ax.get_legend_handles_labels(), loc='outside right center', frameon=False)
    return figure


def accuracy_over_rates(runs: List[Dict[str, Dict[float, List[Run]]]], titles: List[str]) -> Figure:
    """Test accuracy over the learning rate: a line for the median, a dot for each seed; a panel for each of runs."""
    figure, *axes = panels(len(runs), 4.8 * len(runs), 3.6, sharey=True)
    for ax, by_norm, title in zip(axes, runs, titles):
        for norm, marker in zip(by_norm, 'os'):
            for lr, of_seeds in by_norm[norm].items():
                dots = [run.test_acc for run in of_seeds]
                ax.plot([lr] * len(dots), dots, marker, color=COLORS[norm], markersize=4, alpha=0.7)
            medians = [numpy.median([run.test_acc for run in of_seeds]) for of_seeds in by_norm[norm].values()]
            ax.plot(list(by_norm[norm]), medians, STYLES.get(norm, '-'), color=COLORS[norm], label=LABELS[norm])
        ax.axhline(0.1, color='black', linestyle=':', linewidth=1)  # guessing, one class of ten
        ax.set(xscale='log', xlabel='learning rate', title=title, ylim=(0, 0.9), xticks=list(by_norm[norm]))
        ax.set_xticklabels([f'{lr:g}' for lr in by_norm[norm]])
        ax.minorticks_off()
    axes[0].set_ylabel('test accuracy')
    figure.legend(*ax.get_legend_handles_labels(), loc='outside lower center', ncol=len(by_norm), frameon=False)
    return figure


def strips(
    runs: Dict[str, List[Run]],
    keys: Sequence[Tuple[str, str]] = (('loss', 'train loss'), ('test_acc', 'test accuracy')),
) -> Figure:
    """Variants one below the other: a dot for each seed, a bar for the median."""
    figure, *axes = panels(len(keys), 9, 0.9 + 0.36 * len(runs), sharey=True)
    for ax, (key, title) in zip(axes, keys):
        for i, (name, of_seeds) in enumerate(runs.items()):
            values = [getattr(run, key) for run in of_seeds]
            ax.plot(values, [i] * len(values), 'o', color=color_of(name), markersize=6, alpha=0.7)
            ax.plot([numpy.median(values)] * 2, [i - 0.3, i + 0.3], color=color_of(name))
        ax.set(xlabel=title, yticks=range(len(runs)), yticklabels=list(runs), ylim=(len(runs) - 0.5, -0.5))
    return figure


def color_of(name: str) -> str:
    """The colour of no norm, of a replacement of batch normalization, or of batch normalization."""
    if name in ('none', 'neither'):
        return NONE
    return OTHER if name in ('mean only', 'variance only', 'dropout') else FUSED
