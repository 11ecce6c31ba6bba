"""Y in training and in prediction: right, or by which mistakes it comes out."""
from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy

from . import variants
from .observe import Observed
from .probes import Open, Probes
from .raised import Trouble
from .result import Finding, difference
from .trials import Array, Trial
from .variants import FAMILIAR_AXES, Variant, same

TRAINING, PREDICTION = Variant(), Variant(source='moving')
# what decides a number, and so is told with it
ABOUT_TRAINING, ABOUT_PREDICTION = ('gamma', 'beta', 'eps'), ('gamma', 'beta', 'moving_mean', 'moving_var', 'eps')


class Outputs(Probes):
    """The properties of Y; the others build on how the code normalizes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._variants: Dict[int, Optional[Variant]] = {}

    def variant(self, rank: int) -> Variant:
        """How the code normalizes in training, as far as it is understood. Raises: Open if it is not."""
        if rank not in self._variants:
            self.training(rank)
        variant = self._variants[rank]
        if variant is None:
            raise Open('cannot be judged before Y is right')
        return variant

    def training(self, rank: int) -> List[Finding]:
        """Y in training."""
        self._variants[rank] = None
        tried = self.trials[rank]
        seen = [self.observed(trial, 'training') for trial in tried]
        variant, findings = self._judge_Y(tried, seen, 'batch', TRAINING, ABOUT_TRAINING)
        self._variants[rank] = variant
        lost = next((one.gradients for one in seen if isinstance(one.gradients, Trouble)), None)
        if lost is not None and not findings:  # told at the first chance: later much more hangs on it
            raise lost
        return findings

    def prediction(self, rank: int) -> List[Finding]:
        """Y in prediction."""
        tried = self.trials[rank]
        seen = [self.observed(trial, 'prediction') for trial in tried]
        variant, findings = self._judge_Y(tried, seen, 'moving', PREDICTION, ABOUT_PREDICTION)
        consistent = 'RunningStdNotVar' in self.known and 'MissingSqrt' not in self.known
        if consistent and variant is not None and not variant.root:
            # whoever remembers the standard deviation rightly divides by it, with eps or without
            about_spread = ('MissingSqrt', 'NoEps', 'EpsOutsideSqrt', 'OtherEps')
            keep = [finding for finding in findings if finding.name not in about_spread]
            return keep + [Finding('RunningStdNotVar', findings[0].text)]
        return findings

    def _judge_Y(self, tried: Sequence[Trial], seen: Sequence[Observed], source: str, right: Variant,
                 about: Sequence[str]) -> Tuple[Optional[Variant], List[Finding]]:
        rank = tried[0].X.ndim
        where = 'in training' if source == 'batch' else 'in prediction'
        for trial, one in zip(tried, seen):
            if one.Y.shape != trial.X.shape:
                raise Trouble('WrongShape', f'{where}, Y should have the shape {trial.X.shape}, '
                                            f'yours has {one.Y.shape}')
        Ys = [one.Y for one in seen]
        expected = [variants.forward(right, trial) for trial in tried]
        wrong = [i for i in range(len(tried)) if not same(Ys[i], expected[i])]
        if not wrong:
            return right, [exchanged(where)] if are_exchanged(tried, seen) else []
        variant = variants.explain(tried, Ys, source, self.known)
        names = ['WrongOutput'] if variant is None else variants.mistakes(variant, source)
        if variant is None:  # perhaps normalized by the averages after they had taken in this batch
            moved = [trial._replace(moving_mean=one.moving_mean, moving_var=one.moving_var)
                     for trial, one in zip(tried, seen)]
            after = variants.explain(moved, Ys, source, self.known, slips=False) if _broadcasts(moved) else None
            if after is not None and after.source == 'moving':
                names = variants.mistakes(after, source) + ['UpdatesAtPredict'] * (source == 'moving')
            elif any(one.changed for one in seen):
                names = ['MutatesInput']
        findings = [exchanged(where)] if 'ExchangedArguments' not in names and are_exchanged(tried, seen) else []
        for name in names:
            i = next((i for i in wrong if _shows(name, variant, right, tried[i], source)), wrong[0])
            text = f'{where}, ' + difference(tried[i].told(*about), 'Y', expected[i], Ys[i])
            if variant is not None:
                if name == 'WrongAxis' and variant.axes != 'channel' and (rank == 2 or variant.axes in FAMILIAR_AXES):
                    text += f', as it comes out with one mean {_scope(variant.axes, rank)}'
                text += variants.words(variant, name)
            elif name == 'WrongOutput':
                text += _line(tried, Ys, right, i)
            findings.append(Finding(name, text))
        return variant, findings


def exchanged(where: str) -> Finding:
    return Finding('WrongReturn', f'{where}, moving_mean and moving_var come back in exchanged order')


def are_exchanged(tried: Sequence[Trial], seen: Sequence[Observed]) -> bool:
    """Whether the averages come back unmoved, each in the other's place."""
    return all(same(one.moving_mean, trial.moving_var) and same(one.moving_var, trial.moving_mean)
               for trial, one in zip(tried, seen))


def _line(tried: Sequence[Trial], Ys: Sequence[Array], right: Variant, told: int) -> str:
    """', which is a * X_hat + b ...' if it is so, channel by channel, in every trial; told: whose numbers."""
    for trial, Y, number in zip(tried, Ys, range(len(tried))):
        one = numpy.ones_like(trial.gamma)
        X_hat = variants.forward(right, trial, gamma=one, beta=0 * one)
        lines = []
        for x, y in zip(numpy.moveaxis(X_hat, 1, 0), numpy.moveaxis(Y, 1, 0)):
            basis = numpy.stack([x.ravel(), numpy.ones(x.size)], axis=1)
            if not numpy.isfinite(y).all():
                return ''
            lines.append(numpy.linalg.lstsq(basis, y.ravel(), rcond=None)[0])
            if not same(basis @ lines[-1], y.ravel()):
                return ''
        if number == told:
            a, b = (', '.join(f'{value + 0.0:.4g}' for value in numpy.round(column, 5)) for column in zip(*lines))
    return f', which is a * X_hat + b with a = ({a}) and b = ({b}), channel by channel'


def _broadcasts(tried: Sequence[Trial]) -> bool:
    return all(old.ndim == trial.X.ndim and all(n in (1, size) for n, size in zip(old.shape, trial.X.shape))
               for trial in tried for old in (trial.moving_mean, trial.moving_var))


def _shows(name: str, variant: Optional[Variant], right: Variant, trial: Trial, source: str) -> bool:
    """Whether this mistake alone would be seen in this trial, so that its numbers make an example of it."""
    for field in right._fields if variant is not None else ():
        alone = right._replace(**{field: getattr(variant, field)})
        if variants.mistakes(alone, source) == [name]:
            return not same(variants.forward(alone, trial), variants.forward(right, trial), rtol=0.01)
    return False


def _scope(axes: Any, rank: int) -> str:
    return FAMILIAR_AXES[axes] if rank == 4 else 'per example' if axes == (1,) else 'for all values'
