"""Runs each framework in its own process, one turn at a time.

MXNet and PyTorch each keep a thread pool. Two pools in one process would spin against each other, so each framework
has its own new process, which blocks on a pipe, without spinning, while another measures.

Every column has a turn in each round, so that a slow minute affects all of them. Medians and quartiles are taken over
the rounds, ratios within each round.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..system.memory import keep_freed_memory

TURN_SECONDS = 0.04  # target length of a turn
SLOW_CALL_SECONDS, TURNS_WHEN_SLOW = 0.3, 3  # a column whose single call takes longer has fewer turns
MIN_ROUNDS = 5
MOST_LOAD = 0.1  # of a core, by other programs
PAUSE_SECONDS = 0.02  # libgomp's threads spin for some milliseconds after their last loop: let them go to sleep

Times = List[Optional[float]]  # one per round, None if the column had no turn


class Worker(ProcessPoolExecutor):
    """A process with the `Framework` of one module: `Worker(module).call('name', *args)` calls its methods.

    environment: variables to set before the framework loads. keep_memory: see `keep_freed_memory`.
    """

    def __init__(self, module: str, environment: Mapping[str, str] = {}, keep_memory: bool = True) -> None:
        super().__init__(1, get_context('spawn'), _prepare, (dict(environment), keep_memory))
        self.module = f'{__package__}.{module}'

    def call(self, name: str, *args: Any) -> Any:
        """Call a method in the process, and return or raise its result."""
        return self.submit(_call, self.module, name, args).result()


def _prepare(environment: Dict[str, str], keep_memory: bool) -> None:
    os.environ.update(environment)
    if keep_memory:
        keep_freed_memory()


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


class LoadMonitor:
    """Measures the processor time of all programs other than this one and its child processes.

    The kernel counts in hundredths of a second, so a round is long enough to judge, but a turn is not.
    """

    def __init__(self) -> None:
        self.loads: List[float] = []  # of the rounds that were kept
        self.discarded = 0
        self._start()

    def _start(self) -> None:
        self.start, self.before = time.perf_counter(), self._others()

    def load(self) -> float:
        """Return how many cores the other programs used since the last call."""
        load = (self._others() - self.before) / (time.perf_counter() - self.start)
        self._start()
        return max(0.0, load)

    @staticmethod
    def _others() -> float:
        """Return the processor seconds of other programs and of the hypervisor; 0 without /proc/stat."""
        try:
            with open('/proc/stat') as file:
                user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
        except FileNotFoundError:
            return 0.0
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf('SC_CLK_TCK')
        children = [child.pid for child in active_children() if child.pid]
        # the number of Linux's clock for a process's processor time
        return busy - time.process_time() - sum(time.clock_gettime((~pid << 3) | 2) for pid in children)


def interleave(
    columns: Mapping[Any, Callable[[int], float]], rounds: int, budget: float, watch: Optional[LoadMonitor] = None
) -> Dict[Any, Times]:
    """Measure {name: call} in turns; call(repeat) makes that many runs and returns the seconds per run.

    If other programs used more than a tenth of a core during a round, the round is repeated. After `budget` seconds, no
    round starts, except the first five; if too few rounds were quiet, the quietest count.

    Returns: {name: [seconds, ...]}, one value per round.
    """
    start = time.perf_counter()
    repeats, turns = {}, {}
    for name, call in columns.items():
        call(1)  # warms up
        seconds = call(1)
        repeats[name] = min(200, max(1, round(TURN_SECONDS / seconds)))
        turns[name] = min(rounds, TURNS_WHEN_SLOW) if seconds > SLOW_CALL_SECONDS else rounds
    names = list(columns)
    measured: List[Tuple[float, Dict[Any, float]]] = []  # the load during each round, and its times
    if watch:
        watch.load()
    for i in itertools.count():
        quiet = [times for load, times in measured if load <= MOST_LOAD]
        if len(quiet) >= rounds or i >= min(rounds, MIN_ROUNDS) and time.perf_counter() - start > budget:
            break
        times = {}
        for name in names[i % len(names) :] + names[: i % len(names)]:  # rotates the order from round to round
            if sum(name in each for each in quiet) < turns[name] and (turns[name] == rounds or i < 2 * turns[name]):
                time.sleep(PAUSE_SECONDS)
                times[name] = columns[name](repeats[name])
        measured.append((watch.load() if watch else 0.0, times))
    measured.sort(key=lambda each: max(each[0], MOST_LOAD))  # the quiet ones first, in their order
    kept = [each for each in measured if len(each[1]) == len(names)][:TURNS_WHEN_SLOW]  # with the slow columns
    kept += [each for each in measured if all(each is not other for other in kept)][: rounds - len(kept)]
    if watch:
        watch.loads += [load for load, _ in kept]
        watch.discarded += len(measured) - len(kept)
    return {name: [times.get(name) for _, times in kept] for name in names}
