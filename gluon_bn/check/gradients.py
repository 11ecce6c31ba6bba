"""A backward pass by hand: its dX, dgamma and dbeta, each judged by itself.

    dX = gamma / sqrt(var + eps) * (direct * dY - through_mean * dbeta / m - through_variance * X_hat * dgamma / m)

For a right dX the three factors are 1. They are solved for, channel by channel, by least squares.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Collection, Dict, List, Optional, Sequence, Tuple

import numpy

from .explaining.backward import GRADIENT_RTOL, BackwardChain, RightGradients
from .explaining.backward_formulas import (
    MEAN,
    OTHER,
    SCALE,
    VARIANCE,
    Slip,
    dX_slips,
    dX_slips_of_two,
    parameter_slips,
    slips_before_dgamma,
)
from .explaining.explanation import candidates
from .explaining.fitting import another, fitting
from .explaining.formulas import Memory
from .explaining.terms import diagnose_dX
from .explaining.variants import other_axes, where
from .result import Array, Finding, Place, Row, StudentError, difference, same
from .running.rows import Reporter
from .running.student_code import TimeLimitedRunner, autograd_refused
from .running.trials import RANKS, Trial, front, to_numpy, trials, unpack

# the quantity that each mistake is about
QUANTITIES = {
    'WrongGradientGamma': 'dgamma',
    'WrongGradientBeta': 'dbeta',
    'WrongGradientScale': 'scale of dX',
    'WrongGradientThroughMean': 'term through the mean',
    'WrongGradientThroughVariance': 'term through the variance',
    'WrongGradientX': 'dX',
    'WrongGradientFactorM': 'count in dX',
}
BEFORE = {'mean': 'WrongMean', 'variance': 'WrongVariance'}  # mistakes in quantities before dgamma
TERMS = (MEAN, VARIANCE)
NAMES = ('dX', 'dgamma', 'dbeta')  # in the order in which they are returned
PROPERTIES = {'dense': 2, 'convolution': 4}
# constants that may be wrong in 1 / sqrt(var + eps): what to change in the forward formula
SPREADS = {
    variant.names[0]: variant
    for variant in candidates(2, 'batch', frozenset())
    if variant.names in (['NoEps'], ['EpsOutsideSqrt'], ['UnbiasedBatchVar'])
}
Returned = Dict[str, Any]  # what came back for one trial, by name: an array in float64, or the StudentError about it


def judge_gradient(fn: Callable[..., Any], runner: TimeLimitedRunner, keys: Collection[str]) -> List[Row]:
    """The rows of the result: for each rank dgamma, dbeta and dX."""
    rows, reporter = [], Reporter()
    for rank in (PROPERTIES[key] for key in keys):
        worked, random = trials(rank)[1], trials(rank)[3]
        tried = [worked, random, random._replace(X=random.X / 4, eps=0.05)]
        try:
            # outside the time limit: code that cannot be stopped must not leave autograd refused
            with autograd_refused():
                returned = [runner.run(functools.partial(_call, fn, trial)) for trial in tried]
                upstream = _upstream(fn, runner, rank, tried, returned)
        except StudentError as error:
            returned, upstream = [dict.fromkeys(NAMES, error)], None
        rows += [
            reporter.row(f'{RANKS[rank]}: {name}', functools.partial(_judge, name, tried, returned, upstream))
            for name in ('dgamma', 'dbeta', 'dX')
        ]
    return rows


def _call(fn: Callable[..., Any], trial: Trial) -> Returned:
    arrays = [front().array(value, dtype='float32') for value in (trial.dY, trial.X, trial.gamma)]
    before = [array.asnumpy() for array in arrays]
    values = unpack(fn, (*arrays, trial.eps), NAMES)
    shapes = [getattr(value, 'shape', None) for value in values]
    for name, shape in zip(NAMES[1:], shapes[1:]):
        if shape == trial.X.shape != shapes[0] and getattr(values[0], 'size', 0) == trial.gamma.size:
            raise StudentError('WrongReturn', f'dX is returned where {name} should be; return dX first')
    returned: Returned = {}
    for name, value, like in zip(NAMES, values, (trial.X, trial.gamma, trial.gamma)):
        try:
            if value is None:
                raise StudentError('NotWritten', f'{name} is None: it is not computed yet')
            value = front().array(value, dtype='float64') if isinstance(value, numpy.ndarray) else value
            value = to_numpy(name, value)
            if value.size != like.size or (name == 'dX' and value.shape != like.shape):
                text = f'{name} should have the shape {like.shape}, yours has {value.shape}'
                axes = next((axes for axes in other_axes(trial.X.ndim) if value.shape == _summed(trial.X, axes)), None)
                equals = '' if axes is None or name == 'dX' else f'a sum over the axes {axes}'
                raise StudentError('WrongShape', text, Place(name, 'training', '', equals) if equals else None)
            returned[name] = value.reshape(like.shape)
        except StudentError as error:
            returned[name] = error
    for name, array, value in zip(('dY', 'X', 'gamma'), arrays, before):
        if not numpy.array_equal(array.asnumpy(), value):
            raise StudentError('MutatesInput', f'the call changed {name}')
    return returned


def _summed(X: Array, axes: Sequence[int]) -> Tuple[int, ...]:
    """The shape of X.sum(axes, keepdims=True)."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(X.shape))


