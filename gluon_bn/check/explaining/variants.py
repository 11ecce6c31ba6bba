"""Ways to compute Y: the right formulas, some of them changed, and the numbers that they give."""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy

from ..result import Array
from ..running.trials import Trial
from .formulas import Formula, Memory, renamed
from .grammar import CENTRED, GRAMMAR, ROOT, STD, X_hat, beta, gamma, moving_mean, moving_var

MEAN, VAR = GRAMMAR['mean'].right, GRAMMAR['variance'].right
ABOUT_RIGHT_MEAN = renamed(VAR, {'mean': MEAN})  # as in X.var(), whatever `mean` is
RIGHT_STEPS = {'mean': MEAN, 'var': VAR, 'std': ROOT, 'X_hat': CENTRED / STD, 'Y': gamma * X_hat + beta}
MOVING = ('mean', moving_mean), ('var', moving_var)
ABOUT_Y = ('EpsOutsideSqrt', 'NoEps', 'OtherEps', 'MissingSqrt', 'MissingGamma', 'MissingBeta', 'BetaScaledByGamma')
LETTERS = {
    'm': 'X.size / X.shape[1]',
    'n': 'X.shape[0]',
    'c': 'X.shape[1]',
    'h': 'X.shape[2]',
    'w': 'X.shape[3]',
    'size': 'X.size',
    'new_mean': 'the new moving_mean',
    'new_var': 'the new moving_var',
}

Statistics = Tuple[Array, Array]  # mean and variance
Steps = Tuple[Tuple[str, Formula], ...]


class Change(NamedTuple):
    """Wrong steps in the place of right ones, the names of these mistakes, and words that describe them."""

    names: Tuple[str, ...] = ()
    steps: Steps = ()
    description: str = ''

    @property
    def changed(self) -> Set[str]:
        return {step for step, _ in self.steps}


class Variant(NamedTuple):
    """One way to compute Y; `source` tells whose statistics are right, the batch's or the moving ones."""

    source: str = 'batch'
    changes: Tuple[Change, ...] = ()

    @property
    def names(self) -> List[str]:
        """The names of its mistakes."""
        names = dict.fromkeys(name for change in self.changes for name in change.names)
        # the formula, which is shown, contains these mistakes
        return [name for name in names if 'WrongFormula' not in names or name not in ABOUT_Y]

    @property
    def steps(self) -> Dict[str, Formula]:
        moving = MOVING if self.source == 'moving' else ()
        return {**RIGHT_STEPS, **dict(moving), **dict(step for change in self.changes for step in change.steps)}

    @property
    def of_batch(self) -> Variant:
        """The same variant with statistics of the batch."""
        kept = (change for change in self.changes if 'TrainsOnMovingStats' not in change.names)
        return Variant('batch', tuple(kept))


RIGHT = {source: Variant(source) for source in ('batch', 'moving')}


@functools.lru_cache(maxsize=None)
def formula(variant: Variant) -> Formula:
    """Y from X, mean, var, gamma, beta and eps."""
    steps = variant.steps
    std = {STD.text: steps['std']}
    return renamed(renamed(steps['Y'], std), {'X_hat': renamed(steps['X_hat'], std)})


def describe(variant: Variant, name: str) -> str:
    """', which is ...': the formulas that this mistake comes down to; '' if the name says it all."""
    if name == 'WrongFormula':
        return f', which is Y = {in_mode(formula(variant).text, variant.source == "batch")}'
    return ''.join(change.description for change in variant.changes if name in change.names)


def in_mode(text: str, training: bool) -> str:
    """The text of a formula, with the names that mean and variance have in training or in prediction."""
    return text if training else re.sub(r'\b(mean|var)\b', r'moving_\1', text)


def where(text: str) -> str:
    """', where ...': the letters of a formula that are no argument's name."""
    used = [f'{letter} = {value}' for letter, value in LETTERS.items() if re.search(rf'\b{letter}\b', text)]
    return f', where {" and ".join(used)}' if used else ''


def channel_axes(rank: int) -> Tuple[int, ...]:
    return (0,) if rank == 2 else (0, 2, 3)


def other_axes(rank: int) -> List[Tuple[int, ...]]:
    """All wrong sets of axes."""
    subsets = (subset for size in range(1, rank + 1) for subset in itertools.combinations(range(rank), size))
    return [subset for subset in subsets if subset != channel_axes(rank)]


def dimensions(X: Array) -> Dict[str, Any]:
    """X, its axes, and the counts that formulas use."""
    axes = channel_axes(X.ndim)
    # NumPy's numbers allow division by 0
    n, c, h, w = map(numpy.float64, (*X.shape, 1, 1)[:4])
    m = numpy.float64(math.prod(X.shape[axis] for axis in axes))
    return {'X': X, 'axes': axes, 'm': m, 'n': n, 'c': c, 'h': h, 'w': w, 'size': n * c * h * w}


def received(variant: Variant, trial: Trial) -> Trial:
    """The trial as the variant gets it, which may exchange arguments."""
    steps = [step for change in variant.changes if 'ExchangedArguments' in change.names for step in change.steps]
    return trial._replace(**{name: getattr(trial, other.text) for name, other in steps})


def batch_statistics(
    variant: Variant, trial: Trial, X_mean: Optional[Array] = None, X_var: Optional[Array] = None
) -> Statistics:
    """(mean, var); X_mean or X_var: the X to keep constant if the path through the mean or variance is cut."""
    steps, given = variant.steps, received(variant, trial)._asdict()

    def compute(step: str, X: Optional[Array], **known: Array) -> Array:
        result: Array = steps[step].compute({**given, **dimensions(trial.X if X is None else X), **known})
        return result

    with numpy.errstate(all='ignore'):
        mean = compute('mean', X_mean)
        return mean, compute('var', X_var, mean=mean if X_var is None else compute('mean', X_var))


def forward(
    variant: Variant,
    trial: Trial,
    X_mean: Optional[Array] = None,
    X_var: Optional[Array] = None,
    X_direct: Optional[Array] = None,
    memory: Optional[Dict[Any, Memory]] = None,
) -> Array:
    """Y; `memory` keeps what was computed on this trial for other variants with the same statistics."""
    key = tuple(change for change in variant.changes if change.changed - {'std', 'X_hat', 'Y'})
    values = None if memory is None else memory.get(key)
    if values is None:
        mean, var = batch_statistics(variant, trial, X_mean, X_var)
        given = received(variant, trial)._asdict()
        direct = dimensions(trial.X if X_direct is None else X_direct)
        values = Memory({**given, **direct, 'mean': mean, 'var': var})
        for new, old, batch in (('new_mean', 'moving_mean', mean), ('new_var', 'moving_var', var)):
            values[new] = trial.momentum * values[old] + (1 - trial.momentum) * batch
        if memory is not None:
            memory[key] = values
    with numpy.errstate(all='ignore'):
        Y: Array = formula(variant).compute(values) + 0 * trial.X
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
