"""The results of a comparison, and their file, summary.json."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..training import Epoch
from .configuration import Configuration


@dataclasses.dataclass
class Run:
    """One training. finished: whether its net is written; failed: why it failed, or None."""

    norm: str
    seed: int
    history: List[Epoch]
    finished: bool = False
    failed: Optional[str] = None
    diverged: bool = False
    test_acc_estimated: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and range of several values."""

    median: float
    min: float
    max: float


@dataclasses.dataclass(frozen=True)
class Result:
    """The results of one norm's runs. seeds: how many finished; failed: how many failed."""

    norm: str
    seeds: int
    failed: int
    epochs: Optional[int]
    loss: Optional[Spread]
    train_acc: Optional[Spread]
    test_acc: Optional[Spread]
    test_acc_estimated: Optional[Spread]
    seconds: Optional[Spread]


@dataclasses.dataclass(frozen=True)
class SideBySide:
    """The chapter's maths and the fused one on the same minibatches: means for 'scratch' and 'fused'."""

    minibatches: int
    loss: Dict[str, float]
    seconds_a_minibatch: Dict[str, float]


@dataclasses.dataclass
class Summary:
    """What summary.json holds. jobs: how many runs trained at a time; None if the training was ever resumed."""

    configuration: Configuration
    beside: Optional[SideBySide]
    interrupted: bool
    versions: Dict[str, str]
    machine: Dict[str, Any]
    jobs: Optional[int]
    runs: List[Run]

    @property
    def results(self) -> List[Result]:
        return summarize(self.runs)

    def content(self) -> Dict[str, Any]:
        """The content of summary.json."""
        content = dataclasses.asdict(self)
        runs = content.pop('runs')
        for run in runs:
            if run['test_acc_estimated'] is None:
                del run['test_acc_estimated']
        return {**content, 'results': [dataclasses.asdict(result) for result in self.results], 'runs': runs}

    @classmethod
    def of(cls, content: Dict[str, Any]) -> Summary:
        """Read the content of a summary.json. Raises: ValueError, TypeError or KeyError if it is damaged."""
        values = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        values['configuration'] = Configuration(**values['configuration'])
        values['beside'] = SideBySide(**values['beside']) if values['beside'] else None
        values['runs'] = [
            Run(**{**run, 'history': [Epoch(**epoch) for epoch in run['history']]}) for run in values['runs']
        ]
        return cls(**values)


def summarize(runs: Sequence[Run]) -> List[Result]:
    """Summarize the last epoch of each norm's finished runs: median, lowest and highest over the seeds.

    Seconds per epoch are the median over all epochs, so that the warm-up in the first one does not matter.
    Failed runs are counted; a norm with neither finished nor failed runs has no result.
    """
    results = []
    for norm in dict.fromkeys(run.norm for run in runs):
        finished = [run for run in runs if run.norm == norm and run.finished]
        failed = sum(run.norm == norm and run.failed is not None for run in runs)
        if not finished and not failed:
            continue
        last = [run.history[-1] for run in finished]
        loss, train_acc, test_acc = (
            spread([getattr(epoch, key) for epoch in last]) for key in ('loss', 'train_acc', 'test_acc')
        )
        estimated = spread([run.test_acc_estimated for run in finished if run.test_acc_estimated is not None])
        seconds = spread([epoch.seconds for run in finished for epoch in run.history])
        epochs = len(finished[0].history) if finished else None
        results.append(Result(norm, len(finished), failed, epochs, loss, train_acc, test_acc, estimated, seconds))
    return results


def time_left(runs: Sequence[Run], num_epochs: int, measured: Sequence[Tuple[str, float]], elapsed: float) -> float:
    """Estimate the seconds until all runs have finished, from the epochs measured in the last `elapsed` seconds.

    measured: (norm, seconds of training) per epoch. A norm without an epoch so far counts with the mean of all.
    """
    seconds = [value for _, value in measured]
    per_epoch = {norm: statistics.mean(value for name, value in measured if name == norm) for norm, _ in measured}
    left = sum(
        (num_epochs - len(run.history)) * per_epoch.get(run.norm, statistics.mean(seconds))
        for run in runs
        if not run.finished and run.failed is None
    )
    return elapsed * left / sum(seconds)


def spread(values: Sequence[float]) -> Optional[Spread]:
    """Return median, lowest and highest; None if there are no values."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None
