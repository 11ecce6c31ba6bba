"""The moving averages after one training batch: right, or what each known mistake would make of them."""

from __future__ import annotations

import itertools
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy

from . import variants
from .formulas import SLIPS, Memory, momentum, variable
from .grammar import GRAMMAR, gives
from .result import Array, Finding, StudentError, close, difference
from .trials import Observed, Trial
from .variants import RIGHT, Axes, Variant, batch_statistics, dimensions, other_axes, where

USUAL_RULES: Dict[str, List[str]] = {
    'blend': [],
    'swapped': ['MomentumSwapped'],
    'overwritten': ['OverwritesRunning'],
    'kept': ['NeverUpdates'],
    'other': ['OtherMomentum'],
}
KINDS: Dict[str, List[str]] = {
    'm': [],
    'm-1': ['UnbiasedRunningVar'],
    **dict.fromkeys(('std', 'std, m-1', 'std with eps', 'std with eps, m-1'), ['RunningStdNotVar']),
}
QUANTITIES = ('moving_mean', 'moving_var')
ABOUT_AVERAGES = (*QUANTITIES, 'momentum')  # what decides an average, and so is shown with it
# what is seen in Y and in the averages
ABOUT_BATCH = ('UnbiasedBatchVar', 'WrongAxis', 'WrongCount', 'WrongMean', 'WrongVariance')


class Cause(NamedTuple):
    """A mistake, the average in which it is seen, and what that average equals instead, in words."""

    name: str
    quantity: str
    description: str = ''


def differences(trials: Sequence[Trial], observed: Sequence[Observed]) -> Dict[str, str]:
    """For each average that is wrong, numbers that show it. Raises: StudentError for a wrong shape."""
    texts: Dict[str, str] = {}
    for trial, one in zip(trials, observed):
        for name, batch in zip(QUANTITIES, batch_statistics(RIGHT['batch'], trial)):
            old, new = getattr(trial, name), getattr(one, name)
            right = trial.momentum * old + (1 - trial.momentum) * batch
            if name not in texts and not close(new, right):
                texts[name] = f'after one batch, {difference(trial.describe(*ABOUT_AVERAGES), name, right, new)}'
            # (d,) broadcasts over a dense X as (1, d) does
            if not texts and new.shape != old.shape and (trial.X.ndim, new.ndim) != (2, 1):
                raise StudentError('WrongShape', f'{name} should keep the shape {old.shape}, yours has {new.shape}')
    return texts


def judge(
    trials: Sequence[Trial],
    observed: Sequence[Observed],
    texts: Dict[str, str],
    variant: Optional[Variant],
    known: Collection[str],
) -> List[Finding]:
    """The mistakes that lead to these `differences`; variant: how the batch itself was normalized, None if unknown."""
    text = next(iter(texts.values()))
    turned = [one._replace(moving_mean=one.moving_var, moving_var=one.moving_mean) for one in observed]
    own = Variant() if variant is None else variant
    if _follow(trials, turned, own) or _of_usual(trials, turned, own, known) == []:
        return [Finding('WrongReturn', 'moving_mean and moving_var come back in exchanged order')]
    causes = explain(trials, observed, variant, known)
    if causes is None or (variant is None and not causes):
        return [Finding('WrongStatistics', text)]
    if variant is not None and not causes:  # wrong only as Y is wrong
        return [
            Finding(name, text + variants.describe(variant, name))
            for name in variants.mistakes(variant, 'batch')
            if name in ABOUT_BATCH
        ]
    findings: Dict[str, Finding] = {}
    for cause in causes:
        findings.setdefault(cause.name, Finding(cause.name, texts.get(cause.quantity, text) + cause.description))
    return list(findings.values())


def explain(
    trials: Sequence[Trial], observed: Sequence[Observed], variant: Optional[Variant], known: Collection[str]
) -> Optional[List[Cause]]:
    """The causes with the fewest new mistakes that lead to the observed averages; None if there are none.

    `variant` is how the batch itself was normalized: an average of the same wrong statistic is no second mistake.
    """
    variant = Variant() if variant is None else variant
    if variant.slips and _follow(trials, observed, variant):
        return []
    causes = _of_usual(trials, observed, variant, known)
    exchanges = [slip for slip in variant.slips if slip.name == 'ExchangedArguments']
    if causes is None:
        exchanges = exchanges or [slip for slip in SLIPS if slip.name == 'ExchangedArguments']
    for slip in exchanges:  # those that are seen in Y already come before any other cause
        exchange = Variant(slips=(slip,))
        given = [variants.received(exchange, trial) for trial in trials]
        if _of_usual(given, observed, variant._replace(slips=()), known) == []:
            return [Cause(slip.name, quantity, variants.describe(exchange, slip.name)) for quantity in QUANTITIES]
    return _of_slips(trials, observed, variant, known) if causes is None else causes


def _follow(trials: Sequence[Trial], observed: Sequence[Observed], variant: Variant) -> bool:
    """Whether both averages are right, except that their statistics are those that normalized the batch."""
    for trial, one in zip(trials, observed):
        for quantity, batch in zip(QUANTITIES, batch_statistics(variant, trial)):
            if not close(
                getattr(one, quantity), trial.momentum * getattr(trial, quantity) + (1 - trial.momentum) * batch
            ):
                return False
    return True


