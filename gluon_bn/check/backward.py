"""Finds the first wrong quantity of a backward pass by hand, and what it equals instead.

X_hat -> dgamma, dbeta -> dX = scale * (dY - a term through the mean - a term through the variance)
"""

from __future__ import annotations

import functools
import itertools
import re
from functools import cached_property
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy

from .chain import Chain, View, around, centred, line_of, plain
from .fitting import right_values
from .formulas import SIGNS, Formula, Memory, constant, edits, named, renamed, sqrt, total, variable
from .grammar import COUNTS, MAXIMUM, MEDIAN, over
from .result import Array, Place, same
from .trials import Trial
from .variants import (
    ABOUT_RIGHT_MEAN,
    RIGHT,
    RIGHT_STEPS,
    Change,
    Variant,
    batch_statistics,
    dimensions,
    forward,
    other_axes,
)

GRADIENT_RTOL = 1e-3  # sums of a few dozen float32 values in any order; a missing term is off by far more
X, mean, var, gamma, eps, m, n, size = map(variable, 'X mean var gamma eps m n size'.split())
dY, X_hat, dgamma, dbeta = map(variable, 'dY X_hat dgamma dbeta'.split())
ROOT, CENTRED = sqrt(var + eps), named(X - mean)
STD, INVERSE = named(ROOT), named(1 / ROOT)
NAMES = dY, X_hat, X, mean, var, dgamma, dbeta, gamma, eps, m, n, size, CENTRED, STD, INVERSE
FACTORS = gamma, m, n, eps, STD, X_hat  # names that a mistake may insert, not only confuse
NONE = Formula('0', lambda values: 0)
OTHER = {'dgamma': 'dbeta', 'dbeta': 'dgamma'}
SCALE, MEAN, VARIANCE = 'WrongGradientScale', 'WrongGradientThroughMean', 'WrongGradientThroughVariance'


class Slip(NamedTuple):
    """What is wrong with a gradient: the names of the mistakes, the wrong part, and the whole formula."""

    names: Tuple[str, ...]
    part: Formula
    whole: Formula
    quantity: str = ''  # to which the part belongs, if it is before dgamma


