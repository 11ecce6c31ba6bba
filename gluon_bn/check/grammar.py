"""What a wrong quantity may equal: every formula one change away from the right one."""

from __future__ import annotations

import functools
import itertools
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy

from .formulas import Formula, edits, sqrt, total, variable
from .result import Array, same
from .trials import Trial
from .variants import Variant, batch_statistics, dimensions

X, mean, var, gamma, beta, eps, m, n, size = map(variable, 'X mean var gamma beta eps m n size'.split())
momentum, X_hat, moving_mean, moving_var, new_mean = map(
    variable, 'momentum X_hat moving_mean moving_var new_mean'.split()
)
ALL_AXES = [axes for size in (1, 2, 3) for axes in itertools.combinations(range(4), size)]
STD = Formula('sqrt(var + eps)', lambda values: values['std'])
ARGUMENTS = X, gamma, beta, eps, moving_mean, moving_var, momentum, m, n, size
NAMES = (mean, var, *ARGUMENTS)
# the right formula of each quantity, and the names that a slip may insert
GRAMMAR: Dict[str, Tuple[Formula, Tuple[Formula, ...]]] = {
    'mean': (total(X) / m, ARGUMENTS),
    'variance': (total((X - mean) ** 2) / m, (mean, *ARGUMENTS)),
    'denominator': (sqrt(var + eps), (*NAMES, X - mean, new_mean)),
    'X_hat': ((X - mean) / STD, (*NAMES, STD)),
    'mode': ((X - mean) / STD, ()),
    'scaled X_hat': (gamma * X_hat, ()),
    'scale and shift': (gamma * X_hat + beta, (*NAMES, X_hat, STD, X - mean)),
    'moving mean': (momentum * moving_mean + (1 - momentum) * mean, (*NAMES, STD)),
    'moving variance': (momentum * moving_var + (1 - momentum) * var, (*NAMES, new_mean, STD)),
}

Values = Mapping[str, Any]
Sample = Tuple[Values, Array]


def right_values(trial: Trial, mode: str) -> Dict[str, Any]:
    """All right quantities of a trial, by name; prediction normalizes by the moving averages."""
    values: Dict[str, Any] = {**trial._asdict(), **dimensions(trial.X)}
    moving = trial.moving_mean, trial.moving_var
    values['mean'], values['var'] = batch_statistics(Variant(), trial) if mode == 'training' else moving
    values['std'] = numpy.sqrt(values['var'] + trial.eps)
    values['X_hat'] = (trial.X - values['mean']) / values['std']
    values['new_mean'] = trial.momentum * trial.moving_mean + (1 - trial.momentum) * values['mean']
    return values


@functools.lru_cache(maxsize=None)
def candidates(right: Formula, leaves: Tuple[Formula, ...], structure: bool) -> List[Formula]:
    made = edits(right, leaves, structure)
    if right in (GRAMMAR['mean'][0], GRAMMAR['variance'][0]):
        for axes in ALL_AXES:
            what, values = ('mean', X) if right is GRAMMAR['mean'][0] else ('variance', (X - mean) ** 2)
            made[f'{what} {axes}'] = over(axes, what, values)
    if right.text.startswith('momentum'):  # the same rule written differently, and other batch statistics
        old, batch = right.parts[0].parts[1], right.parts[1].parts[1]
        statistic, names = GRAMMAR['mean' if batch is mean else 'variance']
        others = *edits(batch, leaves).values(), *edits(statistic, (*names, new_mean)).values()
        blended = (momentum * old + (1 - momentum) * one for one in (*others, STD, 1 / STD, gamma**2 * var))
        also = edits(old + (1 - momentum) * (batch - old), leaves).values()
        rules = sorted((*blended, *made.values()), key=lambda one: len(one.text))
        made = {one.text: one for one in (*rules, *also)}  # the chapter's way of writing first
    return list(made.values())


def over(axes: Tuple[int, ...], what: str, argument: Formula) -> Formula:
    """The mean of an argument over the given axes."""

    def compute(values: Values) -> Any:
        array = argument.compute(values)
        return array.mean(tuple(axis for axis in axes if axis < array.ndim), keepdims=True)

    return Formula(f'the {what} over the axes {axes}', compute)


def fitting(
    tried: Sequence[Formula], samples: Sequence[Sample], mode: str, free: bool, through: Callable[[Formula], Formula]
) -> str:
    """The text of the only formula that, seen `through` a function, gives all values.

    It is '' if no formula does, or if several do that differ on other inputs.
    """
    with numpy.errstate(all='ignore'):
        found = [one for one in tried if all(gives(through(one), values, value) for values, value in samples)]
        if not found:
            return ''
        random = numpy.random.RandomState(9)
        trial: Trial = _trial(samples[0][0])
        trial = trial._replace(
            X=random.randn(*trial.X.shape) * 3 + 2,
            eps=0.3 if free else trial.eps,
            momentum=0.35 if free else trial.momentum,
            **{
                name: random.uniform(0.5, 3, trial.gamma.shape)
                for name in ('gamma', 'beta', 'moving_mean', 'moving_var')
            },
        )
        elsewhere = right_values(trial, mode)
        first = found[0].compute(elsewhere) + 0 * trial.X
        if all(same(one.compute(elsewhere) + 0 * trial.X, first, equal_nan=True) for one in found[1:]):
            return found[0].text
        return ''


def _trial(values: Values) -> Trial:
    return Trial(*(values[name] for name in Trial._fields))


def gives(formula: Formula, values: Values, value: Array) -> bool:
    expected = numpy.asarray(formula.compute(values))
    first = expected.flat[0]
    if abs(first - value.flat[0]) > 0.01 * (1 + abs(first)):  # most formulas end here
        return False
    finite = numpy.isfinite(value)
    if not _fits(expected, value) or (numpy.isfinite(expected) != finite).any() or not finite.any():
        return False
    expected = numpy.broadcast_to(expected, value.shape)
    return same(value[finite], expected[finite], rtol=1e-3, atol=1e-3 * min(1, abs(value[finite]).max()))


def _fits(expected: Array, value: Array) -> bool:
    """Whether `expected` broadcasts to the shape of a value."""
    shape = (1,) * (value.ndim - expected.ndim) + expected.shape
    return len(shape) == value.ndim and all(n in (1, size) for n, size in zip(shape, value.shape))


def numbers(quantity: str, right: Formula, samples: Sequence[Sample]) -> str:
    """'for variance 4 and eps 0.5 it is 2.5, expected 2.1213': on the worked example, if the difference shows there."""
    texts = []
    for values, value in samples:
        with numpy.errstate(all='ignore'):
            expected = numpy.asarray(right.compute(values))
        if not _fits(expected, value):
            continue
        expected = numpy.broadcast_to(expected, value.shape)
        wrong = ~(abs(value - expected) <= 0.01 * (abs(expected) + 1e-9))
        wrong = wrong & numpy.isfinite(value) if (wrong & numpy.isfinite(value)).any() else wrong
        if wrong.any():
            places = numpy.argwhere(wrong)
            index = tuple(places[numpy.argmax(places[:, 1])])  # of the last channel, whose variance is a square
            about = _about(quantity, values, index)
            texts.append(
                (values['X'].size != 8, f'for {about} it is {value[index]:.5g}, expected {expected[index]:.5g}')
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
