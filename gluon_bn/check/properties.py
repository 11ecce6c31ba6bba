"""What else a right batch normalization does: its averages, modes, gradients, and what it leaves alone."""
from __future__ import annotations

from typing import Dict, List, Optional, Sequence

import numpy

from . import averages, variants
from .observe import Gradients
from .outputs import ABOUT_PREDICTION, ABOUT_TRAINING, TRAINING, Outputs, are_exchanged, exchanged
from .probes import Open
from .raised import Trouble
from .result import Finding, difference
from .trials import upstream
from .variants import Variant, close, same

GRADIENT_RTOL = 1e-3  # float32 in any order, on a few dozen values; a missing way is off by far more
# what is seen in Y and in the averages
ABOUT_BATCH = ('UnbiasedBatchVar', 'WrongAxis', 'WrongCount', 'WrongMean', 'WrongVariance')
ABOUT_AVERAGES = ('moving_mean', 'moving_var', 'momentum')


class Properties(Outputs):
    """Each method judges one property for dense (2) or convolutional (4) input: a list of findings."""

    def averages(self, rank: int) -> List[Finding]:
        """The moving averages after one training batch."""
        tried = self.trials[rank]
        seen = [self.observed(trial, 'training') for trial in tried]
        texts: Dict[str, str] = {}
        for trial, one in zip(tried, seen):
            mean, var = variants.batch_statistics(TRAINING, trial.X)
            for name, batch in (('moving_mean', mean), ('moving_var', var)):
                old, new = getattr(trial, name), getattr(one, name)
                right = trial.momentum * old + (1 - trial.momentum) * batch
                if name not in texts and not close(new, right):
                    texts[name] = 'after one batch, ' + difference(trial.told(*ABOUT_AVERAGES), name, right, new)
                # (d,) broadcasts over a dense X as (1, d) does
                if not texts and new.shape != old.shape and (rank, new.ndim) != (2, 1):
                    raise Trouble('WrongShape', f'{name} should keep the shape {old.shape}, yours has {new.shape}')
        if not texts:
            return []
        text = next(iter(texts.values()))
        try:
            variant: Optional[Variant] = self.variant(rank)
        except Open:
            variant = None
        turned = [one._replace(moving_mean=one.moving_var, moving_var=one.moving_mean) for one in seen]
        if averages.explain(tried, turned, variant, self.known) == []:
            return [Finding('WrongReturn', 'moving_mean and moving_var come back in exchanged order')]
        causes = averages.explain(tried, seen, variant, self.known)
        if causes is None:
            return [Finding('WrongStatistics', text)]
        if variant is not None and not causes:  # wrong only as Y is wrong
            return [Finding(name, text + variants.words(variant, name))
                    for name in variants.mistakes(variant, 'batch') if name in ABOUT_BATCH]
        findings: Dict[str, Finding] = {}
        for cause in causes:
            findings.setdefault(cause.name, Finding(cause.name, texts.get(cause.quantity, text) + cause.words))
        return list(findings.values())

    def unmoved(self, rank: int) -> List[Finding]:
        """The moving averages after a prediction."""
        tried = self.trials[rank]
        seen = [self.observed(trial, 'prediction') for trial in tried]
        if are_exchanged(tried, seen):
            return [] if 'ExchangedArguments' in self.known else [exchanged('in prediction')]
        for trial, one in zip(tried, seen):
            for name in ('moving_mean', 'moving_var'):
                if not same(getattr(one, name), getattr(trial, name), rtol=1e-6, atol=1e-9):
                    text = difference(trial.told(*ABOUT_AVERAGES[:2]), name, getattr(trial, name), getattr(one, name))
                    return [Finding('UpdatesAtPredict', f'after a prediction, {text}')]
        return []

    def modes(self, rank: int) -> List[Finding]:
        """Training is told by autograd.is_training(), not by recording: four modes, compared with each other."""
        trial = self.trials[rank][1]
        Y = {mode: self.observed(trial, mode).Y for mode in ('training', 'prediction', 'recording', 'unrecorded')}
        alike = same(Y['training'], Y['prediction'])
        if not alike:
            for mode, twin, other, call in (
                    ('recording', 'prediction', 'training', 'autograd.record(train_mode=False)'),
                    ('unrecorded', 'training', 'prediction', 'autograd.train_mode()')):
                if not same(Y[mode], Y[twin]):
                    name = 'IsRecordingNotTraining' if same(Y[mode], Y[other]) else 'WrongOutput'
                    return [Finding(name, f'under {call}, '
                                    + difference(trial.told(*ABOUT_PREDICTION), 'Y', Y[twin], Y[mode]))]
        moved, still = (self.observed(trial, mode).moving_mean for mode in ('recording', 'prediction'))
        if not same(moved, still):
            return [Finding('IsRecordingNotTraining', 'under autograd.record(train_mode=False), '
                            + difference(trial.told(*ABOUT_AVERAGES), 'moving_mean', still, moved))]
        if alike:
            raise Open('cannot be judged before training and prediction differ')
        return []

    def gradients(self, rank: int) -> List[Finding]:
        """The gradient that autograd finds through the code, against that of the same formula."""
        variant = self.variant(rank)
        # of a slip's formula the batch by numbers may be a point without a slope, as where two numbers are equal
        tried = [trial for trial in self.trials[rank][3 if variant.slips else 1::2]
                 # at a variance of 0, as a wrong axis can give, the root has no gradient
                 if variant.source == 'moving'
                 or variants.batch_statistics(variant, trial.X, others=trial._asdict())[1].min() > 1e-9]
        seen: List[Gradients] = []
        for trial in tried:
            gradients = self.observed(trial, 'training').gradients
            if isinstance(gradients, Trouble):
                raise gradients
            seen.append(gradients)
        expected = [variants.gradients(variant, trial) for trial in tried]
        text = ''
        for trial, mine, right in zip(tried, seen, expected):
            for name, got, wanted in zip(('dX', 'dgamma', 'dbeta'), mine, right):
                if not text and got is not None and not same(got, wanted, rtol=GRADIENT_RTOL):
                    text = difference(trial.told('gamma', 'beta', 'eps') + upstream(trial), name, wanted, got)
        if not text:
            return []
        for cut in (('mean',), ('var',), ('mean', 'var')):
            if variant.source == 'batch' and all(
                    got is None or same(got, wanted, rtol=GRADIENT_RTOL) for trial, mine in zip(tried, seen)
                    for got, wanted in zip(mine, variants.gradients(variant, trial, cut))):
                return [Finding('StatsDetachedInForward', text)]
        return [Finding('WrongGradient', text + _parts(seen, expected))]

    def inputs(self, rank: int) -> List[Finding]:
        """No array that came in is written to."""
        findings: List[Finding] = []
        for mode in ('unrecorded', 'training', 'prediction'):
            for trial in self.trials[rank]:
                changed = self.observed(trial, mode).changed
                if changed and not findings:
                    findings = [Finding('MutatesInput', f'after the call {" and ".join(changed)} '
                                        f'{"holds" if len(changed) == 1 else "hold"} other numbers than before')]
        return findings

    def rounding(self, rank: int) -> List[Finding]:
        """The worked example far from 0."""
        variant, trial = self.variant(rank), self.offset[rank]
        Y = self.observed(trial, 'training').Y
        expected = variants.forward(variant, trial)
        # X - mean is exact in float32; a * X + b in one step loses 30000 * 6e-8 of Y, some 0.002
        if same(Y, expected, rtol=0.02, atol=0.02):
            return []
        text = difference(trial.told(*ABOUT_TRAINING), 'Y', expected, Y)
        return [Finding('VarianceCancellation', f'in training, {text}')]

    def graph(self, rank: int) -> List[Finding]:
        """The averages do not hang on the autograd graph."""
        if self.observed(self.trials[rank][1], 'training').kept:
            text = 'after a training batch the moving averages still belong to the autograd graph'
            return [Finding('StatsKeptInGraph', text)]
        return []


def _parts(seen: Sequence[Gradients], expected: Sequence[Gradients]) -> str:
    """'; dX is 2 times what it should be, dgamma and dbeta are right', as far as it is so in every trial."""
    right: List[str] = []
    factors: List[str] = []
    for name, *pairs in zip(('dX', 'dgamma', 'dbeta'), zip(*seen), zip(*expected)):
        if any(got is None for got in pairs[0]):
            continue
        mine, wanted = (numpy.concatenate([array.ravel() for array in arrays]) for arrays in pairs)
        if same(mine, wanted, rtol=GRADIENT_RTOL):
            right.append(name)
        elif numpy.isfinite(mine).all():
            factor = mine @ wanted / (wanted @ wanted)
            if same(mine, factor * wanted, rtol=GRADIENT_RTOL):
                factors.append(f'{name} is {factor:.4g} times what it should be')
    parts = factors + [f'{" and ".join(right)} {"are" if len(right) > 1 else "is"} right'] * bool(right)
    return f'; {", ".join(parts)}' if parts else ''
