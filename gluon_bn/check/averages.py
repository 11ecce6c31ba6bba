"""What each known mistake would make of the moving averages after one training batch."""
from __future__ import annotations

import itertools

import numpy

from .variants import Variant, batch_statistics, other_axes, same

RULES = {'blend': None, 'swapped': 'MomentumSwapped', 'overwritten': 'OverwritesRunning', 'kept': 'NeverUpdates',
         'other': 'OtherMomentum'}
KINDS = {'m': None, 'm-1': 'UnbiasedRunningVar', 'std': 'RunningStdNotVar', 'std, m-1': 'RunningStdNotVar',
         'std with eps': 'RunningStdNotVar', 'std with eps, m-1': 'RunningStdNotVar'}


def explain(trials, observed, variant, known):
    """The names of the fewest new mistakes that give the observed averages; None if none do.

    `variant` is how the batch itself was normalized: an average of the same wrong statistic is no second mistake.
    """
    rank = trials[0].X.ndim
    axes = dict.fromkeys(['channel' if variant is None else variant.axes, 'channel', *other_axes(rank)])
    divide = 'm' if variant is None else variant.divide
    names = []
    for quantity, kinds in (('moving_mean', ['mean']), ('moving_var', list(KINDS))):
        best = None
        for over, kind in itertools.product(axes, kinds):
            if best is not None and best[0] == 0:
                break
            batches = [_batch(trial, over, kind) for trial in trials]
            olds, news = ([getattr(source, quantity) for source in sources] for sources in (trials, observed))
            rule = _rule(trials, olds, batches, news)
            if rule is None:
                continue
            found = [] if RULES[rule] is None else [RULES[rule]]
            if rule != 'kept':
                found += ['WrongAxis'] if over != 'channel' else []
                found += [] if kind in ('mean', divide) or KINDS[kind] is None else [KINDS[kind]]
            price = sum(name not in known for name in found)
            if best is None or price < best[0]:
                best = price, found
        if best is None:
            return None
        names += best[1]
    return list(dict.fromkeys(names))


def _batch(trial, axes, kind):
    mean, var = batch_statistics(Variant(axes=axes, divide='m-1' if 'm-1' in kind else 'm'), trial.X)
    if kind == 'mean':
        return mean
    return numpy.sqrt(var + (trial.eps if 'eps' in kind else 0)) if 'std' in kind else var


def _rule(trials, olds, batches, news):
    """How each new average came from the old one and the batch's; None if by no known rule."""
    def fits(weights):
        return all(same(new, weight * old + (1 - weight) * batch if weight else batch)
                   for weight, old, batch, new in zip(weights, olds, batches, news))

    momenta = [trial.momentum for trial in trials]
    for rule, weights in (('blend', momenta), ('swapped', [1 - m for m in momenta]), ('overwritten', [0] * len(trials)),
                          ('kept', [1] * len(trials))):
        if fits(weights):
            return rule
    if any(new.size != (old + batch).size for old, batch, new in zip(olds, batches, news)):
        return None
    # some other weight, the same in all trials: solve new - batch = weight * (old - batch)
    left = numpy.concatenate([numpy.ravel(old - batch) for old, batch in zip(olds, batches)])
    right = numpy.concatenate([numpy.ravel(new.reshape((old + batch).shape) - batch)
                               for old, batch, new in zip(olds, batches, news)])
    if not (numpy.isfinite(left).all() and numpy.isfinite(right).all() and left.any()):
        return None
    weight = left @ right / (left @ left)
    return 'other' if 0 < weight < 1 and fits([weight] * len(trials)) else None
