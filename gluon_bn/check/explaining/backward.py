"""The right gradients, and the first wrong quantity inside a backward pass by hand."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy

from ..result import Array, Place, same
from ..running.trials import Trial
from .backward_formulas import CENTRED
from .chain import Chain
from .fitting import right_values
from .formulas import Memory
from .grammar import X, over
from .variants import ABOUT_RIGHT_MEAN, RIGHT, Change, Variant, batch_statistics, dimensions, forward, other_axes
from .views import View, around, centred, line_of, plain

GRADIENT_RTOL = 1e-3  # sums of a few dozen float32 values in any order; a missing term is off by far more


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
        if not re.search(r'sum|max|median|axes', of_variance):  # another quantity in the place of the variance
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
