"""The properties of batch normalization, each judged by what came out of the trials: Y, the averages, the gradients."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from .explaining import averages, explanation, variants
from .explaining.averages import ABOUT_AVERAGES
from .explaining.chain import Chain
from .explaining.variants import RIGHT, Variant
from .gradient_flow import judge_flow
from .mistakes import NOTES
from .result import Finding, Place, StudentError, difference, same
from .running.rows import NotJudgeable, TrialRunner
from .running.trials import Gradients, Observed, Trial

SMOOTH = {'WrongAxis', 'UnbiasedBatchVar', 'TrainsOnMovingStats', *variants.ABOUT_Y}
# what decides a number, and so is shown with it
ABOUT_TRAINING, ABOUT_PREDICTION = ('gamma', 'beta', 'eps'), ('gamma', 'beta', 'moving_mean', 'moving_var', 'eps')


class Properties(TrialRunner):
    """Each public method judges one property for dense (2) or convolutional (4) input: a list of findings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._variants: Dict[int, Optional[Variant]] = {}
        self._chains: Dict[Tuple[int, str], Optional[Chain]] = {}

    def _all_observed(self, rank: int, mode: str) -> List[Observed]:
        return [self.observed(trial, mode) for trial in self.trials[rank]]

    def _chain(self, rank: int, mode: str) -> Optional[Chain]:
        """The quantities of a mode, with their places; None if the code does not run, which is reported elsewhere."""
        if (rank, mode) not in self._chains:
            free = self.trials[rank][0].eps != self.trials[rank][1].eps
            try:
                self._chains[rank, mode] = Chain(self.observed, self.trials[rank], mode, free)
            except (StudentError, NotJudgeable):
                self._chains[rank, mode] = None
        return self._chains[rank, mode]

    def _placed(self, findings: List[Finding], rank: int, mode: str, *quantities: str) -> List[Finding]:
        """The findings, the first with its first wrong quantity; quantities: given for the averages, else of Y."""
        if not findings or findings[0].name in NOTES:
            return findings
        chain = self._chain(rank, mode)
        located = [] if chain is None else chain.places
        places = [place for place in located if place.quantity.startswith('moving') == bool(quantities)]
        first = located[:1] if quantities and not places else places[:1]
        return [_named(findings[0]._replace(place=place)) for place in first] + findings[len(first) :]

    def variant(self, rank: int) -> Variant:
        """How the code normalizes in training, as far as it is understood. Raises: NotJudgeable if it is not."""
        if rank not in self._variants:
            self.training(rank)
        variant = self._variants[rank]
        if variant is None:
            raise NotJudgeable('cannot be judged until Y is right')
        return variant

    def training(self, rank: int) -> List[Finding]:
        """Y in training."""
        self._variants[rank] = None
        seen = self._all_observed(rank, 'training')
        self._variants[rank], findings = self._judge_Y(self.trials[rank], seen, 'batch')
        for one in seen:
            if isinstance(one.gradients, StudentError) and not findings:  # report early: later checks depend on it
                raise one.gradients
        return self._placed(findings, rank, 'training')

    def prediction(self, rank: int) -> List[Finding]:
        """Y in prediction."""
        variant, findings = self._judge_Y(self.trials[rank], self._all_observed(rank, 'prediction'), 'moving')
        consistent = 'RunningStdNotVar' in self.known and 'MissingSqrt' not in self.known
        if consistent and variant is not None and 'MissingSqrt' in variant.names:
            # whoever remembers the standard deviation rightly divides by it, with eps or without
            about_spread = ('MissingSqrt', 'NoEps', 'EpsOutsideSqrt', 'OtherEps')
            others = [finding for finding in findings if finding.name not in about_spread]
            findings = others + [Finding('RunningStdNotVar', findings[0].text)]
        return self._placed(findings, rank, 'prediction')

    def _judge_Y(
        self, tried: Sequence[Trial], seen: Sequence[Observed], source: str
    ) -> Tuple[Optional[Variant], List[Finding]]:
        """How Y was computed, if that is understood, and the mistakes; `source` tells whose statistics are right."""
        rank, right = tried[0].X.ndim, RIGHT[source]
        where, about = ('in training', ABOUT_TRAINING) if source == 'batch' else ('in prediction', ABOUT_PREDICTION)
        for trial, one in zip(tried, seen):
            if one.Y.shape != trial.X.shape:
                text = f'{where}, Y should have the shape {trial.X.shape}, yours has {one.Y.shape}'
                raise StudentError('WrongShape', text)
        Ys = [one.Y for one in seen]
        expected = [variants.forward(right, trial) for trial in tried]
        wrong = [i for i in range(len(tried)) if not same(Ys[i], expected[i])]
        exchanged = [_exchanged(where)] if _are_exchanged(tried, seen) else []
        if not wrong:
            return right, exchanged
        variant = explanation.explain(tried, Ys, source, self.known)
        if variant is None:
            chain = self._chain(rank, where.split()[1])
            variant = explanation.explain_by_formula(tried, Ys, source, chain.formula if chain is not None else None)
        names = ['WrongOutput'] if variant is None else variant.names
        if variant is None:  # perhaps normalized by the averages after they had taken in this batch
            moved = [trial.moved(one.moving_mean, one.moving_var) for trial, one in zip(tried, seen)]
            known = all(one.broadcasts for one in moved)
            after = explanation.explain(moved, Ys, source, self.known) if known else None
            if after is not None and (source == 'moving' or 'TrainsOnMovingStats' in after.names):
                names = after.names + ['UpdatesAtPredict'] * (source == 'moving')
            elif any(one.changed for one in seen):
                names = ['MutatesInput']
        findings = exchanged if 'ExchangedArguments' not in names else []
        for name in names:
            i = next((i for i in wrong if _shows(name, variant, right, tried[i])), wrong[0])
            text = f'{where}, {difference(tried[i].describe(*about), "Y", expected[i], Ys[i])}'
            if variant is not None:
                text += variants.describe(variant, name)
            elif name == 'WrongOutput':
                text += explanation.as_line(tried, Ys, right, i)
            findings.append(Finding(name, text))
        return variant, findings

    def averages(self, rank: int) -> List[Finding]:
        """The moving averages after one training batch."""
        tried, seen = self.trials[rank], self._all_observed(rank, 'training')
        texts = averages.differences(tried, seen)
        if not texts:
            return []
        try:
            variant: Optional[Variant] = self.variant(rank)
        except NotJudgeable:
            variant = None
        chain = self._chain(rank, 'training')
        equal = {name: '' if chain is None else chain.average_equals(i) for i, name in enumerate(averages.QUANTITIES)}
        findings = averages.judge(tried, seen, texts, variant, self.known, equal)
        return self._placed(findings, rank, 'training', 'moving')

    def unmoved(self, rank: int) -> List[Finding]:
        """The moving averages after a prediction."""
        tried, seen = self.trials[rank], self._all_observed(rank, 'prediction')
        if _are_exchanged(tried, seen):
            return [] if 'ExchangedArguments' in self.known else [_exchanged('in prediction')]
        for trial, one in zip(tried, seen):
            for name in ('moving_mean', 'moving_var'):
                old, new = getattr(trial, name), getattr(one, name)
                if not same(new, old, rtol=1e-6, atol=1e-9):
                    text = difference(trial.describe('moving_mean', 'moving_var'), name, old, new)
                    found = [Finding('UpdatesAtPredict', f'after a prediction, {text}')]
                    return self._placed(found, rank, 'prediction', 'moving')
        return []

    def modes(self, rank: int) -> List[Finding]:
        """autograd.is_training() decides, not recording: the four modes, compared with each other."""
        trial = self.trials[rank][1]
        Y = {mode: self.observed(trial, mode).Y for mode in ('training', 'prediction', 'recording', 'unrecorded')}
        alike = same(Y['training'], Y['prediction'])
        for mode, twin, other, call in (
            ('recording', 'prediction', 'training', 'autograd.record(train_mode=False)'),
            ('unrecorded', 'training', 'prediction', 'autograd.train_mode()'),
        ):
            if not alike and not same(Y[mode], Y[twin]):
                name = 'IsRecordingNotTraining' if same(Y[mode], Y[other]) else 'WrongOutput'
                text = difference(trial.describe(*ABOUT_PREDICTION), 'Y', Y[twin], Y[mode])
                place = (
                    Place('mode', mode, 'Y is not that of ' + twin, 'that of ' + other)
                    if name == 'IsRecordingNotTraining'
                    else None
                )
                return [Finding(name, f'under {call}, {text}', place)]
        moved, still = (self.observed(trial, mode).moving_mean for mode in ('recording', 'prediction'))
        if not same(moved, still):
            text = difference(trial.describe(*ABOUT_AVERAGES), 'moving_mean', still, moved)
            place = Place('mode', 'recording', 'the averages move', 'that of training')
            return [Finding('IsRecordingNotTraining', f'under autograd.record(train_mode=False), {text}', place)]
        if alike:
            raise NotJudgeable('cannot be judged until training and prediction differ')
        return []

    def gradients(self, rank: int) -> List[Finding]:
        """The gradient that autograd finds through the code, against that of the same formula."""
        variant = self.variant(rank)
        if 'new_' in str(variants.formula(variant)):  # a new average is rightly cut from the graph
            raise NotJudgeable('cannot be judged until Y is right')
        # with a slip, the batch by numbers may be a point without a slope, for instance where two numbers are equal
        tried = [
            trial
            for trial in self.trials[rank][1 if SMOOTH.issuperset(variant.names) else 3 :: 2]
            # at a variance of 0, as a wrong axis can give, the root has no gradient
            if variants.batch_statistics(variant, trial)[1].min() > 1e-9
        ]
        seen: List[Gradients] = []
        for trial in tried:
            gradients = self.observed(trial, 'training').gradients
            if isinstance(gradients, StudentError):
                raise gradients
            seen.append(gradients)
        return judge_flow(variant, tried, seen)

    def inputs(self, rank: int) -> List[Finding]:
        """No array that came in is written to."""
        seen = [one for mode in ('unrecorded', 'training', 'prediction') for one in self._all_observed(rank, mode)]
        changed = next((one.changed for one in seen if one.changed), ())
        if not changed:
            return []
        return [Finding('MutatesInput', f'the call changed {" and ".join(changed)}')]

    def rounding(self, rank: int) -> List[Finding]:
        """The worked example far from 0."""
        variant, trial = self.variant(rank), self.offset[rank]
        Y = self.observed(trial, 'training').Y
        expected = variants.forward(variant, trial)
        # X - mean is exact in float32; a * X + b in one step loses 30000 * 6e-8 of Y, some 0.002
        if same(Y, expected, rtol=0.02, atol=0.02):
            return []
        text = difference(trial.describe(*ABOUT_TRAINING), 'Y', expected, Y)
        return [Finding('VarianceCancellation', f'in training, {text}')]

    def graph(self, rank: int) -> List[Finding]:
        """The averages do not belong to the autograd graph."""
        if self.observed(self.trials[rank][1], 'training').in_graph:
            text = 'after a training batch the moving averages still belong to the autograd graph'
            return [Finding('StatsKeptInGraph', text)]
        return []


