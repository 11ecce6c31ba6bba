"""Whether formulas give the observed values of a quantity, and numbers that show it."""

from __future__ import annotations

import itertools
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy

from ..result import Array, same
from ..running.trials import Trial
from .formulas import Formula, Memory
from .grammar import Values
from .variants import RIGHT, batch_statistics, dimensions

Sample = Tuple[Values, Array]


def right_values(trial: Trial, mode: str) -> Dict[str, Any]:
    """All right quantities of a trial, by name; prediction normalizes by the moving averages."""
    values = Memory({**trial._asdict(), **dimensions(trial.X)})
    moving = trial.moving_mean, trial.moving_var
    values['mean'], values['var'] = batch_statistics(RIGHT['batch'], trial) if mode == 'training' else moving
    values['std'] = numpy.sqrt(values['var'] + trial.eps)
    values['X_hat'] = (trial.X - values['mean']) / values['std']
    for new, old, batch in (('new_mean', 'moving_mean', 'mean'), ('new_var', 'moving_var', 'var')):
        values[new] = trial.momentum * values[old] + (1 - trial.momentum) * values[batch]
    return values


def fitting(
    tried: Sequence[Formula],
    samples: Sequence[Sample],
    elsewhere: Values,
    through: Callable[[Formula], Formula] = lambda one: one,
) -> Optional[Formula]:
    """The only formula that gives all values, after `through` is applied to it.

    None if no formula does, if several do and they differ on the inputs `elsewhere`, or if all values are NaN.
    """
    if all(numpy.isnan(value).all() for _, value in samples):
        return None
    with numpy.errstate(all='ignore'):
        found = [one for one in tried if all(gives(through(one), values, value) for values, value in samples)]
        others = [one.compute(elsewhere) + 0 * elsewhere['X'] for one in found]
        alike = all(same(one, others[0], 5e-3, 5e-3, equal_nan=True) for one in others)
        return found[0] if found and alike else None


def trial_of(values: Values) -> Trial:
    return Trial(*(values[name] for name in Trial._fields))


def another(values: Values, free: bool) -> Trial:
    """A random trial of the same shape. free: with another eps and momentum, too."""
    trial = trial_of(values)
    random = numpy.random.RandomState(9)
    return trial._replace(
        X=random.randn(*trial.X.shape) * 3 + 2,
        eps=0.3 if free else trial.eps,
        momentum=0.35 if free else trial.momentum,
        **{name: random.uniform(0.5, 3, trial.gamma.shape) for name in ('gamma', 'beta', 'moving_mean', 'moving_var')},
    )


def gives(formula: Formula, values: Values, value: Array) -> bool:
    expected = numpy.asarray(formula.compute(values))
    first = expected.flat[0]
    if abs(first - value.flat[0]) > 0.01 * (1 + abs(first)):  # rules out most formulas
        return False
    finite = numpy.isfinite(value)
    kinds = [numpy.isfinite(expected) != finite, numpy.isnan(expected) != numpy.isnan(value)]
    if not _fits(expected, value) or any(kind.any() for kind in kinds):
        return False
    if not finite.any():
        return True
    expected = numpy.broadcast_to(expected, value.shape)
    rounding = 1e-6 * abs(values['X']).max()  # the rounding error of a 0
    return same(value[finite], expected[finite], rtol=1e-3, atol=max(rounding, 1e-3 * min(1, abs(value[finite]).max())))


def _fits(expected: Array, value: Array) -> bool:
    """Whether `expected` broadcasts to the shape of a value."""
    shape = (1,) * (value.ndim - expected.ndim) + expected.shape
    return len(shape) == value.ndim and all(n in (1, size) for n, size in zip(shape, value.shape))


def numbers(quantity: str, right: Formula, samples: Sequence[Sample]) -> str:
    """'for variance 4 and eps 0.5 it is 2.5, expected 2.1213': on the worked example, if the difference shows there."""
    texts = []
    for (values, value), least in itertools.product(samples, (0.01, 1e-4)):
        with numpy.errstate(all='ignore'):
            expected = numpy.asarray(right.compute(values))
        if not _fits(expected, value):
            continue
        expected = numpy.broadcast_to(expected, value.shape)
        wrong = ~(abs(value - expected) <= least * (abs(expected) + 1e-9))
        wrong = wrong & numpy.isfinite(value) if (wrong & numpy.isfinite(value)).any() else wrong
        if wrong.any():
            places = numpy.argwhere(wrong)
            index = tuple(places[numpy.argmax(places[:, 1])])  # of the last channel, whose variance is a square
            about = _about(quantity, values, index)
            texts.append(
                (
                    (least < 0.01, values['X'].size != 8),
                    f'for {about} it is {value[index]:.5g}, expected {expected[index]:.5g}',
                )
            )
    return min(texts, key=lambda pair: pair[0])[1] if texts else ''


def _about(quantity: str, values: Values, index: Tuple[int, ...]) -> str:
    """The inputs that determine the quantity at this place, in words."""

    def number(name: str) -> str:
        value = numpy.asarray(values[name]) + 0 * values['X']
        return f'{value[tuple(min(i, s - 1) for i, s in zip(index, value.shape))]:.5g}'

    if quantity in ('mean', 'variance'):
        return f'the values {", ".join(f"{x:g}" for x in numpy.moveaxis(values["X"], 1, 0)[index[1]].ravel())}'
    if quantity == 'denominator':
        return f'variance {number("var")} and eps {values["eps"]:g}'
    if quantity in ('X_hat', 'mode'):
        return f'X = {number("X")}, mean {number("mean")} and denominator {number("std")}'
    if quantity in ('scale and shift', 'scaled X_hat'):
        return f'a standardized X of {number("X_hat")}, gamma {number("gamma")} and beta {number("beta")}'
    name = 'mean' if quantity == 'moving mean' else 'var'
    return f'the old {number(f"moving_{name}")}, the batch\'s {number(name)} and momentum {values["momentum"]:g}'
