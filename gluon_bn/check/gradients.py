"""A backward pass by hand: its dX, dgamma and dbeta, each judged by itself.

    dX = gamma / sqrt(var + eps) * (direct * dY - through_mean * dbeta / m - through_variance * X_hat * dgamma / m)

For a right dX the three factors are 1. They are solved for, channel by channel, by least squares.
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import Any, Callable, Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple
from unittest import mock

import numpy
from mxnet import autograd, nd

from .chain import BackwardChain
from .formulas import Formula, dX_formulas, parameter_formulas
from .properties import GRADIENT_RTOL
from .result import Array, Finding, Place, Row, StudentError, difference, same
from .student_code import TimeLimitedRunner, is_checked
from .trials import RANKS, Reporter, Trial, front, to_numpy, trials, unpack
from .variants import RIGHT, Variant, batch_statistics, dimensions, spread, where

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
NAMES = ('dX', 'dgamma', 'dbeta')  # in the order in which they are returned
PROPERTIES = {'dense': 2, 'convolution': 4}
# constants that may be wrong in 1 / sqrt(var + eps): what to change in the forward formula
SPREADS = {
    'NoEps': Variant(eps='none'),
    'EpsOutsideSqrt': Variant(eps='outside'),
    'UnbiasedBatchVar': Variant(divide='m-1'),
}
Returned = Dict[str, Any]  # what came back for one trial, by name: an array in float64, or the StudentError about it


def judge_gradient(fn: Callable[..., Any], runner: TimeLimitedRunner, keys: Collection[str]) -> List[Row]:
    """The rows of the result: for each rank dgamma, dbeta and dX."""
    rows, reporter = [], Reporter()
    for rank in (PROPERTIES[key] for key in keys):
        tried = [trials(rank)[1], trials(rank)[3]]
        try:
            with _autograd_refused():  # outside the time limit: code that cannot be stopped must not leave it behind
                returned = [runner.run(functools.partial(_call, fn, trial)) for trial in tried]
                upstream = _upstream(fn, runner, rank, tried, returned)
        except StudentError as error:
            returned, upstream = [dict.fromkeys(NAMES, error)], None
        rows += [
            reporter.row(f'{RANKS[rank]}: {name}', functools.partial(_placed, name, tried, returned, upstream))
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
            raise StudentError('WrongReturn', f'dX comes back in the place of {name}: it should come first')
    returned: Returned = {}
    for name, value, like in zip(NAMES, values, (trial.X, trial.gamma, trial.gamma)):
        try:
            if value is None:
                raise StudentError('NotWritten', f'{name} is None: it is not computed yet')
            value = front().array(value, dtype='float64') if isinstance(value, numpy.ndarray) else value
            value = to_numpy(name, value)
            if value.size != like.size or (name == 'dX' and value.shape != like.shape):
                raise StudentError('WrongShape', f'{name} should have the shape {like.shape}, yours has {value.shape}')
            returned[name] = value.reshape(like.shape)
        except StudentError as error:
            returned[name] = error
    for name, array, value in zip(('dY', 'X', 'gamma'), arrays, before):
        if not numpy.array_equal(array.asnumpy(), value):
            raise StudentError('MutatesInput', f'after the call {name} holds other numbers than before')
    return returned


@contextlib.contextmanager
def _autograd_refused() -> Iterator[None]:
    """Refuse autograd to the checked code, which should not copy from it; other threads may use it."""

    def refused(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_checked():
                raise StudentError('UsesAutograd', 'the gradient is asked from autograd')
            return method(*args, **kwargs)

        return call

    with contextlib.ExitStack() as patches:
        # mx.np's arrays inherit NDArray's method
        for owner, name in ((autograd, 'backward'), (autograd, 'grad'), (nd.NDArray, 'backward')):
            patches.enter_context(mock.patch.object(owner, name, refused(getattr(owner, name))))
        yield


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
    if not all(map(chain.consistent, chain.views)):
        return None
    return next(iter(chain.places()), None)


def _follows(trial: Trial, returned: Returned) -> bool:
    """Whether dX is right, or follows from the returned dgamma."""
    right = RightGradients(trial)
    own = (
        right.parts[0]
        + right.parts[1]
        - right['gamma'] / right['std'] * right['X_hat'] * returned['dgamma'] / right['m']
    )
    return _same(returned['dX'], right['dX']) or _same(returned['dX'], own)


def _placed(
    name: str, tried: Sequence[Trial], returned: Sequence[Returned], upstream: Optional[Place]
) -> List[Finding]:
    """The mistakes in one of the NAMES, each with the first wrong quantity."""
    findings = []
    told = _judge(name, tried, returned)
    for finding in told:
        place = upstream if name != 'dbeta' else None
        if place is None and finding.name in QUANTITIES:
            numbers = finding.text[max(finding.text.find(f'{name}['), 0) :]
            numbers, _, equals = numbers.partition(f'{name} = ')
            numbers = re.split('[;:]|, which', numbers)[0]
            certain = equals or len(told) == 1  # else a term may look like several others
            quantity = QUANTITIES[finding.name] if certain else name
            place = Place(quantity, 'training', numbers, equals.split(', where')[0])
        findings.append(finding._replace(place=place))
    return findings


def _judge(name: str, tried: Sequence[Trial], returned: Sequence[Returned]) -> List[Finding]:
    """The mistakes in one of the NAMES. Raises: StudentError if it cannot be judged."""
    for one in returned:
        if isinstance(one[name], StudentError):
            raise one[name]
    right = [RightGradients(trial) for trial in tried]
    wrong = [i for i in range(len(tried)) if not _same(returned[i][name], right[i][name])]
    if not wrong:
        return []
    trial = tried[wrong[0]]
    text = difference(
        trial.describe('gamma', 'eps') + trial.describe_dY(), name, right[wrong[0]][name], returned[wrong[0]][name]
    )
    other = {'dgamma': 'dbeta', 'dbeta': 'dgamma'}.get(name)
    if other and all(
        _same(one[name], gradients[other]) and _same(one[other], gradients[name])
        for one, gradients in zip(returned, right)
    ):
        return [Finding('WrongReturn', 'dgamma and dbeta come back in exchanged order')]
    for mistake, variant in SPREADS.items():
        if all(_same(one[name], RightGradients(trial, variant)[name]) for trial, one in zip(tried, returned)):
            return [Finding(mistake, text)]
    if name != 'dX':
        return [Finding(f'WrongGradient{name[1:].title()}', text + _explain_parameter(name, returned, right))]
    names, numbers = _diagnose_dX(tried, returned, right)
    for mistake, variant in SPREADS.items():  # does a wrong spread explain more of it?
        others, more = _diagnose_dX(tried, returned, [RightGradients(trial, variant) for trial in tried])
        if len(others) + 1 < len(names) and 'WrongGradientX' not in others:
            names, numbers = [mistake, *others], more
    slips, formula = _explain_dX(returned, right) if any(one['dX'].any() for one in returned) else (None, '')
    if slips is not None and (
        len(slips) < len(names)
        or names[0] == 'WrongGradientX'
        or (names == ['WrongGradientFactorM'] and len(slips) == 1)
    ):
        names, numbers = slips, ''  # a different term may look like several of the right ones
    found = f'{numbers}: it is {formula}' if numbers and formula else f', which is {formula}' if formula else numbers
    return [Finding(mistake, text + found) for mistake in names]


def _same(actual: Any, expected: Any) -> bool:
    return not isinstance(actual, StudentError) and same(actual, expected, rtol=GRADIENT_RTOL)


class RightGradients:
    """The right gradients of one trial, by name, and the three parts of dX."""

    def __init__(self, trial: Trial, variant: Variant = RIGHT['batch']) -> None:
        mean, var = batch_statistics(variant, trial)
        self.values: Dict[str, Any] = {**trial._asdict(), **dimensions(trial.X), 'mean': mean, 'var': var}
        axes, m, std = self['axes'], self['m'], spread(variant).compute(self.values)
        X_hat = (trial.X - mean) / std
        dgamma, dbeta = ((trial.dY * factor).sum(axes, keepdims=True) for factor in (X_hat, 1))
        scale = trial.gamma / std
        self.values['std'] = std
        self.parts = [scale * trial.dY, -scale * dbeta / m + 0 * trial.X, -scale * X_hat * dgamma / m]
        self.values.update(X_hat=X_hat, dgamma=dgamma, dbeta=dbeta, dX=sum(self.parts))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def factors(self, dX: Array) -> Optional[Array]:
        """(channels, 3): the factors of the three parts in a dX; None if it is no sum of them."""
        rows = []
        for channel in range(dX.shape[1]):
            basis = numpy.stack([part[:, channel].ravel() for part in self.parts], axis=1)
            expected = dX[:, channel].ravel()
            rows.append(numpy.linalg.lstsq(basis, expected, rcond=None)[0])
            if not same(basis @ rows[-1], expected, rtol=GRADIENT_RTOL, atol=1e-4):
                return None
        result: Array = numpy.stack(rows)
        return result


def _explain_dX(returned: Sequence[Returned], right: Sequence[RightGradients]) -> Tuple[Optional[List[str]], str]:
    """The names of what is wrong with dX, and the formula that gives it; (None, '') if none is known.

    It may be built from dgamma and dbeta as they were returned.
    """
    values = [
        {
            **gradients.values,
            **{name: one[name] for name in ('dgamma', 'dbeta') if not isinstance(one[name], StudentError)},
        }
        for gradients, one in zip(right, returned)
    ]
    for names, formula in dX_formulas():
        if _gives(formula, values, [one['dX'] for one in returned]):
            return names, f'dX = {formula}{where(str(formula))}'
    return None, ''


def _explain_parameter(name: str, returned: Sequence[Returned], right: Sequence[RightGradients]) -> str:
    """The formula that gives dgamma or dbeta; '' if none is known."""
    values = [gradients.values for gradients in right]
    found = (
        formula for formula in parameter_formulas(name) if _gives(formula, values, [one[name] for one in returned])
    )
    return next((f', which is {name} = {formula}{where(str(formula))}' for formula in found), '')


def _gives(formula: Formula, values: Sequence[Mapping[str, Any]], actual: Sequence[Any]) -> bool:
    with numpy.errstate(all='ignore'):
        for named, array in zip(values, actual):
            expected = numpy.asarray(formula.compute(named))
            if abs(expected.flat[0] - array.flat[0]) > 0.01 * (1 + abs(array.flat[0])):  # most formulas end here
                return False
            if not same(array, expected + 0 * array, rtol=GRADIENT_RTOL, atol=1e-4):
                return False
    return True


def _diagnose_dX(
    tried: Sequence[Trial], returned: Sequence[Returned], right: Sequence[RightGradients]
) -> Tuple[List[str], str]:
    """The names of what is wrong with dX, and the factors that show it."""
    factors = [gradients.factors(one['dX']) for gradients, one in zip(right, returned)]
    if any(f is None for f in factors):
        return ['WrongGradientX'], ''
    direct, mean, var = numpy.concatenate(factors).T
    # whoever builds dX from a wrong dbeta or dgamma has made that one mistake
    from_dbeta, from_dgamma = (
        numpy.concatenate(
            [
                (
                    numpy.nan * gradients[name] if isinstance(one[name], StudentError) else one[name] / gradients[name]
                ).ravel()
                for one, gradients in zip(returned, right)
            ]
        )
        for name in ('dbeta', 'dgamma')
    )
    numbers = (
        f'; your dX holds the direct way {_times(direct)}, that through the mean {_times(mean)}, '
        f'that through the variance {_times(var)}'
    )
    if _all(direct, 0):
        return ['WrongGradientX'], numbers
    found = [] if _all(direct, 1) else ['WrongGradientScale']
    for name, factor, own in (
        ('WrongGradientThroughMean', mean / direct, from_dbeta),
        ('WrongGradientThroughVariance', var / direct, from_dgamma),
    ):
        if not _all(factor, 1) and not _all(factor, own):
            miscounted = any(_all(factor, wrong) for wrong in _miscounts(tried))
            found.append('WrongGradientFactorM' if miscounted else name)
    found = list(dict.fromkeys(found))
    # dX is wrong, but no factor is its own fault: it was built from a wrong dgamma or dbeta
    return found or ['WrongGradientGamma' if not _all(var, 1) else 'WrongGradientBeta'], numbers


def _miscounts(tried: Sequence[Trial]) -> Iterator[Any]:
    """By what a part is off where m is taken for 1, m - 1, the examples, the locations, or the whole size."""
    shapes = [trial.X.shape for trial in tried]
    counts = [
        [1, m - 1, shape[0], m // shape[0], m * shape[1]] for shape in shapes for m in [numpy.prod(shape) // shape[1]]
    ]
    for wrong in zip(*counts):
        factors = [numpy.full(shape[1], numpy.prod(shape) / shape[1] / count) for shape, count in zip(shapes, wrong)]
        if not _all(numpy.concatenate(factors), 1):
            yield numpy.concatenate(factors)


def _all(values: Array, expected: Any) -> bool:
    return bool(numpy.allclose(values, expected, rtol=5e-3, atol=5e-3))


def _times(values: Array) -> str:
    low, high = round(float(values.min()), 2) + 0.0, round(float(values.max()), 2) + 0.0
    return f'{low:g} times' if abs(high - low) < 0.011 else f'{low:g} to {high:g} times'