def _named(finding: Finding) -> Finding:
    """Name an unspecific finding after the mean or the variance, if that is the first wrong quantity."""
    name = {'mean': 'WrongMean', 'variance': 'WrongVariance'}.get(finding.place.quantity if finding.place else '')
    if name is None or finding.name not in ('WrongOutput', 'WrongStatistics'):
        return finding
    return finding._replace(name=name, text=finding.text.split(', which ')[0])


def _exchanged(where: str) -> Finding:
    return Finding('WrongReturn', f'{where}, moving_mean and moving_var are returned in the wrong order')


def _are_exchanged(tried: Sequence[Trial], seen: Sequence[Observed]) -> bool:
    """Whether the averages come back unmoved, each in the other's place."""
    return all(
        same(one.moving_mean, trial.moving_var) and same(one.moving_var, trial.moving_mean)
        for trial, one in zip(tried, seen)
    )


def _shows(name: str, variant: Optional[Variant], right: Variant, trial: Trial) -> bool:
    """Whether this mistake alone would be seen in this trial, so that its numbers make an example of it."""
    own = [] if variant is None else [Variant(right.source, (change,)) for change in variant.changes]
    usual = explanation.candidates(trial.X.ndim, right.source, frozenset())
    alone = next((one for one in (*own, *usual) if one.names == [name]), right)
    return not same(variants.forward(alone, trial), variants.forward(right, trial), rtol=0.01)
