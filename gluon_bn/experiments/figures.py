"""The figures of notebooks 02, 03 and 06, each from its results."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing import COLORS, LABELS, STYLES, grid, panels, plot_median_and_range
from ..drawing import bars as bars  # for the notebooks
from ..drawing import table as table
from . import Array
from .alternatives import PenaltyResult, StepDecomposition
from .chain import Training

NONE, OURS, GLUON = COLORS['none'], COLORS['scratch'], COLORS['gluon']
OTHER = '#882255'  # a penalty, renormalizing, whitening, dropout: what replaces batch normalization

ByWeight = Dict[float, Sequence[float]]


def _plot_by_weight(ax: Axes, depths: Sequence[int], by_weight: ByWeight) -> None:
    """Draw a line for chains of each weight, 0.8 to 1.2, in a colour that no norm has."""
    for weight, values in by_weight.items():
        color = colormaps['magma'](1.75 * (weight - 0.8))
        ax.plot(depths, values, 'o-', markersize=3, color=color, label=f'{weight}')


def _lines(x: Any, curves: Dict[str, Any], styles: Sequence[str], colors: Sequence[str], **settings: Any) -> Figure:
    """Return a figure with a line for each labelled curve, on a logarithmic y axis unless set otherwise."""
    figure, ax = panels(1, 5)
    for (label, values), style, color in zip(curves.items(), styles, colors):
        ax.plot(x, values, style, color=color, label=label)
    ax.set(**{'yscale': 'log', **settings})
    ax.legend(frameon=False)
    return figure


def _capped(values: Any) -> Array:
    """The values, but 1e6 for what has diverged."""
    capped: Array = numpy.where(numpy.abs(values) < 1e6, values, 1e6)
    return capped


def orders(effects: Array) -> Figure:
    """The effect of each order on y: bars, those of first order apart, and the sum of all."""
    figure, ax = panels(1, 5)
    k = numpy.arange(1, len(effects))
    ax.bar(k, effects[1:], color=['black'] + [NONE] * (len(k) - 1))
    ax.axhline(effects[1:].sum(), color='black', linestyle='--', label='true change: the sum of all bars')
    ax.axhline(0, color='black', linewidth=0.8)
    ax.set(xlabel='order in the step', ylabel='change of y', xticks=k, title='the first order is the black bar only')
    ax.legend(frameon=False)
    return figure


def changes_over_depth(depths: Sequence[int], changes: Dict[float, List[Tuple[float, float]]]) -> Figure:
    """The predicted and the actual decrease by a fixed step. changes: {weight: [(predicted, actual), ...]}."""
    figure, *axes = panels(len(changes), 10.5)
    for ax, (weight, pairs) in zip(axes, changes.items()):
        predicted, actual = numpy.array(pairs).T
        ax.plot(depths, predicted, ':', color='black', label='predicted, first order')
        ax.plot(depths, actual, 'o-', color=NONE, markersize=4, label='actual')
        ax.set(title=f'all weights {weight}', xlabel='layers', ylim=(0, None), xticks=range(0, max(depths) + 1, 5))
    axes[0].set_ylabel('decrease of y')
    axes[0].legend(frameon=False)
    return figure


def intended_over_depth(depths: Sequence[int], equal: ByWeight, random: Sequence[Sequence[float]]) -> Figure:
    """The decrease by a step chosen for 0.1, with equal weights and with random ones (seeds, depths)."""
    figure, left, right = panels(2, 10)
    _plot_by_weight(left, depths, equal)
    left.set(title='equal weights', xlabel='layers', ylabel='decrease of y', ylim=(0, 0.115))
    left.legend(title='all weights', frameon=False, loc='lower left')
    for actual in random:
        right.plot(depths, actual, '.', color=NONE)
    right.set(title='weights 1 + 0.5 * Gaussian, one dot per seed', xlabel='layers', ylabel='decrease of y')
    right.set_yscale('symlog', linthresh=0.1)
    for ax in (left, right):
        ax.axhline(0.1, color='black', linestyle=':')
        ax.annotate('intended', (min(depths), 0.1), (0, 5), textcoords='offset points', fontsize=9)
        ax.set_xticks(range(0, max(depths) + 1, 5))
    return figure


def second_order(depths: Sequence[int], fixed: ByWeight, chosen: ByWeight) -> Figure:
    """One term of second order, for a fixed step and for a step chosen for each depth."""
    figure, left, right = panels(2, 10)
    titles = 'one step for all depths: 0.01', 'the step chosen for a decrease of 0.1'
    for ax, terms, title in zip((left, right), (fixed, chosen), titles):
        _plot_by_weight(ax, depths, terms)
        ax.set(yscale='log', xlabel='layers', title=title, xticks=range(5, max(depths) + 1, 5))
    left.set_ylabel('a second-order term')
    left.legend(title='all weights', frameon=False)
    return figure


def surfaces(lower: Array, last: Array, without: Array, with_bn: Array) -> Figure:
    """The loss over a lower weight and the last one, without and with batch normalization."""
    figure, *axes = panels(2, 9.5, 3.8)
    levels = numpy.linspace(0, 4, 9) ** 2
    for ax, loss, title in zip(axes, (without, with_bn), ('no normalization', 'batch_norm')):
        ax.grid(False)
        filled = ax.contourf(lower, last, loss, levels=levels, cmap='viridis_r', extend='max')
        ax.contour(lower, last, loss, levels=levels, colors='white', linewidths=0.5)
        ax.set(title=title, xlabel='a lower weight', ylabel='the last weight')
    figure.colorbar(filled, ax=axes, label='loss')
    return figure


def corner_cases(weights: Array, curves: ByWeight) -> Figure:
    """Standardized h(l-1) at x = 1 over one lower weight. curves: {product of the other weights: values}."""
    named = {f'{product:g}': values for product, values in curves.items()}
    settings = {'xlabel': 'one lower weight', 'ylabel': 'standardized unit at x = 1', 'ylim': (-1.25, 1.25)}
    figure = _lines(weights, named, ('-', '--', ':'), (OURS,) * 3, yscale='linear', **settings)
    figure.axes[0].legend(title='product of the\nother lower weights', frameon=False, loc='lower right')
    return figure


def variances(sizes: Sequence[float], raw: List[List[float]], standardized: List[List[float]]) -> Figure:
    """The variance of h(l-1) after random updates of several sizes: one dot per update."""
    figure, ax = panels(1, 5)
    for by_size, color, offset in ((raw, NONE, -0.17), (standardized, OURS, 0.17)):
        for i, values in enumerate(by_size):
            spots = i + offset + numpy.linspace(-0.1, 0.1, len(values))
            ax.plot(spots, values, '.', markersize=3, color=color)
    for color, label in ((NONE, 'no normalization'), (OURS, 'batch_norm')):
        ax.plot([], [], 'o', color=color, label=label)
    ax.set(yscale='log', xlabel='size of the update of each lower weight', ylabel='variance of h(l-1)')
    ax.set_xticks(range(len(sizes)), sizes)
    ax.legend(frameon=False, loc='lower left')
    return figure


def trainings(without: List[Training], with_bn: List[Training]) -> Figure:
    """Loss and the variance that the last layer sees, a line for each seed."""
    figure, left, right = panels(2, 10)
    for runs, color, label in ((without, NONE, 'no normalization'), (with_bn, OURS, 'batch_norm')):
        for run in runs:
            for ax, values in ((left, run.loss), (right, run.seen_var)):
                ax.plot(range(1, len(values) + 1), _capped(values), color=color, linewidth=1)
        left.plot([], [], color=color, label=label)
    left.set(yscale='log', xlabel='step', title='loss, one line per seed', ylim=(1e-4, 2e6))
    right.set(yscale='log', xlabel='step', title='variance of what the last layer sees', ylim=(1e-8, 2e6))
    left.legend(frameon=False, loc='upper right', bbox_to_anchor=(1, 0.88))
    return figure


def penalties(weights: Sequence[float], rests: List[List[PenaltyResult]], leaves: PenaltyResult) -> Figure:
    """What a penalty leaves, over its weight. rests: for each weight a list over the seeds."""
    figure, left, right = panels(2, 10)
    for key, ideal, marker, label in (('mean', 0, 'o', 'mean'), ('var', 1, 's', 'variance - 1')):
        rest = numpy.array([[numpy.sqrt(((getattr(run, key) - ideal) ** 2).mean()) for run in runs] for runs in rests])
        _over_weights(left, weights, rest, marker, label)
        largest, dashes = numpy.abs(getattr(leaves, key) - ideal).max(), '-' if ideal else '--'
        left.axhline(largest, color=OURS, linestyle=dashes, label=f'batch_norm: {label}')
    left.set(yscale='log', title='what is left, root mean square over the units')
    left.legend(frameon=False, fontsize=9, loc='center left')
    _over_weights(right, weights, numpy.array([[run.cost for run in runs] for runs in rests]), 'o', None)
    right.set(title='cost without the penalty', yscale='log')
    for ax in (left, right):
        ax.set_xlabel("the penalty's weight")
        ax.set_xticks(range(len(weights)), weights)
    return figure


def _over_weights(ax: Axes, weights: Sequence[float], values: Array, marker: str, label: Optional[str]) -> None:
    middle, face = numpy.median(values, axis=1), 'white' if marker == 's' else OTHER
    reach, style = (middle - values.min(1), values.max(1) - middle), {'fmt': f'{marker}-', 'markerfacecolor': face}
    ax.errorbar(range(len(weights)), middle, reach, color=OTHER, capsize=3, label=label, **style)


def wastes(renormalizing: List[StepDecomposition], with_bn: List[StepDecomposition]) -> Figure:
    """The shares and the loss over the steps: the median over the seeds, and the range."""
    figure, *axes = panels(3, 11)
    methods = ((renormalizing, OTHER, 'renormalize after each step'), (with_bn, OURS, 'batch_norm'))
    titles = {'proposed': 'of the gradient dL/dH', 'moved': "of the step's change of H", 'loss': 'loss'}
    for ax, (key, title) in zip(axes, titles.items()):
        for runs, color, label in methods:
            plot_median_and_range(ax, _capped([getattr(run, key) for run in runs]), color=color, label=label)
        ax.set(xlabel='step', title=title)
        if key != 'loss':
            ax.set_yscale('symlog', linthresh=1e-4)
            ax.set(ylim=(-2e-5, 1.5), yticks=[0, 1e-3, 1e-2, 0.1, 1], yticklabels=['0', '0.001', '0.01', '0.1', '1'])
    axes[0].set_ylabel('share: a shift or a stretch')
    axes[2].legend(frameon=False)
    axes[2].set_yscale('log')
    return figure


def times(widths: Sequence[int], milliseconds: Dict[str, List[float]]) -> Figure:
    """Forward and backward over the width of the layer."""
    ticks = {'xscale': 'log', 'xticks': widths, 'xticklabels': widths, 'xlabel': 'units in the layer'}
    styles, colors = ('s-', 'o-', '^-'), (OTHER, OURS, GLUON)
    figure = _lines(widths, milliseconds, styles, colors, ylabel='ms, forward + backward', **ticks)
    figure.axes[0].minorticks_off()
    return figure


def parametrizations(
    lrs: Sequence[float], old: Dict[float, List[Array]], new: Dict[float, List[Array]], offset: float
) -> Figure:
    """Left the losses at lrs[1], right the last loss over the rate. old, new: {lr: [losses of a seed, ...]}."""
    figure, left, right = panels(2, 10)
    for runs, color, label, marker in ((old, NONE, 'old: XW + b', 'o'), (new, OURS, "new: gamma (XW)' + beta", 's')):
        plot_median_and_range(left, _capped(runs[lrs[1]]), color=color, label=label)
        last = numpy.array([[losses[-1] for losses in runs[lr]] for lr in lrs])  # (rates, seeds)
        right.plot(lrs, numpy.where(last < 10, last, 10), marker, color=color, alpha=0.8)
    left.set(yscale='log', xlabel='step', title=f'loss at rate {lrs[1]}, inputs of mean {offset:g}')
    left.legend(frameon=False)
    right.set(xscale='log', yscale='log', ylim=(None, 18), xlabel='learning rate', title='last loss, one mark per seed')
    right.set_xticks(lrs, lrs)
    right.minorticks_off()
    right.text(lrs[0], 10, 'diverged', va='center', fontsize=9)
    return figure


def cosines(with_gradient: Tuple[Array, Array], without: Tuple[Array, Array]) -> Figure:
    """Cosines of dL/dH with a shift and with a stretch of its unit, by unit."""
    figure, *axes = panels(2, 9.5)
    bins = numpy.linspace(-0.6, 0.6, 40)
    for ax, name, ours, constant in zip(axes, ('a shift', 'a stretch'), with_gradient, without):
        ax.hist(constant, bins, color=NONE, label='mean and std held constant')
        ax.hist(ours, bins, color=OURS, label='batch_norm')
        ax.set(xlabel=f'cosine of dL/dH with {name} of the unit', yscale='log')
    axes[0].set_ylabel('units')
    axes[0].legend(frameon=False, fontsize=9, loc='upper left')
    axes[0].set_ylim(None, 10 * axes[0].get_ylim()[1])
    axes[1].set_ylim(axes[0].get_ylim())
    return figure


def root_slopes(variances: Array, slopes: Dict[float, Array]) -> Figure:
    """The slope of sqrt(var + eps) over var. slopes: {eps: array}."""
    named = {f'eps = {eps:g}': values for eps, values in slopes.items()}
    settings = {'xscale': 'log', 'xlabel': 'variance of the unit', 'ylabel': 'slope of the root'}
    return _lines(variances, named, ('-', '--', ':'), (NONE, OURS, OURS), **settings)


def feature_maps(columns: Dict[str, Array], num_examples: int = 3) -> Figure:
    """Feature maps of the first examples by row; columns: {title: (m, 1, p, q)}."""
    figure, axes = grid(num_examples, len(columns), 1.6 * len(columns), 1.6 * num_examples + 0.3)
    for column, (title, maps) in zip(axes.T, columns.items()):
        shown = maps[:num_examples, 0]
        for ax, feature_map in zip(column, shown):
            ax.imshow(feature_map, cmap='viridis', vmin=shown.min(), vmax=shown.max())
            ax.set(xticks=[], yticks=[])
        column[0].set_title(title, fontsize=10)
    return figure


def errors_by_mean(errors: Dict[str, List[float]], means: Sequence[int]) -> Figure:
    """Relative error of Y over the mean of the input; errors: {name as in drawing.LABELS: [error, ...]}."""
    norms = {label: norm for norm, label in LABELS.items()}
    styles, colors = zip(*((f'o{STYLES.get(norms[name], "-")}', COLORS[norms[name]]) for name in errors))
    ticks = {'xticks': range(len(means)), 'xticklabels': [f'{mean:,}' for mean in means]}
    settings = {'xlabel': 'mean of the input, in standard deviations', 'ylabel': 'relative error of Y', **ticks}
    return _lines(range(len(means)), errors, styles, colors, **settings)
