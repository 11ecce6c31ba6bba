"""A backward pass by hand, taken apart: which of the three ways from X to Y its dX follows, and with which factor.

    dX = gamma / sqrt(var + eps) * (direct * dY - through_mean * dbeta / m - through_variance * X_hat * dgamma / m)

For a right dX the three factors are 1. They are solved for, channel by channel, by least squares.
"""
from __future__ import annotations

import numpy

from .guard import Trouble
from .observe import front, to_numpy, unpack
from .properties import GRADIENT_RTOL
from .result import Finding, Row, difference
from .trials import RANKS, trials, upstream
from .variants import Variant, batch_statistics, channel_axes, same

PROPERTIES = {'dense': 2, 'convolution': 4}
# constants that may be wrong in 1 / sqrt(var + eps): what to change in the forward formula
SPREADS = {'NoEps': Variant(eps='none'), 'EpsOutsideSqrt': Variant(eps='outside'),
           'UnbiasedBatchVar': Variant(divide='m-1')}


class Parts:
    """The right gradients of one trial, and the three parts of dX."""

    def __init__(self, trial, variant=None):
        variant = variant or Variant()
        self.axes = channel_axes(trial.X.ndim)
        self.m = trial.X.size // trial.X.shape[1]
        mean, var = batch_statistics(variant, trial.X)
        eps = {'none': 0, 'outside': 0}.get(variant.eps, trial.eps)
        self.spread = numpy.sqrt(var + eps) + (trial.eps if variant.eps == 'outside' else 0)
        self.X_hat = (trial.X - mean) / self.spread
        self.dgamma, self.dbeta = self.sum(trial.dY * self.X_hat), self.sum(trial.dY)
        scale = trial.gamma / self.spread
        self.parts = [scale * trial.dY, -scale * self.dbeta / self.m + 0 * trial.X,
                      -scale * self.X_hat * self.dgamma / self.m]
        self.dX = sum(self.parts)

    def sum(self, array):
        return array.sum(self.axes, keepdims=True)

    def factors(self, dX):
        """(channels, 3): the factors of the three parts in a dX; None if it is no sum of them."""
        rows = []
        for channel in range(dX.shape[1]):
            basis = numpy.stack([part[:, channel].ravel() for part in self.parts], axis=1)
            wanted = dX[:, channel].ravel()
            factors = numpy.linalg.lstsq(basis, wanted, rcond=None)[0]
            if not same(basis @ factors, wanted, rtol=GRADIENT_RTOL, atol=1e-4):
                return None
            rows.append(factors)
        return numpy.array(rows)


def judge_gradient(fn, guard, keys):
    """The rows of the result: for each rank dgamma, dbeta and dX."""
    rows, told = [], set()
    for rank in (PROPERTIES[key] for key in keys):
        tried = [trials(rank)[1], trials(rank)[3]]
        words = [f'{RANKS[rank]}: {name}' for name in ('dgamma', 'dbeta', 'dX')]
        try:
            seen = [guard.run(lambda trial=trial: observe(fn, trial)) for trial in tried]
        except Trouble as trouble:
            new = (trouble.name, trouble.text) not in told and not (told and trouble.name == 'TooSlow')
            told.add((trouble.name, trouble.text))
            found, reason = Finding(trouble.name, trouble.text), f'not tried, because of {trouble.name}'
            rows.append(Row(words[0], (found,) if new else (), reason))
            rows += [Row(word, (), reason) for word in words[1:]]
            continue
        rows += [Row(word, tuple(_judge(name, tried, seen))) for word, name in zip(words, ('dgamma', 'dbeta', 'dX'))]
    return rows


