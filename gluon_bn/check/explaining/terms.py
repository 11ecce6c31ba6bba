"""The factors by which the three terms of dX are off, by least squares."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Sequence, Tuple

import numpy

from ..result import Array, StudentError
from ..running.trials import Trial
from .backward import RightGradients


def diagnose_dX(
    tried: Sequence[Trial], returned: Sequence[Mapping[str, Any]], right: Sequence[RightGradients]
) -> Tuple[List[str], str]:
    """The names of what is wrong with dX, and the factors that show it."""
    factors = [gradients.factors(one['dX']) for gradients, one in zip(right, returned)]
    if any(f is None for f in factors):
        return ['WrongGradientX'], ''
    direct, mean, var = numpy.concatenate(factors).T
    # a dX that is built from a wrong dbeta or dgamma is no second mistake
    from_dbeta, from_dgamma = (
        numpy.concatenate(
            [
                (
                    numpy.nan * gradients[name] if isinstance(one[name], StudentError) else one[name] / gradients[name]
                ).ravel()
                for one, gradients in zip(returned, right)
            ]
        )
        for name in ('dbeta', 'dgamma')
    )
    numbers = (
        f'; your dX is {_times(direct)} the direct term, plus {_times(mean)} the term through the mean, '
        f'plus {_times(var)} the term through the variance'
    )
    if _all(direct, 0):
        return ['WrongGradientX'], numbers
    found = [] if _all(direct, 1) else ['WrongGradientScale']
    for name, factor, own in (
        ('WrongGradientThroughMean', mean / direct, from_dbeta),
        ('WrongGradientThroughVariance', var / direct, from_dgamma),
    ):
        if not _all(factor, 1) and not _all(factor, own):
            miscounted = any(_all(factor, wrong) for wrong in _miscounts(tried))
            found.append('WrongGradientFactorM' if miscounted else name)
    found = list(dict.fromkeys(found))
    # dX is wrong, but no factor is its own fault: it was built from a wrong dgamma or dbeta
    return found or ['WrongGradientGamma' if not _all(var, 1) else 'WrongGradientBeta'], numbers


def _miscounts(tried: Sequence[Trial]) -> Iterator[Any]:
    """The factors of a term that divides by 1, m - 1, the examples, the locations, or X.size instead of m."""
    shapes = [trial.X.shape for trial in tried]
    counts = [
        [1, m - 1, shape[0], m // shape[0], m * shape[1]] for shape in shapes for m in [numpy.prod(shape) // shape[1]]
    ]
    for wrong in zip(*counts):
        factors = [numpy.full(shape[1], numpy.prod(shape) / shape[1] / count) for shape, count in zip(shapes, wrong)]
        if not _all(numpy.concatenate(factors), 1):
            yield numpy.concatenate(factors)


def _all(values: Array, expected: Any) -> bool:
    return bool(numpy.allclose(values, expected, rtol=5e-3, atol=5e-3))


def _times(values: Array) -> str:
    low, high = round(float(values.min()), 2) + 0.0, round(float(values.max()), 2) + 0.0
    return f'{low:g} times' if abs(high - low) < 0.011 else f'{low:g} to {high:g} times'
