"""Formulas of wrong backward passes: the right ways to write one by hand, with one or two wrong parts.

X_hat -> dgamma, dbeta -> dX = scale * (dY - a term through the mean - a term through the variance)
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from .formulas import SIGNS, Formula, constant, edits, named, renamed, total, variable
from .grammar import COUNTS, MAXIMUM, MEDIAN, ROOT, X, X_hat, eps, gamma, m, mean, n, size, var
from .variants import RIGHT_STEPS

dY, dgamma, dbeta = map(variable, ('dY', 'dgamma', 'dbeta'))
CENTRED = named(X - mean)
STD, INVERSE = named(ROOT), named(1 / ROOT)
NAMES = dY, X_hat, X, mean, var, dgamma, dbeta, gamma, eps, m, n, size, CENTRED, STD, INVERSE
FACTORS = gamma, m, n, eps, STD, X_hat  # names that a mistake may insert, not only put in the place of others
NONE = Formula('0', lambda values: 0)
OTHER = {'dgamma': 'dbeta', 'dbeta': 'dgamma'}
SCALE, MEAN, VARIANCE = 'WrongGradientScale', 'WrongGradientThroughMean', 'WrongGradientThroughVariance'


class Slip(NamedTuple):
    """What is wrong with a gradient: the names of the mistakes, the wrong part, and the whole formula."""

    names: Tuple[str, ...]
    part: Formula
    whole: Formula
    quantity: str = ''  # the quantity with the wrong part, if it comes before dgamma


class Way(NamedTuple):
    """One part of a way to write dX: the mistake that it may contain, and how to make dX with another part.

    `make` takes a factor itself; for a term, it takes a function that subtracts the term or combines it in another way.
    """

    name: str
    part: Formula
    make: Callable[[Any], Formula]
    sign: str = '-'  # before the term

    def changed(self, structure: bool = False) -> Iterator[Tuple[Formula, Any]]:
        """Pairs of a wrong part and the argument for `make`."""
        if self.name != SCALE:
            for sign in '+-*/'.replace(self.sign, ''):
                yield self.part, functools.partial(_joined, sign, self.part)
            yield NONE, lambda rest: rest
        for other in edits(self.part, FACTORS, structure, (*NAMES, *PARTS)).values():
            yield other, other if self.name == SCALE else functools.partial(_joined, self.sign, other)


def _joined(sign: str, term: Formula, rest: Formula) -> Formula:
    joined: Formula = SIGNS[sign][0](rest, term)
    return joined


def _chapter(scale: Formula, less_mean: Any, less_variance: Any) -> Formula:
    dX: Formula = scale * less_variance(less_mean(dY))
    return dX


def _common(H: Formula, direct: Formula, divisor: Formula = m * STD) -> Formula:
    """dX over a common denominator."""
    return (direct - total(H) - X_hat * total(H * X_hat)) / divisor


H = gamma * dY  # the gradient of X_hat
OF_SCALE, OF_MEAN, OF_VARIANCE = gamma / ROOT, dbeta / m, X_hat * dgamma / m
COMMON_VARIANCE = X_hat * total(H * X_hat)
DIRECT, BY_MEAN = H / STD, -total(H) * INVERSE / m
BY_VARIANCE = total(H * CENTRED) * -0.5 * INVERSE**3 * 2 * CENTRED / m
D_MEAN, D_VAR = named(-total(H) * INVERSE), named(total(H * CENTRED) * -0.5 * INVERSE**3)
PARTS = D_MEAN, D_VAR, *map(named, (H, OF_SCALE, OF_MEAN, OF_VARIANCE, total(H), COMMON_VARIANCE, total(dY * X)))


def _ways() -> List[Way]:
    """The parts of dX in three right ways: the chapter's, over a common denominator, and step by step."""
    less_mean, less_variance = (functools.partial(_joined, '-', term) for term in (OF_MEAN, OF_VARIANCE))
    return [
        Way(SCALE, OF_SCALE, lambda part: _chapter(part, less_mean, less_variance)),
        Way(MEAN, OF_MEAN, lambda less: _chapter(OF_SCALE, less, less_variance)),
        Way(VARIANCE, OF_VARIANCE, lambda less: _chapter(OF_SCALE, less_mean, less)),
        Way(SCALE, H, lambda part: _common(part, m * part)),
        Way(MEAN, total(H), lambda less: (less(m * H) - COMMON_VARIANCE) / (m * STD)),
        Way(VARIANCE, COMMON_VARIANCE, lambda less: less(m * H - total(H)) / (m * STD)),
        Way(SCALE, m * STD, lambda part: _common(H, m * H, part)),
        Way(SCALE, m * H, lambda part: _common(H, part)),
        Way(SCALE, DIRECT, lambda part: part + BY_MEAN + BY_VARIANCE),
        Way(SCALE, H * INVERSE, lambda part: part + BY_MEAN + BY_VARIANCE),
        Way(MEAN, BY_MEAN, lambda more: more(DIRECT) + BY_VARIANCE, '+'),
        Way(VARIANCE, BY_VARIANCE, lambda more: more(DIRECT + BY_MEAN), '+'),
        # the same, with the gradients of mean and variance as names
        Way(MEAN, D_MEAN / m, lambda more: more(DIRECT) + BY_VARIANCE, '+'),
        Way(VARIANCE, D_VAR * 2 * CENTRED / m, lambda more: more(DIRECT + BY_MEAN), '+'),
    ]