class Way(NamedTuple):
    """One part of a way to write dX: the mistake that it may contain, and how to make dX with another part.

    `make` takes a factor as it is, and a term as a function that subtracts it, or combines it in another way.
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


def _common(H: Formula, all_of_it: Formula, divisor: Formula = m * STD) -> Formula:
    """dX over a common denominator."""
    return (all_of_it - total(H) - X_hat * total(H * X_hat)) / divisor


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
    counted = _chapter(OF_SCALE, *(functools.partial(_joined, '-', term) for term in (OF_MEAN, OF_VARIANCE)))
    for whole, count in itertools.product((counted, wholes[1], DIRECT + BY_MEAN + BY_VARIANCE), counts):
        one = renamed(whole, {'m': count})
        made.setdefault(one.text, Slip(('WrongGradientFactorM',), count, one))
    for one in itertools.chain(*(edits(whole, (), instead=(*NAMES, *PARTS)).values() for whole in wholes)):
        made.setdefault(one.text, Slip(('WrongGradientX',), one, one))
    for part in (gamma * other for other in (gamma, eps, m, constant(1))):  # H without dY, which no sum changes
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
    others = MAXIMUM(dY), MEDIAN(dY), total(dY * X_hat) if name == 'dbeta' else total(dY)
    mistake = (f'WrongGradient{name[1:].title()}',)
    ways = (
        [total(dY)]
        if name == 'dbeta'
        else [total(dY * X_hat), total(dY * (CENTRED / STD)), total(dY * (CENTRED * INVERSE))]
    )
    made: Dict[str, Slip] = {}
    for one in (*others, *(one for way in ways for one in edits(way, names).values())):
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


class RightGradients:
    """The right gradients of one trial, by name, and the three parts of dX."""

    def __init__(self, trial: Trial, variant: Variant = RIGHT['batch']) -> None:
        mean, var = batch_statistics(variant, trial)
        self.values = Memory({**trial._asdict(), **dimensions(trial.X), 'mean': mean, 'var': var})
        axes, m, std = self['axes'], self['m'], variant.steps['std'].compute(self.values)
        X_hat = (trial.X - mean) / std
        dgamma, dbeta = ((trial.dY * factor).sum(axes, keepdims=True) for factor in (X_hat, 1))
        scale = trial.gamma / std
        self.values['std'] = std
        self.parts = [scale * trial.dY, -scale * dbeta / m + 0 * trial.X, -scale * X_hat * dgamma / m]
        self.values.update(X_hat=X_hat, dgamma=dgamma, dbeta=dbeta, dX=sum(self.parts))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def factors(self, dX: Array) -> Optional[Array]:
        """(channels, 3): the factors of the three parts in a dX; None if it is not a sum of them."""
        rows = []
        for channel in range(dX.shape[1]):
            basis = numpy.stack([part[:, channel].ravel() for part in self.parts], axis=1)
            expected = dX[:, channel].ravel()
            if not numpy.isfinite(expected).all():
                return None
            rows.append(numpy.linalg.lstsq(basis, expected, rcond=None)[0])
            if not same(basis @ rows[-1], expected, rtol=GRADIENT_RTOL, atol=1e-4):
                return None
        result: Array = numpy.stack(rows)
        return result


class BackwardChain(Chain):
    """The X_hat inside a backward pass by hand: if dY is 1 in one place and 0 elsewhere, dgamma is X_hat there."""

    def __init__(self, backward: Callable[[Trial], Dict[str, Any]], tried: Sequence[Trial]) -> None:
        self.mode, self.free, self.explained = 'training', True, {}
        worked = tried[1]._replace(eps=0.5)
        chosen = [worked, worked._replace(eps=4.0), worked._replace(X=2 * worked.X + 1, eps=2.0), tried[3]]
        self.views = []
        for trial in chosen:
            X_hat = numpy.zeros_like(trial.X)
            for place in numpy.ndindex(trial.X.shape[:1] + trial.X.shape[2:]):
                index = (place[0], slice(None), *place[1:])
                dY = numpy.zeros_like(trial.X)
                dY[index] = 1
                X_hat[index] = backward(trial._replace(dY=dY))['dgamma'].ravel()
            Y = trial.gamma * X_hat + trial.beta
            right = Memory(
                {**right_values(trial, 'training'), **{f'own {name}': one for name, one in backward(trial).items()}}
            )
            self.views.append(View(trial, right, Y, (trial.moving_mean, trial.moving_var)))

    def consistent(self, view: View) -> bool:
        """Whether dX uses the same X_hat as dgamma: dX = s * dY + a + b * X_hat, whatever s, a and b are."""
        right, line = view.right, line_of(view)
        factors = []
        for channel in range(view.trial.X.shape[1]):
            one = [array[:, channel].ravel() for array in (right['dY'], view.X_hat, right['own dX'])]
            if not numpy.isfinite(one).all():
                return False
            basis = numpy.stack([one[0], numpy.ones_like(one[0]), one[1]], axis=1)
            factors.append(numpy.linalg.lstsq(basis, one[2], rcond=None)[0])
            if not same(basis @ factors[-1], one[2], 1e-3, 1e-3):
                return False
        s, _, b = numpy.transpose(factors)
        spread = right['std'] if line is None else line[1]
        by_spread = not same(spread, right['std'], 5e-3) and same(s, right['gamma'] / spread, 5e-3, 5e-3)
        return by_spread or same(b, -s * (right['own dgamma'] / right['m']).ravel(), 5e-3, 5e-3)

    @cached_property
    def places(self) -> List[Place]:
        """The first wrong quantity on the way to X_hat, if there is one."""
        if all(same(view.X_hat, view.right['X_hat']) for view in self.views):
            return []
        over = self._over_other_axes()
        if over is not None:
            return [over]
        samples, lines = [(view.right, view.X_hat) for view in self.views], self._lines()
        known = self._explain('X_hat', samples, structure=True)
        pairs = [(view, line) for view, line in zip(self.views, lines) if line is not None]
        if known or len(pairs) < len(self.views):
            return [self._place('X_hat', samples, known or self._explain('X_hat', samples))]
        if not all(centred(*pair) for pair in pairs):
            centres = [(view.right, line[0]) for view, line in pairs]
            of_mean = self._explain('mean', centres)
            still = all(same(line[1], view.right['std'], 5e-3, 5e-3) for view, line in pairs)
            # X_hat has a wrong centre, but the variance does not
            if still or not (of_mean or all(around(*pair) for pair in pairs)):
                return [self._place('X_hat', samples, self._explain('X_hat', samples))]
            return [self._place('mean', centres, of_mean)]
        spreads = [(view.right, line[1]) for view, line in pairs]
        variances = [(view.right, line[1] ** 2 - view.trial.eps) for view, line in pairs]
        of_spread = self._explain('denominator', spreads, structure=True)
        of_variance = '' if of_spread else self._explain('variance', variances)
        if not re.search(r'sum|max|median|axes', of_variance):  # a name in the place of the variance, not a variance
            of_spread = of_spread or self._explain('denominator', spreads)
            of_variance = '' if of_spread else of_variance
        # the first two differ in eps alone: a wrong variance is the same in both
        alike = same(variances[0][1], variances[1][1], 5e-3, 5e-3) and (variances[0][1] > -5e-3).all()
        if of_variance or (alike and not of_spread):
            return [self._place('variance', variances, of_variance)]
        return [self._place('denominator', spreads, of_spread)]

    def _over_other_axes(self) -> Optional[Place]:
        """The mean or the variance, if X_hat is right for wrong axes."""
        for axes in other_axes(self.views[0].trial.X.ndim):
            of_mean = 'mean', over(axes, 'mean', X)
            of_var = 'var', over(axes, 'variance', CENTRED**2)
            for what, steps in (
                ('mean', (of_mean, of_var)),
                ('mean', (of_mean,)),
                ('variance', (of_var,)),
                ('mean', (of_mean, ('var', ABOUT_RIGHT_MEAN))),
            ):
                variant = Variant(changes=(Change(steps=steps),))
                if all(same(view.X_hat, forward(variant, plain(view.trial))) for view in self.views):
                    values = [batch_statistics(variant, view.trial)[what == 'variance'] for view in self.views]
                    samples = [(view.right, value) for view, value in zip(self.views, values)]
                    return self._place(what, samples, f'the {what} over the axes {axes}')
        return None