def _of_usual(
    trials: Sequence[Trial],
    observed: Sequence[Observed],
    variant: Variant,
    known: Collection[str],
    quantities: Sequence[str] = QUANTITIES,
) -> Optional[List[Cause]]:
    rank = trials[0].X.ndim
    axes = dict.fromkeys([variant.axes, 'channel', *other_axes(rank)])
    causes: List[Cause] = []
    for quantity in quantities:
        olds, news = ([getattr(source, quantity) for source in sources] for sources in (trials, observed))
        best: Optional[Tuple[int, List[str]]] = None
        for over, kind in itertools.product(axes, ['mean'] if quantity == 'moving_mean' else KINDS):
            if best is not None and best[0] == 0:
                break
            rule = _rule(trials, olds, [_batch(trial, over, kind) for trial in trials], news)
            if rule is None:
                continue
            found = USUAL_RULES[rule][:]
            if rule != 'kept':
                found += ['WrongAxis'] if over != 'channel' else []
                found += [] if kind in ('mean', variant.divide) else KINDS[kind]
            num_new = sum(name not in known for name in found)
            if best is None or num_new < best[0]:
                best = num_new, found
        if best is None:
            return None
        causes += [Cause(name, quantity) for name in best[1]]
    return causes


def _of_slips(
    trials: Sequence[Trial], observed: Sequence[Observed], variant: Variant, known: Collection[str]
) -> Optional[List[Cause]]:
    """The causes if an average comes from a statistic that is already wrong in Y, or from a slip of its own."""
    named, news = [], []
    for trial, one in zip(trials, observed):
        moved = trial.moved(one.moving_mean, one.moving_var)
        if not moved.broadcasts:
            return None
        news.append(moved)
        own_mean, own_var = batch_statistics(variant, trial)
        right_mean, right_var = batch_statistics(RIGHT['batch'], trial)
        named.append(
            Memory(
                {
                    **trial._asdict(),
                    **dimensions(trial.X),
                    'mean': right_mean,
                    'var': right_var,
                    'own mean': own_mean,
                    'own var': own_var,
                    'std': (right_var + trial.eps) ** 0.5,
                    'new_mean': moved.moving_mean,
                }
            )
        )
    causes: List[Cause] = []
    for quantity in QUANTITIES:
        usual = _of_usual(trials, observed, variant, known, (quantity,))
        found = usual if usual is not None else _slip(named, [getattr(one, quantity) for one in news], quantity)
        if found is None:
            return None
        causes += found
    return causes


def _slip(named: Sequence[Dict[str, Any]], news: Sequence[Array], quantity: str) -> Optional[List[Cause]]:
    """The cause of one average: the first formula that leads to it; None if there is none."""
    place, right = ('moving mean', 'mean') if quantity == 'moving_mean' else ('moving variance', 'var')
    own = momentum * variable(quantity) + (1 - momentum) * variable(f'own {right}')
    tried = [own, *GRAMMAR[place].candidates()]
    for formula in tried:
        with numpy.errstate(all='ignore'):
            if all(gives(formula, values, new) for new, values in zip(news, named)):
                text = str(formula).replace('own ', '')
                # right, but for a statistic that is already wrong in Y
                return [] if formula is own else [Cause('WrongAverage', quantity, f', which is {text}{where(text)}')]
    return None


def _batch(trial: Trial, axes: Axes, kind: str) -> Array:
    mean, var = batch_statistics(Variant(axes=axes, divide='m-1' if 'm-1' in kind else 'm'), trial)
    if kind == 'mean':
        return mean
    return (var + (trial.eps if 'eps' in kind else 0)) ** 0.5 if 'std' in kind else var


def _rule(
    trials: Sequence[Trial], olds: Sequence[Array], batches: Sequence[Array], news: Sequence[Array]
) -> Optional[str]:
    """The rule that leads from the old averages and the batches' to the new ones; None if it is unknown."""

    def fits(weights: Sequence[float]) -> bool:
        return all(
            close(new, weight * old + (1 - weight) * batch if weight else batch)
            for weight, old, batch, new in zip(weights, olds, batches, news)
        )

    momenta = [trial.momentum for trial in trials]
    for rule, weights in (
        ('blend', momenta),
        ('swapped', [1 - m for m in momenta]),
        ('overwritten', [0] * len(trials)),
        ('kept', [1] * len(trials)),
    ):
        if fits(weights):
            return rule
    if any(new.size != (old + batch).size for old, batch, new in zip(olds, batches, news)):
        return None
    # some other weight, the same in all trials: solve new - batch = weight * (old - batch)
    left = numpy.concatenate([numpy.ravel(old - batch) for old, batch in zip(olds, batches)])
    right = numpy.concatenate(
        [numpy.ravel(new.reshape((old + batch).shape) - batch) for old, batch, new in zip(olds, batches, news)]
    )
    if not (numpy.isfinite(left).all() and numpy.isfinite(right).all() and left.any()):
        return None
    weight = left @ right / (left @ left)
    return 'other' if 0 < weight < 1 and fits([weight] * len(trials)) else None
