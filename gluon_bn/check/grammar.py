"""What a wrong quantity may equal: every formula one change away from the right one."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

import numpy

from .formulas import Formula, Memory, absolute, call, constant, edits, everywhere, maximum, sqrt, total, variable
from .result import Array, same
from .trials import Trial
from .variants import Variant, batch_statistics, dimensions

Values = Mapping[str, Any]
Sample = Tuple[Values, Array]
X, mean, var, gamma, beta, eps, m, n, size = map(variable, 'X mean var gamma beta eps m n size'.split())
momentum, X_hat, moving_mean, moving_var, new_mean, new_var, c, h, w = map(
    variable, 'momentum X_hat moving_mean moving_var new_mean new_var c h w'.split()
)
ALL_AXES = [axes for size in (1, 2, 3) for axes in itertools.combinations(range(4), size)]
CENTRED, STD = X - mean, Formula('sqrt(var + eps)', lambda values: values['std'])
SQUARES = total((X - mean) ** 2)
ARGUMENTS = X, gamma, beta, eps, moving_mean, moving_var, momentum, m, n, size
NAMES = (mean, var, *ARGUMENTS)
# mistakes in m = size / c = n * h * w
COUNTS = tuple(one for way in (size / c, n * h * w) for one in edits(way, ()).values())
CONSTANTS = tuple(map(constant, (0, 1, 2, 0.1, 0.5, 0.9, 0.99, 1e-3, 1e-5, 1e-6, 1e-8)))
FUNCTIONS: Dict[str, Callable[[Any], Any]] = {
    'exp': numpy.exp,
    'log': numpy.log,
    'round': numpy.round,
    'trunc': numpy.trunc,
    'cbrt': numpy.cbrt,
    'relu': lambda value: numpy.maximum(value, 0),
    'clip': lambda value: numpy.clip(value, -1, 1),
}


@dataclass(frozen=True)
class Quantity:
    """The right ways to write a quantity, the names a mistake may insert, and formulas more than one change away."""

    ways: Tuple[Formula, ...]
    names: Tuple[Formula, ...] = ()
    others: Tuple[Formula, ...] = ()
    constants: Tuple[Formula, ...] = CONSTANTS[:3]

    @property
    def right(self) -> Formula:
        return self.ways[0]

    @functools.lru_cache(maxsize=None)  # noqa: B019  there are nine quantities
    def candidates(self, structure: bool = False, prediction: bool = False) -> Tuple[Formula, ...]:
        """The formulas that the quantity may equal; in prediction, moving averages are called mean and variance."""
        names = [name for name in self.names if not prediction or not name.text.startswith('moving')]
        constants = () if structure else self.constants
        # names are inserted only into the first way, which is the most common one
        changed = [list(edits(way, names, structure, constants).values()) for way in self.ways[:1]]
        changed += [list(edits(way, (), structure, constants).values()) for way in self.ways[1:]]
        functions = everywhere(self.right, _of_functions)
        others = [] if structure else [*self.others, *functions]
        # first the formulas from the first way, sorted by length
        ranked = sorted([*others, *changed[0]], key=lambda one: len(one.text))
        made: Dict[str, Formula] = {}
        for one in (*ranked, *(one for way in changed[1:] for one in way)):
            made.setdefault(one.text, one)
        return tuple(one for text, one in made.items() if text not in [way.text for way in self.ways])


def _of_functions(node: Formula) -> Iterator[Formula]:
    argument = node.parts[0] if node.text.startswith('sqrt(') and len(node.parts) == 1 else node
    for name, function in FUNCTIONS.items() if node.number is None else ():
        yield from (call(name, function, one) for one in {node, argument})


def over(axes: Tuple[int, ...], what: str, argument: Formula) -> Formula:
    """The mean of an argument over the given axes."""

    def compute(values: Values) -> Any:
        array = argument.compute(values)
        return array.mean(tuple(axis for axis in axes if axis < array.ndim), keepdims=True)

    return Formula(f'the {what} over the axes {axes}', compute)


MAXIMUM, MINIMUM, MEDIAN = (
    functools.partial(total, name=name, function=function)
    for name, function in (('max', numpy.max), ('min', numpy.min), ('median', numpy.median))
)
BATCH_MEAN = Quantity(
    (total(X) / m,),
    ARGUMENTS,
    (
        *(total(X) / count for count in COUNTS),
        MAXIMUM(X),
        MINIMUM(X),
        MEDIAN(X),
        (MAXIMUM(X) + MINIMUM(X)) / 2,
        sqrt(total(X**2) / m),
        *(over(axes, 'mean', X) for axes in ALL_AXES),
    ),
)
BATCH_VARIANCE = Quantity(
    (SQUARES / m, total(X**2) / m - mean**2),
    (mean, *ARGUMENTS),
    (
        *(SQUARES / count for count in COUNTS),
        MAXIMUM(X) - MINIMUM(X),
        MAXIMUM(X),
        MAXIMUM(absolute(CENTRED)),
        MAXIMUM(CENTRED**2),
        MEDIAN(absolute(CENTRED)),
        MEDIAN(CENTRED**2),
        total(CENTRED**4) / m,
        (total(CENTRED) / m) ** 2,
        sqrt(SQUARES / (m - 1)),
        SQUARES / m * n / (n - 1),
        *(over(axes, 'variance', CENTRED**2) for axes in ALL_AXES),
    ),
)


def _blended(old: Formula, batch: Formula, statistic: Quantity, extra: Sequence[Formula]) -> Quantity:
    """A moving average: three ways to write the rule, and other values that it may blend."""
    instead = (*statistic.names, *([new_mean] if batch is var else []))
    changed = edits(statistic.right, (), instead=instead)  # names are inserted around the statistic, not in it
    values = (*edits(batch, NAMES).values(), *changed.values(), *statistic.others, *extra)
    rules = [momentum * old + (1 - momentum) * value for value in values]
    ways = (
        momentum * old + (1 - momentum) * batch,
        old + (1 - momentum) * (batch - old),
        batch + momentum * (old - batch),
    )
    others = (*rules, maximum(old, batch), momentum**2 * old + (1 - momentum**2) * batch)
    names = (*NAMES, STD) if batch is mean else (*NAMES, STD, new_mean)
    return Quantity(ways, names, others, CONSTANTS)


NEW_MEAN = momentum * moving_mean + (1 - momentum) * mean
NEW_VAR = momentum * moving_var + (1 - momentum) * var
_MEAN, _VAR = (_blended(moving_mean, mean, BATCH_MEAN, ()), _blended(moving_var, var, BATCH_VARIANCE, (
    SQUARES / m * m / (m - 1), STD, 1 / STD, gamma**2 * var, total((X - new_mean) ** 2) / m)))  # fmt: skip
GRAMMAR: Dict[str, Quantity] = {
    'mean': BATCH_MEAN,
    'variance': BATCH_VARIANCE,
    'denominator': Quantity(
        (sqrt(var + eps),),
        (*NAMES, CENTRED, new_mean, new_var),
        (
            constant(1) + sqrt(var + eps),
            sqrt(var**2 + eps**2),
            var**2 + eps,
            sqrt(var) + sqrt(eps),
            (var + eps) ** 2,
            sqrt(sqrt(var + eps)),
            sqrt(var + 2 * eps),
            sqrt(sqrt(var) + eps),
            sqrt(MAXIMUM(X) - MINIMUM(X) + eps),
            maximum(sqrt(var), eps),
            sqrt(maximum(var, eps)),
        ),
        CONSTANTS,
    ),
    'X_hat': Quantity((CENTRED / STD,), (*NAMES, STD, new_mean, new_var)),
    'mode': Quantity((CENTRED / STD,)),
    'scaled X_hat': Quantity((gamma * X_hat,)),
    'scale and shift': Quantity(
        (gamma * X_hat + beta,),
        (*NAMES, X_hat, STD, CENTRED, new_mean, new_var),
        (beta * X_hat + gamma, gamma * X + beta, (gamma + 1) * X_hat + beta),
    ),
    'moving mean': replace(_MEAN, others=(*_MEAN.others, NEW_VAR)),
    'moving variance': replace(_VAR, others=(*_VAR.others, NEW_MEAN)),
}


def right_values(trial: Trial, mode: str) -> Dict[str, Any]:
    """All right quantities of a trial, by name; prediction normalizes by the moving averages."""
    values = Memory({**trial._asdict(), **dimensions(trial.X)})
    moving = trial.moving_mean, trial.moving_var
    values['mean'], values['var'] = batch_statistics(Variant(), trial) if mode == 'training' else moving
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
    if abs(first - value.flat[0]) > 0.01 * (1 + abs(first)):  # most formulas end here
        return False
    finite = numpy.isfinite(value)
    kinds = [numpy.isfinite(expected) != finite, numpy.isnan(expected) != numpy.isnan(value)]
    if not _fits(expected, value) or any(kind.any() for kind in kinds):
        return False
    if not finite.any():
        return True
    expected = numpy.broadcast_to(expected, value.shape)
    rounding = 1e-6 * abs(values['X']).max()  # what rounding may leave of a 0
    return same(value[finite], expected[finite], rtol=1e-3, atol=max(rounding, 1e-3 * min(1, abs(value[finite]).max())))


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
