"""The result of the benchmark, which its JSON file holds, and the goals: each important ratio, with its limit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .rounds import Measurement, ratio

Shape = Tuple[int, ...]
LARGE: Sequence[Shape] = ((256, 6, 24, 24), (64, 64, 56, 56), (32, 256, 14, 14))
SMALL: Sequence[Shape] = ((256, 16, 8, 8),)
DENSE: Sequence[Shape] = ((256, 120), (256, 84))
# (largest share of Gluon's time, largest share of PyTorch's) for the native path, forward + backward
LAYER_LIMITS: Dict[Shape, Tuple[float, float]] = {
    **dict.fromkeys(LARGE, (0.3, 0.7)),
    **dict.fromkeys(SMALL, (0.45, 1.0)),
    **dict.fromkeys(DENSE, (0.7, 1.5)),
}
RatioGoal = Tuple[str, str, str, str, float]  # text, the two columns whose times are divided, comparison, limit
EPOCH_GOALS: Sequence[RatioGoal] = (
    ('native / Gluon', 'native', 'gluon', '<=', 0.85),
    ('native / PyTorch', 'native', 'torch', '<=', 1.3),
    ('native / no normalization', 'native', 'none', '<=', 1.08),
    ('native, with sigmoid / Gluon', 'sigmoid', 'gluon', '<=', 0.85),
    ('native, with sigmoid / no normalization', 'sigmoid', 'none', '<=', 1.08),
    ("batch_norm in d2l's loop / native in ours", 'd2l scratch', 'native', '>=', 15),
    ("Gluon in d2l's loop / Gluon in ours", 'd2l gluon', 'gluon', '>=', 1.5),
)
COMPANY: RatioGoal = ('beside a busy core / alone', 'beside', 'quiet', '<=', 2.2)


@dataclass(frozen=True)
class LayerResult:
    """The times of one layer by column, with the memory 'floor'; forward is None in measurements by size.

    threads: the same number for every framework.
    """

    shape: Shape
    megabytes: Optional[float]
    forward: Optional[Dict[str, Measurement]]
    both: Dict[str, Measurement]
    threads: Optional[int] = None


@dataclass(frozen=True)
class AccuracyResult:
    """The relative errors of each result against float64, by column, for one mean of X."""

    shape: Shape
    mean: float
    errors: Dict[str, Dict[str, float]]


@dataclass(frozen=True)
class EpochResult:
    """share: the part of an epoch that each turn trains; times are scaled up, metrics are those of the last turn."""

    share: float
    train: Measurement
    test: Measurement
    loss: float
    train_acc: float
    test_acc: float


@dataclass(frozen=True)
class ProfileResult:
    """Where the time goes in a minibatch of LeNet and in a dense layer: {column: {kind: seconds}}."""

    minibatch: Dict[str, Dict[str, float]]
    layer: Dict[str, Dict[str, float]]
    shape: Shape


NORMS = ('sync', 'fused')  # of the steps by several workers
CALLS, TURNS = 10, 3  # of what several workers are timed at


@dataclass(frozen=True)
class WorkersTimes:
    """The seconds of a step by several workers, and of its parts.

    nominal: the round-trip time that was set, 0 on loopback; round_trip: the measured one. exchanges: (seconds, bytes
    sent and received by one worker) for each of `WorkersResult.sizes`. sync, fused: a step with shared statistics, or
    with those of each share. With several workers on loopback: gradients: the exchange of gradients; compute: {norm:
    computing a step, all workers at once}; between: {norm: all exchanges of a step, between spins as long as the
    computing}.
    """

    workers: int
    nominal: float
    round_trip: float
    exchanges: List[Tuple[float, float]]
    sync: float
    fused: float
    compute: Dict[str, float] = field(default_factory=dict)
    between: Dict[str, float] = field(default_factory=dict)
    gradients: Optional[float] = None


@dataclass(frozen=True)
class WorkersResult:
    """Steps of LeNet by several workers. examples: in a minibatch; share: in one worker's share, computed alone.

    channels: of the layers with a norm. sizes: the values in each measured exchange. compute: {norm: seconds} for that
    share. threads: the seconds of a step by two threads of one process, with shared statistics.
    """

    examples: int
    share: int
    channels: Sequence[int]
    sizes: Sequence[int]
    compute: Dict[str, float]
    threads: float
    times: List[WorkersTimes]


@dataclass(frozen=True)
class Goal:
    goal: str
    value: float
    sense: str
    limit: float
    met: bool
    bound: str = ''  # what limits it, if it is not met


@dataclass
class Result:
    """The whole result; a part is None if it was not measured.

    missing: {column: why it is missing}; failed: {part: why it could not be measured}.
    load: the load average before the start. loaded: the rounds during which other programs used more than a tenth of a
    core; discarded: more such rounds, which were repeated. epochs: with the highest number of threads. company: part
    of an epoch, alone and beside a program that keeps one core busy.
    """

    date: str
    command: str
    machine: Dict[str, Any]
    versions: Dict[str, str]
    load: float
    method: List[str]
    threads: List[int] = field(default_factory=list)
    columns: List[str] = field(default_factory=list)
    missing: Dict[str, str] = field(default_factory=dict)
    failed: Dict[str, str] = field(default_factory=dict)
    layers: Optional[List[LayerResult]] = None
    sizes: Optional[List[LayerResult]] = None
    accuracy: Optional[List[AccuracyResult]] = None
    epochs_one_thread: Optional[Dict[str, EpochResult]] = None
    epochs: Optional[Dict[str, EpochResult]] = None
    company: Optional[Dict[str, Measurement]] = None
    profile: Optional[ProfileResult] = None
    workers: Optional[WorkersResult] = None
    goals: List[Goal] = field(default_factory=list)
    discarded: int = 0
    loaded: int = 0
    rounds: int = 0
    seconds: float = 0

    def by_threads(self, title: str) -> Iterator[Tuple[str, Dict[str, EpochResult]]]:
        """Yield (title with the number of threads, epochs by column)."""
        for choose, epochs in ((min, self.epochs_one_thread), (max, self.epochs)):
            if epochs:
                yield with_threads(title, choose(self.threads, default=None)), epochs


def content(value: Any) -> Any:
    """Convert a result for JSON: a dataclass becomes an object without its None fields, a float gets four digits."""
    if isinstance(value, float):
        return float(f'{value:.4g}')
    if dataclasses.is_dataclass(value):
        return {name: content(each) for name, each in vars(value).items() if each is not None}
    if isinstance(value, dict):
        return {name: content(each) for name, each in value.items()}
    return [content(each) for each in value] if isinstance(value, (list, tuple)) else value


def check(result: Result) -> List[Goal]:
    """Return every goal for which the result has figures."""
    goals = []
    for text, value, sense, limit in _figures(result):
        met = bool(value <= limit if sense == '<=' else value >= limit)
        goals.append(Goal(text, value, sense, limit, met, '' if met else bound(text, result)))
    return goals


def bound(goal: str, result: Result) -> str:
    """Say what limits the ratio of a layer or an epoch, from the profile or the memory floor; '' if unknown."""
    dense = any(str(shape) in goal for shape in DENSE)
    if result.profile and (dense or goal.startswith('epoch')):
        net = 'sigmoid' if 'with sigmoid' in goal else 'native'
        times = result.profile.layer.get('native', {}) if dense else result.profile.minibatch.get(net, {})
        shares = sorted(((seconds / sum(times.values()), kind) for kind, seconds in times.items()), reverse=True)
        parts = ', '.join(f'{share:.0%} {kind}' for share, kind in shares[:3])
        return f"{'a dense layer' if dense else 'a minibatch'} of the native path: {parts}" if parts else ''
    for layer in result.layers or ():
        if goal.startswith(f'{_name(layer)}:') and 'native' in layer.both:
            return f'the native path takes {layer.both["native"].floors or 0:.2g} times the memory floor'
    return ''


def with_threads(title: str, threads: Optional[int]) -> str:
    return title if threads is None else f'{title}, {threads} thread{"s" * (threads > 1)}'


def _name(layer: LayerResult) -> str:
    return with_threads(f'layer {layer.shape}', layer.threads)


def _figures(result: Result) -> Iterator[Tuple[str, float, str, float]]:
    """Yield (goal, value, sense, limit)."""
    for layer in result.layers or ():
        shape, both, goals = layer.shape, layer.both, []
        if shape in LAYER_LIMITS:
            gluon, torch = LAYER_LIMITS[shape]
            goals += [('native / Gluon', 'native', 'gluon', '<=', gluon)]
            goals += [('native / PyTorch', 'native', 'torch', '<=', torch)]
        if shape == LARGE[0]:
            goals += [('batch_norm / native', 'scratch', 'native', '>=', 150)]
            goals += [('batch_norm / portable', 'scratch', 'portable', '>=', 10)]
        yield from _ratios(_name(layer), both, goals)
        if shape == LARGE[1] and 'native' in both:
            yield f'{_name(layer)}: native / memory floor', both['native'].floors or 0, '<=', 2

    for title, epochs in result.by_threads('epoch'):
        yield from _ratios(title, {name: entry.train for name, entry in epochs.items()}, EPOCH_GOALS)
    yield from _ratios(with_threads('epoch', max(result.threads, default=None)), result.company or {}, [COMPANY])

    errors = [(entry.mean, entry.errors) for entry in result.accuracy or () if 'native' in entry.errors]
    if errors and 'torch' in errors[0][1]:
        for what, names in (('Y', ('Y',)), ('the gradients', ('dX', 'dgamma', 'dbeta'))):
            worst = max(of['native'][name] / of['torch'][name] for _, of in errors for name in names)
            yield f'error of {what}: native / PyTorch, worst case', worst, '<=', 2
    if errors:
        least = min(of['gluon']['Y'] / of['native']['Y'] for mean, of in errors if mean == 1e4)
        yield 'error of Y at mean 10,000: Gluon / native, least case', least, '>=', 1000

    for threads in dict.fromkeys(entry.threads for entry in result.sizes or ()):
        large = [entry for entry in result.sizes or () if (entry.megabytes or 0) >= 1 and entry.threads == threads]
        times = [entry.both['native'].median / (entry.megabytes or 1) for entry in large if 'native' in entry.both]
        if len(times) > 1:
            title = with_threads('time per element, 1 to 200 MB', threads)
            yield f'{title}: highest / lowest, native', max(times) / min(times), '<=', 1.5


def _ratios(
    what: str, times: Mapping[str, Measurement], goals: Sequence[RatioGoal]
) -> Iterator[Tuple[str, float, str, float]]:
    for text, a, b, sense, limit in goals:
        if a in times and b in times:
            yield f'{what}: {text}', ratio(times[a], times[b]), sense, limit
