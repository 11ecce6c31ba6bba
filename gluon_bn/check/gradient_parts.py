"""The dX of a backward pass by hand, taken apart: which of the three ways from X to Y it follows, with which factor.

    dX = gamma / sqrt(var + eps) * (direct * dY - through_mean * dbeta / m - through_variance * X_hat * dgamma / m)

For a right dX the three factors are 1. They are solved for, channel by channel, by least squares.
"""
from __future__ import annotations

import functools
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy

from .formulas import Formula
from .gradient_slips import PARAMETERS, dX_formulas
from .properties import GRADIENT_RTOL
from .raised import Trouble
from .trials import Array, Trial
from .variants import Variant, batch_statistics, channel_axes, same, where

Seen = Dict[str, Any]  # what was returned for one trial, by name: an array, or the Trouble with it


class Parts:
    """The right gradients of one trial, and the three parts of dX."""

    def __init__(self, trial: Trial, variant: Optional[Variant] = None) -> None:
        variant = variant or Variant()
        self.axes = channel_axes(trial.X.ndim)
        self.m = trial.X.size // trial.X.shape[1]
        mean, var = batch_statistics(variant, trial.X)
        eps = 0 if variant.eps in ('none', 'outside') else trial.eps
        self.spread = numpy.sqrt(var + eps) + (trial.eps if variant.eps == 'outside' else 0)
        self.X_hat = (trial.X - mean) / self.spread
        self.dgamma, self.dbeta = self.sum(trial.dY * self.X_hat), self.sum(trial.dY)
        scale = trial.gamma / self.spread
        self.parts = [scale * trial.dY, -scale * self.dbeta / self.m + 0 * trial.X,
                      -scale * self.X_hat * self.dgamma / self.m]
        self.dX = sum(self.parts)
        self.values = {**trial._asdict(), 'mean': mean, 'var': var, 'X_hat': self.X_hat, 'axes': self.axes, 'm': self.m,
                       'n': trial.X.shape[0]}

    def sum(self, array: Array) -> Array:
        result: Array = array.sum(self.axes, keepdims=True)
        return result

    def factors(self, dX: Array) -> Optional[Array]:
        """(channels, 3): the factors of the three parts in a dX; None if it is no sum of them."""
        rows = []
        for channel in range(dX.shape[1]):
            basis = numpy.stack([part[:, channel].ravel() for part in self.parts], axis=1)
            wanted = dX[:, channel].ravel()
            factors = numpy.linalg.lstsq(basis, wanted, rcond=None)[0]
            if not same(basis @ factors, wanted, rtol=GRADIENT_RTOL, atol=1e-4):
                return None
            rows.append(factors)
        result: Array = numpy.array(rows)
        return result


def explain_dX(seen: Sequence[Seen], parts: Sequence[Parts]) -> Tuple[Optional[List[str]], str]:
    """The names of what is wrong with dX, and the formula that gives it, in words; (None, '') if none is known.

    It may be built from dgamma and dbeta as they were returned.
    """
    values = [{**part.values, **{name: getattr(part, name) if isinstance(one[name], Trouble) else one[name]
                                 for name in ('dgamma', 'dbeta')}} for part, one in zip(parts, seen)]
    for names, formula in _dX_formulas():
        if _gives(formula, values, [one['dX'] for one in seen]):
            return names, f'dX = {formula}{where(str(formula))}'
    return None, ''


def explain_parameter(name: str, seen: Sequence[Seen], parts: Sequence[Parts]) -> str:
    """The formula that gives dgamma or dbeta, in words; '' if none is known."""
    values = [part.values for part in parts]
    found = (formula for formula in PARAMETERS[name] if _gives(formula, values, [one[name] for one in seen]))
    return next((f', which is {name} = {formula}{where(str(formula))}' for formula in found), '')


_dX_formulas = functools.lru_cache(maxsize=None)(dX_formulas)


def _gives(formula: Formula, values: Sequence[Mapping[str, Any]], wanted: Sequence[Any]) -> bool:
    with numpy.errstate(all='ignore'):
        return all(same(array, formula.compute(each) + 0 * array, rtol=GRADIENT_RTOL, atol=1e-4)
                   for each, array in zip(values, wanted))


def diagnose(tried: Sequence[Trial], seen: Sequence[Seen], parts: Sequence[Parts]) -> Tuple[List[str], str]:
    """What is wrong with dX, by names, and the factors that tell it."""
    factors = [part.factors(one['dX']) for part, one in zip(parts, seen)]
    if any(f is None for f in factors):
        return ['WrongGradientX'], ''
    direct, mean, var = numpy.concatenate(factors).T
    # whoever builds dX from a wrong dbeta or dgamma has made that one mistake
    from_dbeta, from_dgamma = (
        numpy.concatenate([(one[name] / getattr(part, name) if not isinstance(one[name], Trouble)
                            else numpy.nan * part.dbeta).ravel() for one, part in zip(seen, parts)])
        for name in ('dbeta', 'dgamma'))
    numbers = f'; your dX holds the direct way {_times(direct)}, that through the mean {_times(mean)}, ' \
              f'that through the variance {_times(var)}'
    if _all(direct, 0):
        return ['WrongGradientX'], numbers
    found = [] if _all(direct, 1) else ['WrongGradientScale']
    for name, factor, own in (('WrongGradientThroughMean', mean / direct, from_dbeta),
                              ('WrongGradientThroughVariance', var / direct, from_dgamma)):
        if not _all(factor, 1) and not _all(factor, own):
            miscounted = any(_all(factor, wrong) for wrong in _miscounts(tried))
            found.append('WrongGradientFactorM' if miscounted else name)
    found = list(dict.fromkeys(found))
    # dX is wrong and yet no factor is its own: it was built from a wrong dgamma or dbeta
    return found or ['WrongGradientGamma' if not _all(var, 1) else 'WrongGradientBeta'], numbers


def _miscounts(tried: Sequence[Trial]) -> Iterator[Array]:
    """By what a part is off where m is taken for 1, m - 1, the examples, the locations, or the whole size."""
    shapes = [trial.X.shape for trial in tried]
    counts = [[1, m - 1, shape[0], m // shape[0], m * shape[1]]
              for shape in shapes for m in [numpy.prod(shape) // shape[1]]]
    for wrong in zip(*counts):
        factors = [numpy.full(shape[1], numpy.prod(shape) / shape[1] / count) for shape, count in zip(shapes, wrong)]
        if not _all(numpy.concatenate(factors), 1):
            yield numpy.concatenate(factors)


def _all(values: Array, expected: Any) -> bool:
    return bool(numpy.allclose(values, expected, rtol=5e-3, atol=5e-3))


def _times(values: Array) -> str:
    low, high = round(float(values.min()), 2) + 0.0, round(float(values.max()), 2) + 0.0
    return f'{low:g} times' if abs(high - low) < 0.011 else f'{low:g} to {high:g} times'
