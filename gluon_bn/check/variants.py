"""What each known mistake would give: batch normalization in float64 with one choice for every way to go wrong.

A mistake is named only if the numbers that it predicts are the student's numbers.
"""
from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy

# float32 and any order of summation on a few dozen values: 1e-6; two different choices below: 4e-4 and more
RTOL, ATOL = 1e-4, 1e-5
OTHER_EPS = (1e-3, 1e-5, 1e-6, 1e-8)
FAMILIAR_AXES = {  # of X (m, c, h, w)
    (0,): 'per pixel', (1, 2, 3): 'per example', (2, 3): 'per example and channel',
    (0, 1, 2, 3): 'for all values', (1,): 'per pixel of each example'}


class Variant(NamedTuple):
    """One way to compute Y; the defaults are right in training."""

    axes: object = 'channel'  # or the tuple of axes that the mean is taken over
    source: str = 'batch'     # or 'moving': the statistics that normalize
    divide: str = 'm'         # or 'm-1'
    eps: object = 'inside'    # or 'outside' the root, 'none', or a number of its own
    root: bool = True         # False divides by the variance
    gamma: bool = True
    beta: str = 'added'       # or 'missing', or 'scaled' by gamma


def mistakes(variant, source):
    """The names of the mistakes that a variant makes where `source` is right ('batch' or 'moving')."""
    names = []
    if variant.source != source:
        names.append('TrainsOnMovingStats' if source == 'batch' else 'BatchStatsAtPredict')
    if variant.axes != 'channel':
        names.append('WrongAxis')
    if variant.divide != 'm':
        names.append('UnbiasedBatchVar')
    if variant.eps != 'inside':
        names.append({'outside': 'EpsOutsideSqrt', 'none': 'NoEps'}.get(variant.eps, 'OtherEps'))
    if not variant.root:
        names.append('MissingSqrt')
    if not variant.gamma:
        names.append('MissingGamma')
    if variant.beta != 'added':
        names.append({'missing': 'MissingBeta', 'scaled': 'BetaScaledByGamma'}[variant.beta])
    return names


def channel_axes(rank):
    return (0,) if rank == 2 else (0, 2, 3)


def other_axes(rank):
    """All wrong sets of axes."""
    subsets = (subset for size in range(1, rank + 1) for subset in itertools.combinations(range(rank), size))
    return [subset for subset in subsets if subset != channel_axes(rank)]


def batch_statistics(variant, X, X_mean=None, X_var=None):
    """(mean, var); X_mean and X_var are what stays fixed where the path through the mean or variance is cut."""
    axes = channel_axes(X.ndim) if variant.axes == 'channel' else variant.axes
    X_mean, X_var = X if X_mean is None else X_mean, X if X_var is None else X_var
    mean = X_mean.mean(axes, keepdims=True)
    var = ((X_var - (mean if X_var is X else X_var.mean(axes, keepdims=True))) ** 2).mean(axes, keepdims=True)
    if variant.divide == 'm-1':
        count = numpy.prod([X.shape[axis] for axis in axes])
        var = var * count / (count - 1) if count > 1 else var * numpy.nan
    return mean, var


def forward(variant, trial, X=None, gamma=None, beta=None, X_mean=None, X_var=None):
    """Y of the trial's arrays, or of those given in their place."""
    X = trial.X if X is None else X
    gamma, beta = trial.gamma if gamma is None else gamma, trial.beta if beta is None else beta
    if variant.source == 'batch':
        mean, var = batch_statistics(variant, X, X_mean, X_var)
    else:
        mean, var = trial.moving_mean, trial.moving_var
    eps = {'inside': trial.eps, 'outside': 0, 'none': 0}.get(variant.eps, variant.eps)
    with numpy.errstate(all='ignore'):
        spread = numpy.sqrt(var + eps) if variant.root else var + eps
        if variant.eps == 'outside':
            spread = spread + trial.eps
        Y = (X - mean) / spread
    if variant.beta == 'scaled':
        Y = Y + beta
    Y = gamma * Y if variant.gamma else Y
    return Y + beta if variant.beta == 'added' else Y


def gradients(variant, trial, cut=()):
    """(dX, dgamma, dbeta) by central differences; `cut` holds 'mean' or 'var' where the gradient does not flow."""
    frozen = {f'X_{path}': trial.X for path in cut}

    def slope(name, value):
        result, step = numpy.empty_like(value), 1e-5
        for index in numpy.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                sides.append((forward(variant, trial, **{**frozen, name: moved}) * trial.dY).sum())
            result[index] = (sides[0] - sides[1]) / (2 * step)
        return result

    return slope('X', trial.X), slope('gamma', trial.gamma), slope('beta', trial.beta)


def same(actual, expected, rtol=RTOL, atol=ATOL):
    """Whether two arrays agree but for rounding, whatever axes of length 1 they have."""
    if actual.size != expected.size:
        return False
    actual, expected = actual.ravel(), expected.ravel()
    return bool(numpy.allclose(actual, expected, rtol=rtol, atol=atol * max(1, abs(expected).max())))


@functools.lru_cache(maxsize=None)
def candidates(rank, source, all_eps):
    """Every variant with at most three mistakes, and their names."""
    other_eps = [value for value in OTHER_EPS if all_eps != {value}]
    made = (Variant(*choice) for choice in itertools.product(
        ('channel', *other_axes(rank)), ('batch', 'moving'), ('m', 'm-1'), ('inside', 'outside', 'none', *other_eps),
        (True, False), (True, False), ('added', 'missing', 'scaled')))
    named = [(variant, tuple(mistakes(variant, source))) for variant in made
             if variant.source == 'batch' or (variant.axes, variant.divide) == ('channel', 'm')]
    return [pair for pair in named if len(pair[1]) <= 3]


def explain(trials, Ys, source, known=()):
    """The variant with the fewest mistakes not yet known that gives every Y; None if none or several do."""
    by_price = {}
    for variant, names in candidates(trials[0].X.ndim, source, frozenset(trial.eps for trial in trials)):
        by_price.setdefault(sum(name not in known for name in names), []).append((variant, names))
    pairs = list(zip(trials, Ys))[::-1]  # the random batch first: it tells most variants apart
    for price in sorted(by_price):
        fitting = [(variant, names) for variant, names in by_price[price]
                   if all(same(Y, forward(variant, trial)) for trial, Y in pairs)]
        if fitting:
            return fitting[0][0] if len({names for _, names in fitting}) == 1 else None
    return None
