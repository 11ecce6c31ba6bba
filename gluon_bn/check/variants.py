"""What each known mistake would give: batch normalization in float64 with one choice for every way to go wrong.

A mistake is named only if the numbers that it predicts are the student's numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any, Collection, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from .formulas import MEAN, SLIPS, VAR, Formula, Slip, X, axis_slips, beta, eps, gamma, m, mean, sqrt, total, var
from .result import Array, same
from .trials import Trial

OTHER_EPS = (1e-3, 1e-5, 1e-6, 1e-8)
FAMILIAR_AXES = {  # of X (m, c, h, w)
    (0,): 'per pixel',
    (1, 2, 3): 'per example',
    (2, 3): 'per example and channel',
    (0, 1, 2, 3): 'for all values',
    (1,): 'per pixel of each example',
}
# whose mean and whose variance, where they come from two places
MIXED = {'batch mean': ('batch', 'moving'), 'batch variance': ('moving', 'batch')}
UNBIASED = total((X - mean) ** 2) / (m - 1)

Axes = Union[str, Tuple[int, ...]]
Statistics = Tuple[Array, Array]  # mean and variance


class Variant(NamedTuple):
    """One way to compute Y; the defaults are right in training."""

    axes: Axes = 'channel'  # or the tuple of axes that the mean is taken over
    source: str = 'batch'  # or 'moving', or one of MIXED: the statistics that normalize
    divide: str = 'm'  # or 'm-1'
    eps: Union[str, float] = 'inside'  # or 'outside' the root, 'none', or a number of its own
    root: bool = True  # False divides by the variance
    gamma: bool = True
    beta: str = 'added'  # or 'missing', or 'scaled' by gamma
    slips: Tuple[Slip, ...] = ()

    @property
    def steps(self) -> Dict[str, Any]:
        return dict(step for slip in self.slips for step in slip.steps)


Named = Tuple[Variant, Tuple[str, ...]]  # with the names of its mistakes
RIGHT = {source: Variant(source=source) for source in ('batch', 'moving')}


def mistakes(variant: Variant, source: str) -> List[str]:
    """The names of the mistakes that a variant makes where `source` is right ('batch' or 'moving')."""
    names = []
    if variant.source != source:
        names.append('TrainsOnMovingStats' if source == 'batch' else 'BatchStatsAtPredict')
    if variant.axes != 'channel':
        names.append('WrongAxis')
    if variant.divide != 'm':
        names.append('UnbiasedBatchVar')
    slips = [slip.name for slip in variant.slips]
    if 'WrongFormula' not in slips:  # else the formula tells all of these
        if variant.eps != 'inside':
            names.append({'outside': 'EpsOutsideSqrt', 'none': 'NoEps'}.get(str(variant.eps), 'OtherEps'))
        if not variant.root:
            names.append('MissingSqrt')
        if not variant.gamma:
            names.append('MissingGamma')
        if variant.beta != 'added':
            names.append({'missing': 'MissingBeta', 'scaled': 'BetaScaledByGamma'}[variant.beta])
    return list(dict.fromkeys(names + slips))


@functools.lru_cache(maxsize=None)
def formula(variant: Variant) -> Formula:
    """Y from X, mean, var, gamma, beta and eps."""
    steps, std = variant.steps, spread(variant)
    if 'whole' in steps:
        whole: Formula = steps['whole'](std)
        return whole
    X_hat = steps['X_hat'](std) if 'X_hat' in steps else steps.get('centred', X - mean) / std
    if variant.beta == 'scaled':
        X_hat = X_hat + beta
    scaled = steps['scaled'](X_hat) if 'scaled' in steps else gamma * X_hat if variant.gamma else X_hat
    Y: Formula = steps['Y'](scaled) if 'Y' in steps else scaled + beta if variant.beta == 'added' else scaled
    return Y


def spread(variant: Variant) -> Formula:
    """What X - mean is divided by."""
    inside = var + variant.eps if not isinstance(variant.eps, str) else var + eps if variant.eps == 'inside' else var
    root = sqrt(inside) if variant.root else inside
    result: Formula = variant.steps.get('spread', root + eps if variant.eps == 'outside' else root)
    return result


def describe(variant: Variant, name: str) -> str:
    """', which is ...': the formulas that this mistake comes down to; '' if the name says it all."""
    found = [f'comes of {slip.description}' for slip in variant.slips if slip.name == name and slip.description]
    if name == 'WrongFormula':
        text = str(formula(variant))
        if variant.source == 'moving':
            text = re.sub(r'\b(mean|var)\b', r'moving_\1', text)
        found = [f'is Y = {text}']
    elif not found:
        steps = [f'{step} = {value}' for slip in variant.slips if slip.name == name for step, value in slip.steps]
        found = [f'comes of {" and ".join(steps)}{where(" ".join(steps))}'] if steps else []
    if name in ('TrainsOnMovingStats', 'BatchStatsAtPredict') and variant.source in MIXED:
        found = [f'comes of a {MIXED[variant.source][0]} mean with a {MIXED[variant.source][1]} variance']
    return ''.join(f', which {one}' for one in found)


def where(text: str) -> str:
    """', where ...': the letters of a formula that are no argument's name."""
    letters = {
        'm': 'X.size / X.shape[1]',
        'n': 'X.shape[0]',
        'c': 'X.shape[1]',
        'h': 'X.shape[2]',
        'w': 'X.shape[3]',
        'size': 'X.size',
        'new_mean': 'the new moving_mean',
        'new_var': 'the new moving_var',
    }
    used = [f'{letter} = {value}' for letter, value in letters.items() if re.search(rf'\b{letter}\b', text)]
    return f', where {" and ".join(used)}' if used else ''


