"""The result of the benchmark, which its JSON file holds, and the goals: each important ratio, with its limit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .rounds import Measurement, ratio

Shape = Tuple[int, ...]
LARGE: Sequence[Shape] = ((256, 6, 24, 24), (64, 64, 56, 56))
SMALL: Sequence[Shape] = ((256, 16, 8, 8), (32, 256, 14, 14))
DENSE: Sequence[Shape] = ((256, 120), (256, 84))
# (largest share of Gluon's time, largest share of PyTorch's) for the native path, forward + backward
LAYER_LIMITS: Dict[Shape, Tuple[float, float]] = {
    **dict.fromkeys(LARGE, (0.3, 0.5)),
    **dict.fromkeys(SMALL, (0.5, 1.0)),
    **dict.fromkeys(DENSE, (0.7, 2.0)),
}
RatioGoal = Tuple[str, str, str, str, float]  # text, the two columns whose times are divided, comparison, limit
EPOCH_GOALS: Sequence[RatioGoal] = (
    ('native / Gluon', 'native', 'gluon', '<=', 0.9),
    ('native / PyTorch', 'native', 'torch', '<=', 1.1),
    ('native / no normalization', 'native', 'none', '<=', 1.15),
    ("batch_norm in d2l's loop / native in ours", 'd2l scratch', 'native', '>=', 15),
    ("Gluon in d2l's loop / Gluon in ours", 'd2l gluon', 'gluon', '>=', 1.5),
)


@dataclass(frozen=True)
class LayerResult:
    """The times of one layer by column, with the memory 'floor'; forward is None in measurements by size."""

    shape: Shape
    megabytes: Optional[float]
    forward: Optional[Dict[str, Measurement]]
    both: Dict[str, Measurement]


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


@dataclass(frozen=True)
class Goal:
    goal: str
    value: float
    sense: str
    limit: float
    met: bool


@dataclass
class Result:
    """The whole result; a part is None if it was not measured."""

    date: str
    command: str
    machine: Dict[str, Any]
    versions: Dict[str, str]
    load: float
    method: List[str]
    columns: List[str] = field(default_factory=list)
    missing: Dict[str, str] = field(default_factory=dict)
    layers: Optional[List[LayerResult]] = None
    sizes: Optional[List[LayerResult]] = None
    accuracy: Optional[List[AccuracyResult]] = None
    epochs: Optional[Dict[str, EpochResult]] = None
    profile: Optional[ProfileResult] = None
    goals: List[Goal] = field(default_factory=list)
    seconds: float = 0


def content(value: Any) -> Any:
    """Convert a result for JSON: dataclasses become objects without the fields that are None."""
    if dataclasses.is_dataclass(value):
        return {name: content(each) for name, each in vars(value).items() if each is not None}
    if isinstance(value, dict):
        return {name: content(each) for name, each in value.items()}
    return [content(each) for each in value] if isinstance(value, (list, tuple)) else value


def check(result: Result) -> List[Goal]:
    """Return every goal for which the result has figures."""
    return [
        Goal(text, value, sense, limit, bool(value <= limit if sense == '<=' else value >= limit))
        for text, value, sense, limit in _figures(result)
    ]


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
        yield from _ratios(f'layer {shape}', both, goals)
        if shape == LARGE[1] and 'native' in both:
            yield f'layer {shape}: native / memory floor', both['native'].floors or 0, '<=', 3

    yield from _ratios('epoch', {name: entry.train for name, entry in (result.epochs or {}).items()}, EPOCH_GOALS)

    errors = [(entry.mean, entry.errors) for entry in result.accuracy or () if 'native' in entry.errors]
    if errors and 'torch' in errors[0][1]:
        for what, names in (('Y', ('Y',)), ('the gradients', ('dX', 'dgamma', 'dbeta'))):
            worst = max(of['native'][name] / of['torch'][name] for _, of in errors for name in names)
            yield f'error of {what}: native / PyTorch, worst case', worst, '<=', 2
    if errors:
        least = min(of['gluon']['Y'] / of['native']['Y'] for mean, of in errors if mean == 1e4)
        yield 'error of Y at mean 10,000: Gluon / native, least case', least, '>=', 1000

    large = [(entry.megabytes, entry.both) for entry in result.sizes or () if (entry.megabytes or 0) >= 1]
    by_size = [both['native'].median / megabytes for megabytes, both in large if megabytes and 'native' in both]
    if len(by_size) > 1:
        yield 'time per element, 1 to 200 MB: highest / lowest, native', max(by_size) / min(by_size), '<=', 1.5


def _ratios(
    what: str, times: Mapping[str, Measurement], goals: Sequence[RatioGoal]
) -> Iterator[Tuple[str, float, str, float]]:
    for text, a, b, sense, limit in goals:
        if a in times and b in times:
            yield f'{what}: {text}', ratio(times[a], times[b]), sense, limit