def _upstream(
    fn: Callable[..., Any], runner: TimeLimitedRunner, rank: int, tried: Sequence[Trial], returned: Sequence[Returned]
) -> Optional[Place]:
    """The first wrong quantity on the way to X_hat, if dgamma is wrong because of it."""
    if any(isinstance(value, StudentError) for one in returned for value in one.values()) or all(
        _same(one['dgamma'], RightGradients(trial)['dgamma']) for one, trial in zip(returned, tried)
    ):
        return None

    def whole(trial: Trial) -> Returned:
        found: Returned = runner.run(functools.partial(_call, fn, trial))
        for value in found.values():
            if isinstance(value, StudentError):
                raise value
        return found

    if all(_follows(trial, one) for trial, one in zip(tried, returned)):
        return None
    try:
        chain = BackwardChain(whole, trials(rank))
    except StudentError:  # reported elsewhere
        return None
    right = [RightGradients(trial) for trial in tried]
    if all(map(chain.consistent, chain.views)):
        return next(iter(chain.places), None)
    for slip in _explain(slips_before_dgamma(), 'dgamma', returned, right):
        i = next(i for i in range(len(tried)) if not _same(returned[i]['dgamma'], right[i]['dgamma']))
        shown = difference('', 'dgamma', right[i]['dgamma'], returned[i]['dgamma'])
        return Place(slip.quantity, 'training', shown.numbers, str(slip.part))
    return None


def _follows(trial: Trial, returned: Returned) -> bool:
    """Whether dX is right, or follows from the returned dgamma."""
    right = RightGradients(trial)
    own = (
        right.parts[0]
        + right.parts[1]
        - right['gamma'] / right['std'] * right['X_hat'] * returned['dgamma'] / right['m']
    )
    return _same(returned['dX'], right['dX']) or _same(returned['dX'], own)


