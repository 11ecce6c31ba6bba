"""The gradient that autograd finds through a student's forward pass, and the path on which it is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import List, Optional, Sequence

import numpy

from .explaining import variants
from .explaining.backward import GRADIENT_RTOL
from .explaining.variants import Variant
from .result import Array, Finding, Place, difference, same
from .running.trials import Gradients, Trial


def judge_flow(variant: Variant, tried: Sequence[Trial], seen: Sequence[Gradients]) -> List[Finding]:
    """The mistakes in the gradients, compared with those of the formula that the code uses."""
    expected = [variants.gradients(variant, trial) for trial in tried]
    wrong = [
        difference(trial.describe('gamma', 'beta', 'eps') + trial.describe_dY(), name, wanted, mine)
        for trial, actual, right in zip(tried, seen, expected)
        for name, mine, wanted in zip(('dX', 'dgamma', 'dbeta'), actual, right)
        if mine is not None and not _agree(mine, wanted)
    ]
    if not wrong:
        return []
    text, place = wrong[0], Place('gradient', 'training', wrong[0].numbers)
    paths = ('mean', 'var', 'direct')
    for cut in (cut for n in (1, 2, 3) for cut in itertools.combinations(paths, n)):
        if all(
            _agree(*pair)
            for trial, actual in zip(tried, seen)
            for pair in zip(actual, variants.gradients(variant, trial, cut))
        ):
            fixed = 'X_hat' if len(cut) == 3 else ' and '.join(cut).replace('direct', 'X in X - mean')
            name = 'WrongGradient' if 'direct' in cut else 'StatsDetachedInForward'
            return [Finding(name, text, replace(place, equals=f'the gradient with {fixed} held constant'))]
    return [Finding('WrongGradient', text + _parts(seen, expected), place)]


def _agree(actual: Optional[Array], expected: Array) -> bool:
    """Whether a gradient is right, or cannot be judged: it is missing, or the formula has none at this point."""
    return actual is None or not numpy.isfinite(expected).all() or same(actual, expected, rtol=GRADIENT_RTOL)


def _parts(seen: Sequence[Gradients], expected: Sequence[Gradients]) -> str:
    """'; dX is 2 times what it should be, dgamma and dbeta are right': what holds in every trial."""
    right: List[str] = []
    factors: List[str] = []
    for name, *pairs in zip(('dX', 'dgamma', 'dbeta'), zip(*seen), zip(*expected)):
        if any(gradient is None for gradient in pairs[0]):
            continue
        actual, wanted = (numpy.concatenate([array.ravel() for array in arrays]) for arrays in pairs)
        if _agree(actual, wanted):
            right.append(name)
        elif numpy.isfinite(actual).all():
            factor = actual @ wanted / (wanted @ wanted)
            if _agree(actual, factor * wanted):
                factors.append(f'{name} is {factor:.4g} times what it should be')
    parts = factors + [f'{" and ".join(right)} {"are" if len(right) > 1 else "is"} right'] * bool(right)
    return f'; {", ".join(parts)}' if parts else ''
