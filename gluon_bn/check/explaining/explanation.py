"""The usual mistakes as changes of the right formulas, and the variant that gives the observed Y."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from typing import Any, Callable, Collection, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

import numpy

from ..result import Array, same
from ..running.trials import Trial
from .formulas import Formula, Memory, renamed, sqrt, variable
from .grammar import CENTRED, GRAMMAR, SQUARES, X, X_hat, beta, eps, gamma, m, over, var
from .variants import (
    ABOUT_RIGHT_MEAN,
    MEAN,
    MOVING,
    RIGHT,
    VAR,
    Change,
    Steps,
    Variant,
    formula,
    forward,
    other_axes,
    where,
)

OTHER_EPS = (1e-3, 1e-5, 1e-6, 1e-8)
FAMILIAR_AXES = {  # of X (m, c, h, w)
    (0,): 'per pixel',
    (1, 2, 3): 'per example',
    (2, 3): 'per example and channel',
    (0, 1, 2, 3): 'for all values',
    (1,): 'per pixel of each example',
}
# the quantities of the grammar that are steps on the way to Y
STEPS = {'mean': 'mean', 'variance': 'var', 'denominator': 'std', 'X_hat': 'X_hat', 'scale and shift': 'Y', 'Y': 'Y'}


def _of_statistics(rank: int, source: str) -> List[Change]:
    """The usual mistakes in mean and variance."""
    made = [] if source == 'batch' else [Change()]
    first = () if source == 'batch' else ('BatchStatsAtPredict',)
    for axes, less in itertools.product([None, *other_axes(rank)], (0, 1)):
        names = (*first, *['WrongAxis'] * (axes is not None), *['UnbiasedBatchVar'] * less)
        mean, var = MEAN, SQUARES / (m - 1) if less else VAR
        if axes is not None:
            mean, var = over(axes, 'mean', X), over(axes, 'variance', CENTRED**2, less)
        scope = FAMILIAR_AXES.get(axes or ()) if rank == 4 else 'per example' if axes == (1,) else 'for all values'
        words = f', as with one mean {scope}' if axes is not None and scope else ''
        made.append(Change(names, (('mean', mean), ('var', var)) if names else (), words))
    return made if source == 'moving' else [*made, Change(('TrainsOnMovingStats',), MOVING)]


def _of_spread(other_eps: Sequence[float]) -> Iterator[Change]:
    """The usual mistakes in the denominator."""
    insides = {'': var + eps, 'NoEps': var, 'EpsOutsideSqrt': var}
    for name, inside, root in (
        (name, inside, root)
        for name, inside in [*insides.items(), *(('OtherEps', var + value) for value in other_eps)]
        for root in (True, False)
    ):
        spread = sqrt(inside) if root else inside
        spread = spread + eps if name == 'EpsOutsideSqrt' else spread
        names = tuple(one for one in (name, '' if root else 'MissingSqrt') if one)
        yield Change(names, (('std', spread),) if names else ())


def _of_output() -> Iterator[Change]:
    """The usual mistakes in scale and shift."""
    for names, Y in (
        ('', None),
        ('MissingGamma', X_hat + beta),
        ('MissingBeta', gamma * X_hat),
        ('MissingGamma MissingBeta', X_hat),
        ('BetaScaledByGamma', gamma * (X_hat + beta)),
    ):
        yield Change(tuple(names.split()), (('Y', Y),) if Y is not None else ())


EXCHANGES = [
    Change(
        ('ExchangedArguments',),
        ((first, variable(second)), (second, variable(first))),
        f', which results from exchanging {first} and {second}',
    )
    for first, second in [
        ('eps', 'momentum'),
        *itertools.combinations(('gamma', 'beta', 'moving_mean', 'moving_var'), 2),
    ]
]


def _mixed(source: str) -> Iterator[Change]:
    """The mean of the batch with the moving variance, and the other way round."""
    name = 'TrainsOnMovingStats' if source == 'batch' else 'BatchStatsAtPredict'
    for one, other, steps in (
        ('batch', 'moving', (('mean', MEAN), MOVING[1])),
        ('moving', 'batch', (MOVING[0], ('var', ABOUT_RIGHT_MEAN))),
    ):
        yield Change((name,), steps, f', which results from mixing a {one} mean with a {other} variance')


@functools.lru_cache(maxsize=None)
def candidates(rank: int, source: str, all_eps: FrozenSet[float]) -> List[Variant]:
    """All variants with at most three usual mistakes, the fewest changes first."""
    other_eps = [value for value in OTHER_EPS if all_eps != {value}]
    choices = _of_statistics(rank, source), list(_of_spread(other_eps)), list(_of_output())
    made = [
        Variant(source, tuple(change for change in changes if change.names)) for changes in itertools.product(*choices)
    ]
    nearly_right = [one for one in made if len(one.changes) < 2]
    made += [one._replace(changes=(*one.changes, exchange)) for exchange in EXCHANGES for one in nearly_right]
    made += [Variant(source, (mixed,)) for mixed in _mixed(source)]
    return sorted((one for one in made if len(one.names) <= 3), key=lambda one: len(one.changes))


def explain(
    trials: Sequence[Trial], Ys: Sequence[Array], source: str, known: Collection[str] = ()
) -> Optional[Variant]:
    """The variant with the fewest usual mistakes not yet known that gives every Y; None if none or several do."""
    fits = _fit(trials, Ys)
    ranked: Dict[Tuple[int, bool], List[Variant]] = {}
    for variant in usual(trials, source):
        rare = any(change.description and 'WrongAxis' not in change.names for change in variant.changes)
        ranked.setdefault((sum(name not in known for name in variant.names), rare), []).append(variant)
    for key in sorted(ranked):
        fitting = [variant for variant in ranked[key] if fits(variant)]
        if fitting:
            return fitting[0] if key[1] or len({tuple(one.names) for one in fitting}) == 1 else None
    return None


def explain_by_formula(
    trials: Sequence[Trial], Ys: Sequence[Array], source: str, found: Optional[Tuple[str, Formula]]
) -> Optional[Variant]:
    """The variant that gives every Y by the formula found for a quantity, or by a wrong formula for the whole of Y."""
    changes = [] if found is None else _changes(*found)
    others = (
        Variant(source, (*one.changes, change))
        for one in usual(trials, source)
        if len(one.names) < 2
        for change in changes
        if not change.changed & {step for other in one.changes for step in other.changed}
    )
    wholes = (Variant(source, (change,)) for one in GRAMMAR['Y'].candidates() for change in _changes('Y', one))
    fits = _fit(trials, Ys)
    fitting = [variant for variant in itertools.chain(others, wholes) if fits(variant)]
    return min(fitting, key=_complexity) if fitting else None


def _complexity(variant: Variant) -> Tuple[float, ...]:
    """Sorts variants: few changes first, then short formulas of Y, then those most like the right one."""
    text, right = formula(variant).text, formula(RIGHT['batch']).text
    return len(variant.changes), len(text), -difflib.SequenceMatcher(None, text, right).ratio()


def usual(trials: Sequence[Trial], source: str) -> List[Variant]:
    return candidates(trials[0].X.ndim, source, frozenset(trial.eps for trial in trials))


def _fit(trials: Sequence[Trial], Ys: Sequence[Array]) -> Callable[[Variant], bool]:
    """Return a function that says whether a variant gives every Y; if no number is finite, none does."""
    # the random batch first: its first number tells most variants apart
    tried: List[Tuple[Trial, Array, Dict[Any, Memory]]] = [
        (trial, Y, {}) for trial, Y in reversed(list(zip(trials, Ys)))
    ]
    judgeable = any(numpy.isfinite(Y).any() for Y in Ys)

    def fits(variant: Variant) -> bool:
        for trial, Y, memory in tried:
            expected = forward(variant, trial, memory=memory)
            with numpy.errstate(invalid='ignore'):  # infinity - infinity
                far = abs(expected.flat[0] - Y.flat[0]) > 0.01 * (1 + abs(Y.flat[0])) * (1 + abs(expected).max())
            if far or not same(Y, expected, equal_nan=True):
                return False
        return judgeable

    return fits


def _changes(quantity: str, wrong: Formula) -> List[Change]:
    """Possible changes on the way to Y if a quantity equals a wrong formula: a wrong mean may change the variance."""
    alike = renamed(wrong, {'X': CENTRED**2})
    others: List[Steps] = [(), (('var', ABOUT_RIGHT_MEAN),), (('var', alike),)] if quantity == 'mean' else [()]
    name = {'mean': 'WrongMean', 'variance': 'WrongVariance'}.get(quantity, 'WrongFormula')
    if name != 'WrongFormula':
        name = 'WrongAxis' if ' over the axes ' in wrong.text else name
        name = 'WrongCount' if re.search(r'/ \(?(n|size)\b', wrong.text) else name
    made = []
    for other in others:
        steps = ((STEPS[quantity], wrong), *other)
        shown = [f'{step} = {value}' for step, value in steps if value is not ABOUT_RIGHT_MEAN]
        if name == 'WrongAxis':
            shown = [wrong.text.replace('the ', 'a ', 1)]
        text = ' and '.join(shown)
        made.append(Change((name,), steps, f', which results from {text}{where(text)}'))
    return made


def as_line(tried: Sequence[Trial], Ys: Sequence[Array], right: Variant, shown: int) -> str:
    """', which is a * X_hat + b ...' if every Y is, channel by channel. shown: the trial whose a and b are shown."""
    coefficients = []
    for trial, Y in zip(tried, Ys):
        one = numpy.ones_like(trial.gamma)
        X_hat = forward(right, trial._replace(gamma=one, beta=0 * one))
        lines = []
        for x, y in zip(numpy.moveaxis(X_hat, 1, 0), numpy.moveaxis(Y, 1, 0)):
            basis = numpy.stack([x.ravel(), numpy.ones(x.size)], axis=1)
            if not numpy.isfinite(y).all():
                return ''
            lines.append(numpy.linalg.lstsq(basis, y.ravel(), rcond=None)[0])
            if not same(basis @ lines[-1], y.ravel()):
                return ''
        coefficients.append(zip(*lines))
    a, b = (', '.join(f'{value + 0.0:.4g}' for value in numpy.round(column, 5)) for column in coefficients[shown])
    return f', which is a * X_hat + b with a = ({a}) and b = ({b}), channel by channel'
