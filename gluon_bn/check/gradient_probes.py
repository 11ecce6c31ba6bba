"""A backward pass by hand: its dX, dgamma and dbeta, each judged by itself."""
from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Collection, Iterator, List, Sequence, Set, Tuple
from unittest import mock

import numpy
from mxnet import autograd, nd

from .gradient_parts import Parts, Seen, diagnose, explain_dX, explain_parameter
from .guard import Guard, is_checked
from .observe import front, to_numpy, unpack
from .properties import GRADIENT_RTOL
from .raised import Trouble
from .result import Finding, Row, difference
from .trials import RANKS, Trial, trials, upstream
from .variants import Variant, same

NAMES = ('dX', 'dgamma', 'dbeta')  # in the order in which they are returned
PROPERTIES = {'dense': 2, 'convolution': 4}
# constants that may be wrong in 1 / sqrt(var + eps): what to change in the forward formula
SPREADS = {'NoEps': Variant(eps='none'), 'EpsOutsideSqrt': Variant(eps='outside'),
           'UnbiasedBatchVar': Variant(divide='m-1')}


def judge_gradient(fn: Callable[..., Any], guard: Guard, keys: Collection[str]) -> List[Row]:
    """The rows of the result: for each rank dgamma, dbeta and dX."""
    rows: List[Row] = []
    told: Set[Tuple[str, str]] = set()

    def troubled(word: str, trouble: Trouble) -> Row:
        new = (trouble.name, trouble.text) not in told and not (told and trouble.name == 'TooSlow')
        told.add((trouble.name, trouble.text))
        return Row(word, (Finding(trouble.name, trouble.text),) if new else (), f'not tried, because of {trouble.name}')

    for rank in (PROPERTIES[key] for key in keys):
        tried = [trials(rank)[1], trials(rank)[3]]
        try:
            with _by_hand():  # outside the time limit: code that cannot be stopped must not leave it behind
                seen = [guard.run(functools.partial(observe, fn, trial)) for trial in tried]
        except Trouble as trouble:
            seen = [dict.fromkeys(NAMES, trouble)]
        for name in ('dgamma', 'dbeta', 'dX'):
            bad = next((one[name] for one in seen if isinstance(one[name], Trouble)), None)
            word = f'{RANKS[rank]}: {name}'
            rows.append(Row(word, tuple(_judge(name, tried, seen))) if bad is None else troubled(word, bad))
    return rows


def observe(fn: Callable[..., Any], trial: Trial) -> Seen:
    """Call fn on one trial: {name: its array in float64, or the Trouble with it}."""
    arrays = [front().array(value, dtype='float32') for value in (trial.dY, trial.X, trial.gamma)]
    before = [array.asnumpy() for array in arrays]
    shapes, seen = dict(zip(NAMES, (trial.X.shape, trial.gamma.shape, trial.gamma.shape))), {}
    returned = unpack(fn, (*arrays, trial.eps), NAMES)
    if getattr(returned[0], 'shape', None) != trial.X.shape:
        for name, value in list(zip(NAMES, returned))[1:]:
            if getattr(value, 'shape', None) == trial.X.shape and getattr(returned[0], 'size', 0) == trial.gamma.size:
                raise Trouble('WrongReturn', f'dX comes back in the place of {name}: it should come first')
    for name, value in zip(NAMES, returned):
        try:
            if value is None:
                raise Trouble('NotWritten', f'{name} is None: it is not computed yet')
            value = front().array(value, dtype='float64') if isinstance(value, numpy.ndarray) else value
            value = to_numpy(name, value)
            if value.size != numpy.prod(shapes[name]) or (name == 'dX' and value.shape != shapes[name]):
                raise Trouble('WrongShape', f'{name} should have the shape {shapes[name]}, yours has {value.shape}')
            seen[name] = value.reshape(shapes[name])
        except Trouble as trouble:
            seen[name] = trouble
    for name, array, value in zip(('dY', 'X', 'gamma'), arrays, before):
        if not numpy.array_equal(array.asnumpy(), value):
            raise Trouble('MutatesInput', f'after the call {name} holds other numbers than before')
    return seen


@contextlib.contextmanager
def _by_hand() -> Iterator[None]:
    """Autograd, from which one could copy, is out of the checked code's reach; other threads may use it."""
    def refused(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_checked():
                raise Trouble('UsesAutograd', 'the gradient is asked from autograd')
            return method(*args, **kwargs)
        return call

    with contextlib.ExitStack() as patches:
        # mx.np's arrays inherit NDArray's method
        for owner, name in ((autograd, 'backward'), (autograd, 'grad'), (nd.NDArray, 'backward')):
            patches.enter_context(mock.patch.object(owner, name, refused(getattr(owner, name))))
        yield


def _judge(name: str, tried: Sequence[Trial], seen: Sequence[Seen]) -> List[Finding]:
    right = [Parts(trial) for trial in tried]
    wrong = [i for i in range(len(tried)) if not _same(seen[i][name], getattr(right[i], name))]
    if not wrong:
        return []
    trial = tried[wrong[0]]
    text = difference(trial.told('gamma', 'eps') + upstream(trial), name, getattr(right[wrong[0]], name),
                      seen[wrong[0]][name])
    other = {'dgamma': 'dbeta', 'dbeta': 'dgamma'}.get(name)
    if other and all(_same(one[name], getattr(part, other)) and _same(one[other], getattr(part, name))
                     for one, part in zip(seen, right)):
        return [Finding('WrongReturn', 'dgamma and dbeta come back in exchanged order')]
    for mistake, variant in SPREADS.items():
        if all(_same(one[name], getattr(Parts(trial, variant), name)) for trial, one in zip(tried, seen)):
            return [Finding(mistake, text)]
    if name != 'dX':
        return [Finding(f'WrongGradient{name[1:].title()}', text + explain_parameter(name, seen, right))]
    names, numbers = diagnose(tried, seen, right)
    for mistake, variant in SPREADS.items():  # does a wrong spread explain more of it?
        others, more = diagnose(tried, seen, [Parts(trial, variant) for trial in tried])
        if len(others) + 1 < len(names) and 'WrongGradientX' not in others:
            names, numbers = [mistake, *others], more
    slips, words = explain_dX(seen, right)
    if slips is not None and (len(slips) < len(names) or names[0] in ('WrongGradientX', 'WrongGradientFactorM')):
        names, numbers = slips, ''  # a term that is another one may look like several of the right ones
    told = f'{numbers}: it is {words}' if numbers and words else f', which is {words}' if words else numbers
    return [Finding(mistake, text + told) for mistake in names]


def _same(actual: Any, expected: Any) -> bool:
    return not isinstance(actual, Trouble) and same(actual, expected, rtol=GRADIENT_RTOL)