@functools.lru_cache(maxsize=None)
def dX_slips() -> List[Slip]:
    """The formulas of dX with one wrong part."""
    made: Dict[str, Slip] = {}
    for way in _ways():
        for part, changed in way.changed():
            whole = way.make(changed)
            made.setdefault(whole.text, Slip((way.name,), part, whole))
    scale, of_mean, of_variance, common = map(named, (OF_SCALE, OF_MEAN, OF_VARIANCE, COMMON_VARIANCE))
    wholes = scale * (dY - of_mean - of_variance), (m * named(H) - named(total(H)) - common) / (m * STD)
    counts = constant(1), n, size, m - 1, m + 1, *COUNTS
    chapter = OF_SCALE * (dY - OF_MEAN - OF_VARIANCE)
    for whole, count in itertools.product((chapter, wholes[1], DIRECT + BY_MEAN + BY_VARIANCE), counts):
        one = renamed(whole, {'m': count})
        made.setdefault(one.text, Slip(('WrongGradientFactorM',), count, one))
    for one in itertools.chain(*(edits(whole, (), instead=(*NAMES, *PARTS)).values() for whole in wholes)):
        made.setdefault(one.text, Slip(('WrongGradientX',), one, one))
    # H without dY has one value per channel, so it is its own sum
    for part in (gamma * other for other in (gamma, eps, m, constant(1))):
        one = (m * part - part - X_hat * total(part * X_hat)) / (m * STD)
        made.setdefault(one.text, Slip((SCALE,), part, one))
    return list(made.values())


@functools.lru_cache(maxsize=None)
def dX_slips_of_two() -> List[Slip]:
    """The formulas of dX with two wrong parts, each changed in its structure."""
    ways = _ways()[:3]
    right: List[Any] = [OF_SCALE, *(functools.partial(_joined, '-', term) for term in (OF_MEAN, OF_VARIANCE))]
    made: List[Slip] = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for (_, first), (_, second) in itertools.product(ways[i].changed(True), ways[j].changed(True)):
            whole = _chapter(*(first if k == i else second if k == j else right[k] for k in range(3)))
            made.append(Slip((ways[i].name, ways[j].name), whole, whole))
    for whole in (  # misplaced parentheses
        (gamma * dY - OF_MEAN - OF_VARIANCE) / ROOT,
        gamma / ROOT * dY - OF_MEAN - OF_VARIANCE,
        gamma * dY - (OF_MEAN + OF_VARIANCE) / ROOT,
    ):
        made.append(Slip((MEAN, VARIANCE), whole, whole))
    return made


@functools.lru_cache(maxsize=None)
def parameter_slips(name: str) -> List[Slip]:
    """The formulas of dgamma or dbeta with one mistake."""
    names = [leaf for leaf in NAMES if leaf not in (dgamma, dbeta)]
    others = NONE, MAXIMUM(dY), MEDIAN(dY), total(dY * X_hat) if name == 'dbeta' else total(dY)
    mistake = (f'WrongGradient{name[1:].title()}',)
    ways = (
        [total(dY)]
        if name == 'dbeta'
        else [total(dY * X_hat), total(dY * (CENTRED / STD)), total(dY * (CENTRED * INVERSE))]
    )
    made: Dict[str, Slip] = {}
    for one in (
        *others,
        *(one for way in ways for one in edits(way, names, instead=[dbeta] * (name == 'dgamma')).values()),
    ):
        made.setdefault(one.text, Slip(mistake, one, one))
    return sorted(made.values(), key=lambda slip: len(slip.whole.text))


@functools.lru_cache(maxsize=None)
def slips_before_dgamma() -> List[Slip]:
    """The formulas of dgamma with one mistake on the way to X_hat, such as dY for X or var."""
    made: Dict[str, Slip] = {}
    means = edits(RIGHT_STEPS['mean'], (), instead=[dY])
    variances = edits(RIGHT_STEPS['var'], (), instead=[dY])
    for quantity, parts in (
        ('mean', ((one, {'mean': one, 'var': renamed(RIGHT_STEPS['var'], {'mean': one})}) for one in means.values())),
        ('denominator', ((one, {ROOT.text: one}) for one in edits(ROOT, [dY]).values())),
        ('variance', ((one, {'var': one}) for one in variances.values())),
        ('X_hat', ((one, {((X - mean) / ROOT).text: one}) for one in edits((X - mean) / ROOT, [dY]).values())),
    ):
        for part, new in parts:
            whole = renamed(total(dY * ((X - mean) / ROOT)), new)
            made.setdefault(whole.text, Slip(('WrongGradientGamma',), part, whole, quantity))
    return list(made.values())
