"""Runs each framework in its own process, one turn at a time.

MXNet and PyTorch each keep a thread pool. Two pools in one process would spin against each other, so each framework
has its own new process, which blocks on a pipe, without spinning, while another measures.

Every column has a turn in each round, so that a slow minute affects all of them. Medians and quartiles are taken over
the rounds, ratios within each round.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..system.memory import keep_freed_memory

TURN_SECONDS = 0.04  # target length of a turn
SLOW_CALL_SECONDS, TURNS_WHEN_SLOW = 0.3, 3  # a column whose single call takes longer has fewer turns
MIN_ROUNDS = 5
PAUSE_SECONDS = 0.02  # libgomp's threads spin for some milliseconds after their last loop: let them go to sleep

Times = List[Optional[float]]  # one per round, None if the column had no turn


class Worker(ProcessPoolExecutor):
    """A process with the `Framework` of one module: `Worker(module).call('name', *args)` calls its methods.

    keep_memory: whether it keeps freed memory for the next array, see `keep_freed_memory`.
    """

    def __init__(self, module: str, keep_memory: bool = True) -> None:
        super().__init__(1, get_context('spawn'), keep_freed_memory if keep_memory else None)
        self.module = f'{__package__}.{module}'

    def call(self, name: str, *args: Any) -> Any:
        """Call a method in the process, and return or raise its result."""
        return self.submit(_call, self.module, name, args).result()


def call_each(workers: Mapping[str, Worker], columns: Sequence[str], name: str, *args: Any) -> None:
    """Call a method once in each process that serves one of the columns."""
    for worker in dict.fromkeys(workers[column] for column in columns):
        worker.call(name, *args)


def _call(module: str, name: str, args: Sequence[Any]) -> Any:
    return getattr(_framework(module), name)(*args)


@functools.lru_cache(maxsize=None)
def _framework(module: str) -> Any:
    return importlib.import_module(module).Framework()


# The results of a framework's methods.
@dataclass(frozen=True)
class Description:
    """The columns that a framework can measure; missing: those that it cannot, and why."""

    columns: List[str]
    versions: Dict[str, str]
    missing: Dict[str, str]


@dataclass(frozen=True)
class EpochTurn:
    """One epoch: seconds of training and of the test after it, and the metrics."""

    train: float
    test: float
    loss: float
    train_acc: float
    test_acc: float


@dataclass(frozen=True)
class Profiled:
    """Total seconds, and the seconds of each operator."""

    seconds: float
    operators: Dict[str, float]


@dataclass(frozen=True)
class Measurement:
    """Median and quartiles of a column's times; floors: the median as a multiple of the memory floor."""

    median: float
    q1: float
    q3: float
    rounds: Times
    floors: Optional[float] = None


def summary(times: Times) -> Measurement:
    """Return median and quartiles of the times."""
    values = sorted(present(times))
    quartiles = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else values * 3
    return Measurement(statistics.median(values), quartiles[0], quartiles[2], times)


def ratio(a: Measurement, b: Measurement) -> float:
    """Return the median of a / b over the rounds in which both had a turn."""
    return statistics.median(x / y for x, y in zip(a.rounds, b.rounds) if x is not None and y is not None)


def present(times: Times) -> List[float]:
    return [value for value in times if value is not None]


def interleave(columns: Mapping[Any, Callable[[int], float]], rounds: int, budget: float) -> Dict[Any, Times]:
    """Measure {name: call} in turns; call(repeat) makes that many runs and returns the seconds per run.

    After `budget` seconds no further round starts, but there are at least five.

    Returns: {name: [seconds, ...]}, one value per round.
    """
    start = time.perf_counter()
    repeats, turns = {}, {}
    for name, call in columns.items():
        call(1)  # warms up
        seconds = call(1)
        repeats[name] = min(200, max(1, round(TURN_SECONDS / seconds)))
        turns[name] = min(rounds, TURNS_WHEN_SLOW) if seconds > SLOW_CALL_SECONDS else rounds
    times: Dict[Any, Times] = {name: [] for name in columns}
    names = list(columns)
    for i in range(rounds):
        if i >= MIN_ROUNDS and time.perf_counter() - start > budget:
            break
        for name in names[i % len(names) :] + names[: i % len(names)]:  # rotates the order from round to round
            if i < turns[name]:
                time.sleep(PAUSE_SECONDS)
                times[name].append(columns[name](repeats[name]))
            else:
                times[name].append(None)
    return times