def observe(fn, trial):
    """Call fn on one trial: (dX, dgamma, dbeta) in float64."""
    arrays = [front().array(value, dtype='float32') for value in (trial.dY, trial.X, trial.gamma)]
    before = [array.asnumpy() for array in arrays]
    names = ('dX', 'dgamma', 'dbeta')
    returned = [front().array(value, dtype='float64') if isinstance(value, numpy.ndarray) else value
                for value in unpack(fn(*arrays, trial.eps), names)]
    values = [to_numpy(*pair) for pair in zip(names, returned)]
    for name, value, like in zip(names, values, (trial.X, trial.gamma, trial.gamma)):
        if value.size != like.size or (name == 'dX' and value.shape != like.shape):
            raise Trouble('WrongShape', f'{name} should have the shape {like.shape}, yours has {value.shape}')
    for name, array, value in zip(('dY', 'X', 'gamma'), arrays, before):
        if not numpy.array_equal(array.asnumpy(), value):
            raise Trouble('MutatesInput', f'after the call {name} holds other numbers than before')
    return [value.reshape(like.shape) for value, like in zip(values, (trial.X, trial.gamma, trial.gamma))]


def _judge(name, tried, seen):
    index = {'dX': 0, 'dgamma': 1, 'dbeta': 2}[name]
    right = [Parts(trial) for trial in tried]
    wrong = [i for i in range(len(tried)) if not same(seen[i][index], getattr(right[i], name), rtol=GRADIENT_RTOL)]
    if not wrong:
        return []
    trial = tried[wrong[0]]
    expected, actual = getattr(right[wrong[0]], name), seen[wrong[0]][index]
    text = difference(trial.told('gamma', 'eps') + upstream(trial), name, expected, actual)
    for mistake, variant in SPREADS.items():
        if all(same(one[index], getattr(Parts(t, variant), name), rtol=GRADIENT_RTOL) for t, one in zip(tried, seen)):
            return [Finding(mistake, text)]
    if name != 'dX':
        return [Finding(f'WrongGradient{name[1:].title()}', text)]
    return [Finding(mistake, text + more) for mistake, more in _diagnose(tried, seen, right)]


def _diagnose(tried, seen, right):
    """The names of what is wrong with dX, with the factors that tell it."""
    factors = [part.factors(one[0]) for part, one in zip(right, seen)]
    if any(f is None for f in factors):
        return [('WrongGradientX', '')]
    direct, mean, var = numpy.concatenate(factors).T
    # whoever builds dX from a wrong dbeta or dgamma has made that one mistake
    from_dbeta = numpy.concatenate([(one[2] / part.dbeta).ravel() for one, part in zip(seen, right)])
    from_dgamma = numpy.concatenate([(one[1] / part.dgamma).ravel() for one, part in zip(seen, right)])
    numbers = f'; your dX holds the direct way {_times(direct)}, that through the mean {_times(mean)}, ' \
              f'that through the variance {_times(var)}'
    if _all(direct, 0):
        return [('WrongGradientX', numbers)]
    found = [] if _all(direct, 1) else [('WrongGradientScale', numbers)]
    for name, factor, own in (('WrongGradientThroughMean', mean / direct, from_dbeta),
                              ('WrongGradientThroughVariance', var / direct, from_dgamma)):
        if not _all(factor, 1) and not _all(factor, own):
            miscounted = any(_all(factor, wrong) for wrong in _miscounts(tried))
            found.append(('WrongGradientFactorM' if miscounted else name, numbers))
    found = list(dict.fromkeys(found))
    # dX is wrong and yet no factor is its own: it was built from a wrong dgamma or dbeta
    return found or [('WrongGradientGamma' if not _all(var, 1) else 'WrongGradientBeta', numbers)]


def _miscounts(tried):
    """By what a part is off where m is taken for 1, m - 1, the examples, the locations, or the whole size."""
    shapes = [trial.X.shape for trial in tried]
    counts = [[1, m - 1, shape[0], m // shape[0], m * shape[1]]
              for shape in shapes for m in [numpy.prod(shape) // shape[1]]]
    for wrong in zip(*counts):
        factors = [numpy.full(shape[1], numpy.prod(shape) / shape[1] / count) for shape, count in zip(shapes, wrong)]
        if not _all(numpy.concatenate(factors), 1):
            yield numpy.concatenate(factors)


def _all(values, expected):
    return bool(numpy.allclose(values, expected, rtol=5e-3, atol=5e-3))


def _times(values):
    low, high = round(float(values.min()), 2) + 0.0, round(float(values.max()), 2) + 0.0
    return f'{low:g} times' if abs(high - low) < 0.011 else f'{low:g} to {high:g} times'