def _judge(name: str, tried: Sequence[Trial], returned: Sequence[Returned], upstream: Optional[Place]) -> List[Finding]:
    """The mistakes in one of the NAMES, each with the first wrong quantity.

    Raises: StudentError if it cannot be judged.
    """
    errors = [one[name] for one in returned if isinstance(one[name], StudentError)]
    if errors:
        raise errors[-1] if errors[-1].finding.place else errors[0]  # the worked example has axes of the same length
    right = [RightGradients(trial) for trial in tried]
    wrong = [i for i in range(len(tried)) if not _same(returned[i][name], right[i][name])]
    if not wrong:
        return []
    description = tried[wrong[0]].describe('gamma', 'eps') + tried[wrong[0]].describe_dY()
    shown = difference(description, name, right[wrong[0]][name], returned[wrong[0]][name])

    def finding(mistake: str, more: str = '', quantity: str = '', equals: str = '') -> Finding:
        place = Place(quantity or QUANTITIES.get(mistake, ''), 'training', shown.numbers, equals)
        if upstream is not None and name != 'dbeta':
            place = upstream
            mistake = mistake if mistake in SPREADS else BEFORE.get(upstream.quantity, mistake)
        return Finding(mistake, f'{shown}{more}', place if place.quantity else None)

    other = OTHER.get(name)
    if other and all(
        _same(one[name], gradients[other]) and _same(one[other], gradients[name])
        for one, gradients in zip(returned, right)
    ):
        return [Finding('WrongReturn', 'dgamma and dbeta are returned in the wrong order')]
    for mistake, variant in SPREADS.items():
        if all(_same(one[name], RightGradients(trial, variant)[name]) for trial, one in zip(tried, returned)):
            return [finding(mistake)]
    if name != 'dX':
        slips = _explain(parameter_slips(name), name, returned, right)
        whole = [f', which is {name} = {slip.whole}{where(str(slip.whole))}' for slip in slips]
        return [finding(f'WrongGradient{name[1:].title()}', ''.join(whole), equals=_parts(slips))]
    if all(abs(one['dX']).max() < 1e-5 for one in returned):
        return [finding('WrongGradientX', quantity='scale of dX', equals='0')]
    names, numbers = diagnose_dX(tried, returned, right)
    for mistake, variant in SPREADS.items():  # does a wrong spread explain more of it?
        others, more = diagnose_dX(tried, returned, [RightGradients(trial, variant) for trial in tried])
        if len(others) + 1 < len(names) and 'WrongGradientX' not in others:
            names, numbers = [mistake, *others], more
    slips = _explain(dX_slips(), name, returned, right)
    slips = slips or ([] if len(names) == 1 else _explain(dX_slips_of_two(), name, returned, right))
    words = ''
    for slip in slips:
        words = f'dX = {slip.whole}{where(str(slip.whole))}'
        # a wrong term may look like several right ones with other factors
        of_term = len(names) == len(slip.names) == 1 and slip.names[0] in (*TERMS, 'WrongGradientFactorM')
        better = len(slip.names) < len(names) or names == ['WrongGradientX'] or of_term
        if better and names != list(slip.names):
            names, numbers = list(slip.names), ''
    found = f'{numbers}: it is {words}' if numbers and words else f', which is {words}' if words else numbers
    # one mistake may look like several: a wrong scale like a mistake in each term, a wrong variance term like both
    certain = names if slips else [name for name in (SCALE, VARIANCE, *names) if name in names][:1]
    places = ['' if mistake in certain else 'dX' for mistake in names]
    parts = [_parts(slips)] * len(names)
    if slips and len(slips[0].names) > 1:  # the formula is for all of dX, not for one of its terms
        places, parts = ['dX', *places[1:]], [*parts[:1], *([''] * len(names[1:]))]
    made = [finding(mistake, found, place, part) for mistake, place, part in zip(names, places, parts)]
    return list({one.name: one for one in made}.values())


def _parts(slips: Sequence[Slip]) -> str:
    return ''.join(str(slip.part) for slip in slips)


def _same(actual: Any, expected: Any) -> bool:
    return not isinstance(actual, StudentError) and same(actual, expected, rtol=GRADIENT_RTOL)


def _explain(
    slips: Sequence[Slip], name: str, returned: Sequence[Returned], right: Sequence[RightGradients]
) -> List[Slip]:
    """The only one of the slips that gives dX, dgamma or dbeta, as a list; [] if none or several do.

    dX may be built from dgamma and dbeta as they were returned.
    """
    samples = []
    for gradients, one in zip(right, returned):
        own = {other: one[other] for other in OTHER if name == 'dX' and not isinstance(one[other], StudentError)}
        samples.append((Memory({**gradients.values, **own}), one[name]))
    elsewhere = RightGradients(another(samples[0][0], free=True)).values
    found = fitting([slip.whole for slip in slips], samples, elsewhere)
    return [slip for slip in slips if slip.whole is found]
