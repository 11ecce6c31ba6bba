"""What a wrong quantity may equal: the right ways to write it, and every formula one change away from them."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import numpy

from .formulas import Formula, absolute, call, constant, edits, everywhere, maximum, sqrt, total, variable

Values = Mapping[str, Any]
X, mean, var, gamma, beta, eps, m, n, size = map(variable, 'X mean var gamma beta eps m n size'.split())
momentum, X_hat, moving_mean, moving_var, new_mean, new_var, c, h, w = map(
    variable, 'momentum X_hat moving_mean moving_var new_mean new_var c h w'.split()
)
ALL_AXES = [axes for size in (1, 2, 3) for axes in itertools.combinations(range(4), size)]
CENTRED, ROOT = X - mean, sqrt(var + eps)
STD = Formula(ROOT.text, lambda values: values['std'])
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
    yield maximum(node, 0)


def over(axes: Tuple[int, ...], what: str, argument: Formula, less: int = 0) -> Formula:
    """The mean of an argument over the given axes; `less` is subtracted from the count in the divisor."""

    def compute(values: Values) -> Any:
        array = argument.compute(values)
        mean = array.mean(tuple(axis for axis in axes if axis < array.ndim), keepdims=True)
        m = array.size / numpy.float64(mean.size)
        return mean * (m / (m - less))

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
        *(one / m for one in ARGUMENTS[1:]),  # a sum of one number
        *(over(axes, 'mean', X) for axes in ALL_AXES),
    ),
)
BATCH_VARIANCE = Quantity(
    (SQUARES / m, total(X**2) / m - mean**2),
    (mean, *ARGUMENTS),
    (
        *(SQUARES / count for count in COUNTS),
        total(absolute(CENTRED)) / m,
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
        *(one / m for one in (mean, mean**2, *ARGUMENTS[1:])),  # a sum of one number
        *(over(axes, 'variance', CENTRED**2) for axes in ALL_AXES),
    ),
)


def _blended(old: Formula, batch: Formula, statistic: Quantity, other: Formula, *extra: Formula) -> Quantity:
    """A moving average: three ways to write the rule, other values that it may blend, and the other new average."""
    instead = (*statistic.names, *([new_mean] if batch is var else []))
    changed = edits(statistic.right, (), instead=instead)  # names are inserted around the statistic, not in it
    values = (*edits(batch, NAMES).values(), *changed.values(), *statistic.others, *extra)
    rules = [momentum * old + (1 - momentum) * value for value in values]
    ways = (
        momentum * old + (1 - momentum) * batch,
        old + (1 - momentum) * (batch - old),
        batch + momentum * (old - batch),
    )
    others = (*rules, maximum(old, batch), momentum**2 * old + (1 - momentum**2) * batch, other)
    names = (*NAMES, STD) if batch is mean else (*NAMES, STD, new_mean)
    return Quantity(ways, names, others, CONSTANTS)


NEW_MEAN = momentum * moving_mean + (1 - momentum) * mean
NEW_VAR = momentum * moving_var + (1 - momentum) * var
OTHER_SPREADS = SQUARES / m * m / (m - 1), STD, 1 / STD, gamma**2 * var, total((X - new_mean) ** 2) / m
GRAMMAR: Dict[str, Quantity] = {
    'mean': BATCH_MEAN,
    'variance': BATCH_VARIANCE,
    'denominator': Quantity(
        (ROOT,),
        (*NAMES, CENTRED, new_mean, new_var),
        (
            constant(1) + ROOT,
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
        (beta * X_hat + gamma, gamma * X + beta, (gamma + 1) * X_hat + beta, X_hat - beta, X_hat + gamma + beta),
    ),
    # the whole formula, for changes that no single step explains
    'Y': Quantity(
        (gamma * CENTRED / ROOT + beta,),
        (),
        (
            gamma * CENTRED / var + eps + beta,
            gamma * CENTRED / var + eps,
            gamma * CENTRED / sqrt(var) + eps + beta,
            # gamma and beta before the normalization, which undoes them
            gamma * CENTRED / sqrt(gamma**2 * var + eps) + beta,
            gamma * CENTRED / sqrt(gamma**2 * var + eps),
            gamma * X - mean / ROOT + beta,
            (gamma * X - mean) / ROOT + beta,
            (gamma * CENTRED + beta) / ROOT,
            (gamma * X + beta - mean) / ROOT,
            gamma * X / ROOT - mean + beta,
            gamma * CENTRED / (ROOT + beta),
            gamma * (X - mean / ROOT + beta),
            (gamma * X + beta) / ROOT,
            X,
        ),
    ),
    'moving mean': _blended(moving_mean, mean, BATCH_MEAN, NEW_VAR),
    'moving variance': _blended(moving_var, var, BATCH_VARIANCE, NEW_MEAN, *OTHER_SPREADS),
}
