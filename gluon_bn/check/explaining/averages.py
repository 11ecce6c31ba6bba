"""The moving averages after one training batch: right, or what each known mistake would make of them."""

from __future__ import annotations

import types
from typing import Any, Callable, Collection, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy

from ..result import Array, Finding, StudentError, close, difference
from ..running.trials import Observed, Trial
from . import variants
from .explanation import EXCHANGES, usual
from .fitting import gives, right_values
from .grammar import GRAMMAR
from .variants import RIGHT, Variant, batch_statistics, where

# the usual rules that blend old and batch into new; any other weight is solved for
RULES: Dict[str, Callable[[Any, Any, float], Any]] = {
    '': lambda old, batch, weight: weight * old + (1 - weight) * batch if weight else batch,
    'MomentumSwapped': lambda old, batch, weight: (1 - weight) * old + weight * batch if weight < 1 else batch,
    'OverwritesRunning': lambda old, batch, weight: batch,
    'NeverUpdates': lambda old, batch, weight: old,
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
    equal: Mapping[str, str],
) -> List[Finding]:
    """The mistakes that lead to the differences described in `texts`.

    variant: how the batch itself was normalized, None if unknown. equal: the formulas that the averages equal instead.
    """
    text = next(iter(texts.values()))
    turned = [one._replace(moving_mean=one.moving_var, moving_var=one.moving_mean) for one in observed]
    own = RIGHT['batch'] if variant is None else variant.of_batch
    if _follow(trials, turned, own) or _of_usual(trials, turned, own, known) == []:
        return [Finding('WrongReturn', 'moving_mean and moving_var are returned in the wrong order')]
    causes = explain(trials, observed, variant, known, equal)
    if causes is None or (variant is None and not causes):
        return [Finding('WrongStatistics', text)]
    if variant is not None and not causes:  # wrong only because Y is wrong
        return [Finding(name, text + variants.describe(variant, name)) for name in variant.names if name in ABOUT_BATCH]
    findings: Dict[str, Finding] = {}
    for cause in causes:
        findings.setdefault(cause.name, Finding(cause.name, texts.get(cause.quantity, text) + cause.description))
    return list(findings.values())


def explain(
    trials: Sequence[Trial],
    observed: Sequence[Observed],
    variant: Optional[Variant],
    known: Collection[str],
    equal: Mapping[str, str],
) -> Optional[List[Cause]]:
    """The causes with the fewest new mistakes that lead to the observed averages; None if there are none.

    `variant` is how the batch itself was normalized: an average of the same wrong statistic is no second mistake.
    """
    variant = RIGHT['batch'] if variant is None else variant.of_batch
    if variant.changes and _follow(trials, observed, variant):
        return []
    causes = _of_usual(trials, observed, variant, known)
    exchanges = [change for change in variant.changes if change in EXCHANGES] or (EXCHANGES if causes is None else [])
    for change in exchanges:  # exchanges already seen in Y come before any other cause
        given = [variants.received(Variant(changes=(change,)), trial) for trial in trials]
        others = Variant(changes=tuple(one for one in variant.changes if one not in EXCHANGES))
        if _of_usual(given, observed, others, known) == []:
            return [Cause(change.names[0], quantity, change.description) for quantity in QUANTITIES]
    return _of_usual(trials, observed, variant, known, equal) if causes is None else causes


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
    equal: Mapping[str, str] = types.MappingProxyType({}),
) -> Optional[List[Cause]]:
    """The usual causes, or the formula that an average equals instead; None if either average has neither."""
    causes: List[Cause] = []
    for quantity in QUANTITIES:
        olds, news = ([getattr(source, quantity) for source in sources] for sources in (trials, observed))
        best: Optional[List[str]] = None
        for names, batches in _usual_statistics(trials, variant, quantity):
            rule = _rule(trials, olds, batches, news)
            if rule is None:
                continue
            found = [rule, *([] if rule == 'NeverUpdates' else names)] if rule else names
            if best is None or len(set(found) - {*known}) < len(set(best) - {*known}):
                best = found
            if not set(best) - {*known}:
                break
        if best is None and equal and not equal.get(quantity):
            equal = {**equal, quantity: _first_formula(trials, observed, quantity)}
        if best is None and not equal.get(quantity):
            return None
        description = '' if best is not None else f', which is {equal[quantity]}{where(equal[quantity])}'
        causes += [Cause(name, quantity, description) for name in (['WrongAverage'] if best is None else best)]
    return causes


def _usual_statistics(
    trials: Sequence[Trial], variant: Variant, quantity: str
) -> Iterator[Tuple[List[str], List[Array]]]:
    """Statistics that may be blended into an average: the right one, then those of usual mistakes."""
    ways = [
        ([], variant),
        *((one.names, one) for one in usual(trials, 'batch') if set(one.names) <= {'WrongAxis', 'UnbiasedBatchVar'}),
    ]
    for names, way in ways:
        names = [{'UnbiasedBatchVar': 'UnbiasedRunningVar'}.get(name, name) for name in names]
        both = [batch_statistics(way, trial) for trial in trials]
        if quantity == 'moving_mean':
            yield names, [mean for mean, _ in both]
            continue
        yield names, [var for _, var in both]
        names = [*(name for name in names if name != 'UnbiasedRunningVar'), 'RunningStdNotVar']
        with numpy.errstate(invalid='ignore'):
            yield names, [var**0.5 for _, var in both]
            yield names, [(var + trial.eps) ** 0.5 for (_, var), trial in zip(both, trials)]


def _first_formula(trials: Sequence[Trial], observed: Sequence[Observed], quantity: str) -> str:
    """The simplest formula that gives an average, if several do; '' if none does."""
    place = 'moving mean' if quantity == 'moving_mean' else 'moving variance'
    samples = []
    for trial, one in zip(trials, observed):
        moved = trial.moved(one.moving_mean, one.moving_var)
        if not moved.broadcasts:
            return ''
        samples.append((right_values(trial, 'training'), getattr(moved, quantity)))
    with numpy.errstate(all='ignore'):
        fits = (one for one in GRAMMAR[place].candidates() if all(gives(one, *sample) for sample in samples))
        return str(next(fits, ''))


def _rule(
    trials: Sequence[Trial], olds: Sequence[Array], batches: Sequence[Array], news: Sequence[Array]
) -> Optional[str]:
    """The mistake in the rule that blends old averages and batch statistics into the new averages.

    '' if the rule is right; None if no rule fits.
    """
    given = list(zip(olds, batches, news, (trial.momentum for trial in trials)))
    for name, rule in RULES.items():
        if all(close(new, rule(old, batch, weight)) for old, batch, new, weight in given):
            return name
    if any(new.size != (old + batch).size for old, batch, new, _ in given):
        return None
    # some other weight, the same in all trials: solve new - batch = weight * (old - batch)
    with numpy.errstate(invalid='ignore'):  # infinity - infinity
        left = numpy.concatenate([numpy.ravel(old - batch) for old, batch, *_ in given])
        moved = [new.reshape((old + batch).shape) - batch for old, batch, new, _ in given]
    right = numpy.concatenate([numpy.ravel(one) for one in moved])
    if not (numpy.isfinite(left).all() and numpy.isfinite(right).all() and left.any()):
        return None
    weight = left @ right / (left @ left)
    fits = all(close(new, weight * old + (1 - weight) * batch) for old, batch, new, _ in given)
    return 'OtherMomentum' if 0 < weight < 1 and fits else None