def channel_axes(rank: int) -> Tuple[int, ...]:
    return (0,) if rank == 2 else (0, 2, 3)


def dimensions(X: Array, axes: Optional[Tuple[int, ...]] = None) -> Dict[str, Any]:
    """X and what formulas need to know of its shape; axes: those that the sums run over, if not the channel's."""
    axes = channel_axes(X.ndim) if axes is None else axes
    # NumPy's numbers allow division by 0
    n, c, h, w = map(numpy.float64, (*X.shape, 1, 1)[:4])
    m = numpy.float64(math.prod(X.shape[axis] for axis in axes))
    return {'X': X, 'axes': axes, 'm': m, 'n': n, 'c': c, 'h': h, 'w': w, 'size': n * c * h * w}


def other_axes(rank: int) -> List[Tuple[int, ...]]:
    """All wrong sets of axes."""
    subsets = (subset for size in range(1, rank + 1) for subset in itertools.combinations(range(rank), size))
    return [subset for subset in subsets if subset != channel_axes(rank)]


def received(variant: Variant, trial: Trial) -> Trial:
    """The trial as the variant gets it, which may exchange arguments."""
    return trial._replace(
        **{
            name: getattr(trial, other)
            for slip in variant.slips
            if slip.name == 'ExchangedArguments'
            for name, other in slip.steps
        }
    )


def batch_statistics(
    variant: Variant, trial: Trial, X_mean: Optional[Array] = None, X_var: Optional[Array] = None
) -> Statistics:
    """(mean, var); X_mean and X_var are what stays fixed where the path through the mean or variance is cut."""
    X_mean, X_var = trial.X if X_mean is None else X_mean, trial.X if X_var is None else X_var
    axes = variant.axes if isinstance(variant.axes, tuple) else channel_axes(trial.X.ndim)
    steps, named = variant.steps, received(variant, trial)._asdict()

    def compute(step: str, default: Formula, X: Array, **known: Array) -> Array:
        over = steps.get(f'axes of {step}', axes)
        result: Array = steps.get(step, default).compute({**named, **dimensions(X, over), **known})
        return result

    with numpy.errstate(all='ignore'):
        mean = compute('mean', MEAN, X_mean)
        around = mean if X_var is trial.X else compute('mean', MEAN, X_var)
        return mean, compute('var', VAR if variant.divide == 'm' else UNBIASED, X_var, mean=around)


def forward(
    variant: Variant,
    trial: Trial,
    X_mean: Optional[Array] = None,
    X_var: Optional[Array] = None,
    X_direct: Optional[Array] = None,
    statistics: Optional[Dict[Any, Statistics]] = None,
) -> Array:
    """Y; `statistics` remembers the batch's of this trial from one variant to the next."""
    given = received(variant, trial)
    direct = given.X if X_direct is None else X_direct
    moving = given.moving_mean, given.moving_var
    sources = MIXED.get(variant.source, (variant.source,) * 2)
    batch, remembered = moving, {} if statistics is None else statistics
    if 'batch' in sources:
        key = variant.axes, variant.divide, tuple(slip for slip in variant.slips if slip.name != 'WrongFormula')
        if key not in remembered:
            remembered[key] = batch_statistics(variant, trial, X_mean, X_var)
        batch = remembered[key]
    mean, var = (batch[i] if source == 'batch' else moving[i] for i, source in enumerate(sources))
    with numpy.errstate(all='ignore'):
        Y: Array = formula(variant).compute({**given._asdict(), 'X': direct, 'mean': mean, 'var': var}) + 0 * trial.X
        return Y


