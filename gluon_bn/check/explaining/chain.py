"""The first wrong quantity on the way from X to Y, found from the outputs alone, and what it equals instead.

    mean -> variance -> denominator -> X_hat -> scale and shift, and beside them the moving mean and variance

With gamma = 1 and beta = 0, Y is X_hat. The moving averages tell which mean and variance were computed, and in each
channel a right X_hat is (X - mean) / denominator: a line, whose slope tells the denominator.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy

from ..result import Array, Place, same
from ..running.rows import NotJudgeable
from ..running.trials import Observed, Trial
from .fitting import Sample, another, fitting, numbers, right_values, trial_of
from .formulas import Formula, edits, variable
from .grammar import GRAMMAR, NAMES, X, mean
from .variants import in_mode
from .views import View, centre_follows, centred, follows, line_of, near, of_size, plain, ratio, right_statistics


class Chain:
    """The quantities of one mode that can be observed.

    free: whether eps and momentum may be chosen; a layer fixes them.
    """

    def __init__(
        self, observe: Callable[[Trial, str], Observed], tried: Sequence[Trial], mode: str, free: bool
    ) -> None:
        self.mode, self.free = mode, free
        self.explained: Dict[str, Tuple[str, Formula]] = {}  # what was explained, by its text
        worked = tried[1]._replace(eps=0.5) if free else tried[1]
        # the same X_hat from another X, mean and variance
        moved = worked._replace(
            X=2 * worked.X + 1,
            moving_mean=2 * worked.moving_mean + 1,
            moving_var=4 * worked.moving_var,
            eps=worked.eps * (4 if free else 1),
        )
        chosen = [worked, moved, tried[3], *([worked._replace(eps=4.0, momentum=0.25)] if free else [])]
        self.full = [self._view(observe, trial) for trial in chosen]
        # tried[2] is so small that eps counts, and would be lost beside beta
        others = tried[2], of_size(worked, 2), of_size(worked, 1000)
        self.plain = [self._view(observe, plain(trial)) for trial in (*chosen, *others)]
        self.views = self.full + self.plain
        weights = (0.0, 0.5, 1.0) if free and mode == 'training' else ()
        self.blends = [self._view(observe, worked._replace(momentum=weight)) for weight in weights]

    def _view(self, observe: Callable[[Trial, str], Observed], trial: Trial) -> View:
        seen = observe(trial, self.mode)
        moved = trial.moved(seen.moving_mean, seen.moving_var)
        if seen.Y.shape != trial.X.shape:
            raise NotJudgeable('cannot be judged until Y has the shape of X')
        if not moved.broadcasts:
            raise NotJudgeable('cannot be judged until the averages have the shape of the old ones')
        return View(trial, right_values(trial, self.mode), seen.Y, (moved.moving_mean, moved.moving_var))

    @cached_property
    def places(self) -> List[Place]:
        """The first wrong quantity on the way to Y, then the averages that are wrong by themselves."""
        first = self._of_Y()
        found = [first] if first is not None else []
        if first is None or first.quantity not in ('mean', 'variance', 'mode'):
            found += [place for i in range(2) for place in self._of_average(i)]
        return found

    @property
    def formula(self) -> Optional[Tuple[str, Formula]]:
        """The first wrong quantity on the way to Y, and the formula that it equals; None if unknown."""
        text = self.places[0].equals if self.places else ''
        quantity, found = self.explained.get(text, ('', None))
        if found is None or quantity.startswith('moving'):
            return None
        return ('scale and shift', found + variable('beta')) if quantity == 'scaled X_hat' else (quantity, found)

    def average_equals(self, i: int) -> str:
        """What the moving mean (0) or variance (1) equals instead, whatever was wrong before it; '' if unknown."""
        return ''.join(place.equals for place in self._of_average(i))

    def _of_Y(self) -> Optional[Place]:
        if all(same(view.Y, view.trial.gamma * view.right['X_hat'] + view.trial.beta) for view in self.views):
            return None
        other = 'prediction' if self.mode == 'training' else 'training'
        if all(near(view.X_hat, right_values(view.trial, other)['X_hat']) for view in self.views):
            return self._place('mode', [(view.right, view.X_hat) for view in self.views], f'that of {other}')
        statistic = self._of_statistics()
        if statistic is not None:
            return statistic
        rounded = self._rounded()
        if rounded is not None:
            return rounded
        ratios = [ratio(view.X_hat, view.right['X_hat']) for view in self.views]
        if ratios[0] is not None and all(one is not None and abs(one - ratios[0]) < 2e-3 for one in ratios):
            samples = [(view.right, view.Y - view.trial.beta) for view in self.views]
            known = self._explain('scaled X_hat', samples) or f'{ratios[0]:.4g} * gamma * X_hat'
            return self._place('scaled X_hat', samples, known)
        samples = [(view.right, view.Y) for view in self.views]
        known = self._explain('scale and shift', samples)
        if not all(same(pair[0].X_hat, pair[1].X_hat, equal_nan=True) for pair in zip(self.full, self.plain)):
            first = self._of_X_hat()
            # Y depends on X only through X_hat
            alone = not first.equals and all(same(views[0].Y, views[1].Y) for views in (self.full, self.plain))
            if known or (alone and (right_statistics(self.views) or not right_statistics(self.plain))):
                return self._place('scale and shift', samples, known)
            # X_hat depends on gamma and beta: they are used wrongly, unless X_hat itself contains them
            upstream = first.equals or (self.mode == 'training' and not right_statistics(self.full))
            upstream = upstream or not all(numpy.isfinite(view.Y).all() for view in self.views)
            return first if upstream else self._place('scale and shift', samples, '')
        first = self._of_X_hat()
        if known and (first.quantity == 'X_hat'):  # X_hat, or what gamma multiplies
            return replace(first, quantity='scaled X_hat')
        return first

    def _rounded(self) -> Optional[Place]:
        """The first quantity that is wrong only by rounding, if all of Y is."""
        # the small trial is among these: there, a wrong eps is more than rounding
        views = self.views[: 2 * len(self.full) + 1]
        Ys = [(view.right, view.Y) for view in views]
        right = GRAMMAR['scale and shift'].right
        if not all(same(Y, right.compute(values), 5e-3, 5e-3) for values, Y in Ys):
            return None
        samples = {'scale and shift': Ys}
        if self.mode == 'training':
            samples = {
                'mean': [(view.right, view.own[0]) for view in views],
                'variance': [(view.right, view.own[1]) for view in views],
                **samples,
            }
        for quantity, found in samples.items():
            pairs = [(value, GRAMMAR[quantity].right.compute(values)) for values, value in found]
            if not all(same(*pair, 2e-5, 2e-5) for pair in pairs) and all(same(*pair, 5e-3, 5e-3) for pair in pairs):
                return self._place(quantity, found, 'the right one, rounded to three digits, as in float16')
        return None

    def _of_statistics(self) -> Optional[Place]:
        """The mean or the variance, if X was normalized by the same wrong value that went into the averages."""
        if self.mode == 'prediction':
            return None
        quantities = [('mean', 'mean'), ('var', 'variance')]
        if not all(map(follows, self.views)):
            # if another mistake follows, the wrong mean is still the centre
            quantities = quantities[:1] if all(map(centre_follows, self.plain)) else []
            if quantities and all(near(view.own[0], view.trial.moving_mean) for view in self.views):
                return self._place('mode', [(view.right, view.X_hat) for view in self.views], '')
        for i, (name, quantity) in enumerate(quantities):
            if not all(near(view.own[i], view.right[name]) for view in self.views):
                samples = [(view.right, view.own[i]) for view in self.views]
                return self._place(quantity, samples, self._explain(quantity, samples))
        return None

    def _of_X_hat(self) -> Place:
        """The first wrong quantity if X_hat is wrong, but mean and variance are not known to be wrong."""
        samples = [(view.right, view.X_hat) for view in self.views]
        known = self._explain('X_hat', samples, structure=True)
        if not known:
            spread = self._explain('denominator', samples, through=lambda one: (X - mean) / one)
            lines = self._lines()
            if spread or all(line is not None and centred(view, line) for view, line in zip(self.views, lines)):
                found = [(view.right, line[1]) for view, line in zip(self.views, lines) if line is not None]
                return self._place('denominator', found, spread)
        return self._place('X_hat', samples, known or self._explain('X_hat', samples))

    def _lines(self) -> List[Optional[Tuple[Array, Array]]]:
        return [line_of(view) for view in self.views]

    def _of_average(self, i: int) -> List[Place]:
        quantity, old = (('moving mean', 'moving_mean'), ('moving variance', 'moving_var'))[i]
        samples = [(view.right, view.averages[i]) for view in (*self.views, *self.blends)]
        right = GRAMMAR[quantity].right if self.mode == 'training' else variable(old)
        if all(near(value, right.compute(values)) for values, value in samples):
            return []
        if self.mode == 'training':
            return [self._place(quantity, samples, self._explain(quantity, samples), right)]
        updated = Formula(
            'the average updated with the batch',
            lambda values: GRAMMAR[quantity].right.compute(right_values(trial_of(values), 'training')),
        )
        found = self._only((updated, *edits(variable(old), NAMES).values()), samples)
        return [self._place(quantity, samples, '' if found is None else found.text, right)]

    def _explain(
        self,
        quantity: str,
        samples: Sequence[Sample],
        structure: bool = False,
        through: Callable[[Formula], Formula] = lambda one: one,
    ) -> str:
        """The only formula one change away from the right one that gives all these values; '' if none or several do."""
        tried = GRAMMAR[quantity].candidates(structure, self.mode == 'prediction')
        found = self._only(tried, samples, through)
        if found is None or self._is_right(found, quantity, samples):
            return ''
        text = in_mode(found.text, self.mode == 'training')
        self.explained[text] = quantity, found
        return text

    def _is_right(self, found: Formula, quantity: str, samples: Sequence[Sample]) -> bool:
        """Whether a formula only rewrites the right one: then it is no mistake, and not shown."""
        values = right_values(another(samples[0][0], self.free), self.mode)
        with numpy.errstate(all='ignore'):
            actual, right = (one.compute(values) + 0 * values['X'] for one in (found, GRAMMAR[quantity].right))
        return same(actual, right, 1e-6, 1e-6)

    def _only(
        self,
        tried: Sequence[Formula],
        samples: Sequence[Sample],
        through: Callable[[Formula], Formula] = lambda one: one,
    ) -> Optional[Formula]:
        return fitting(tried, samples, right_values(another(samples[0][0], self.free), self.mode), through)

    def _place(self, quantity: str, samples: Sequence[Sample], known: str, right: Optional[Formula] = None) -> Place:
        return Place(quantity, self.mode, numbers(quantity, right or GRAMMAR[quantity].right, samples), known)