def gradients(variant: Variant, trial: Trial, cut: Collection[str] = ()) -> Tuple[Array, Array, Array]:
    """(dX, dgamma, dbeta) by central differences; `cut` names the paths that are blocked: mean, var, direct."""
    fixed: Dict[str, Any] = {f'X_{path}': trial.X for path in cut}

    def slope(name: str) -> Array:
        value, step = getattr(trial, name), 1e-5
        result: Array = numpy.empty_like(value)
        for index in numpy.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                sides.append((forward(variant, trial._replace(**{name: moved}), **fixed) * trial.dY).sum())
            result[index] = (sides[0] - sides[1]) / (2 * step)
        return result

    return slope('X'), slope('gamma'), slope('beta')


@functools.lru_cache(maxsize=None)
def candidates(rank: int, source: str, all_eps: FrozenSet[float]) -> List[Named]:
    """Every variant with at most three usual mistakes, and those with slips, and their names."""
    other_eps = [value for value in OTHER_EPS if all_eps != {value}]
    choices: Dict[str, List[Any]] = {  # in the order of Variant's fields
        'axes': ['channel', *other_axes(rank)],
        'source': ['batch', 'moving'],
        'divide': ['m', 'm-1'],
        'eps': ['inside', 'outside', 'none', *other_eps],
        'root': [True, False],
        'gamma': [True, False],
        'beta': ['added', 'missing', 'scaled'],
    }
    made = [Variant(*choice) for choice in itertools.product(*choices.values())]
    right = RIGHT[source]
    slips = [*SLIPS, *(slip for axes in other_axes(rank) for slip in axis_slips(axes))]
    nearly_right = [
        right,
        *(
            right._replace(**{name: value})
            for name, values in choices.items()
            for value in values
            if value != getattr(right, name)
        ),
    ]
    made += [variant._replace(slips=(slip,)) for slip in slips for variant in nearly_right]
    made += [right._replace(source=mixed) for mixed in MIXED]
    named = [
        (variant, tuple(mistakes(variant, source)))
        for variant in made
        if variant.source != 'moving' or (variant.axes, variant.divide) == ('channel', 'm')
    ]
    return [pair for pair in named if len(pair[1]) <= 3]


def explain(
    trials: Sequence[Trial], Ys: Sequence[Array], source: str, known: Collection[str] = (), slips: bool = True
) -> Optional[Variant]:
    """The variant with the fewest mistakes not yet known that gives every Y; None if none or several do.

    Among variants with as many mistakes, those without slips come first. Numbers that are all NaN fit none.
    """
    if not any(numpy.isfinite(Y).any() for Y in Ys):
        return None
    ranked: Dict[Tuple[int, int], List[Named]] = {}
    for variant, names in candidates(trials[0].X.ndim, source, frozenset(trial.eps for trial in trials)):
        if variant.slips and not slips:
            continue
        num_new = sum(name not in known for name in names)
        if num_new and 'WrongFormula' in names:  # one name for all that is wrong in the formula
            num_new = len(variant.slips) + sum(value != default for value, default in zip(variant[:-1], RIGHT[source]))
        ranked.setdefault((num_new, len(variant.slips) + (variant.source in MIXED)), []).append((variant, names))
    # the random batch first: its first number tells most variants apart
    tried: List[Tuple[Trial, Array, Dict[Any, Statistics]]] = [
        (trial, Y, {}) for trial, Y in reversed(list(zip(trials, Ys)))
    ]

    def fits(variant: Variant) -> bool:
        for trial, Y, statistics in tried:
            expected = forward(variant, trial, statistics=statistics)
            with numpy.errstate(invalid='ignore'):  # infinity - infinity
                far = abs(expected.flat[0] - Y.flat[0]) > 0.01 * (1 + abs(Y.flat[0])) * (1 + abs(expected).max())
            if far or not same(Y, expected, equal_nan=True):
                return False
        return True

    for key in sorted(ranked):
        fitting = [(variant, names) for variant, names in ranked[key] if fits(variant)]
        if fitting:
            return fitting[0][0] if key[1] or len({names for _, names in fitting}) == 1 else None
    return None
