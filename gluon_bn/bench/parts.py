"""The parts of the benchmark: a layer's time and accuracy, an epoch's time, and where the time goes."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from . import results
from .copy_worker import COPIES
from .results import AccuracyResult, EpochResult, LayerResult, ProfileResult, Shape, with_threads
from .rounds import (
    MOST_LOAD,
    PAUSE_SECONDS,
    EpochTurn,
    LoadMonitor,
    Measurement,
    Profiled,
    Worker,
    call_each,
    interleave,
    ratio,
    summary,
)
from .workers import measure_workers

SHAPES: Sequence[Shape] = (results.LARGE[0], *results.SMALL, *results.DENSE, *results.LARGE[1:])  # LeNet's come first
LAYER_BUDGET = 25  # seconds per shape and number of threads
PLANE = (32, 28, 28)  # an example of 0.1 MB; the batch sets the size
BATCHES = (1, 3, 10, 30, 100, 300, 1000, 2000)
SLOW_UP_TO = 100  # the largest batch for batch_norm, which takes a second per 30 MB
MEANS = (0, 1e2, 1e4)

NUM_TRAIN, BATCH_SIZE, LR = 60_000, 256, 1.0
MIN_EXAMPLES = 10 * BATCH_SIZE
EPOCH_BUDGET, MIN_EPOCH_ROUNDS = 240, 3  # no round starts after so many seconds, except the first three
COMPANY_EXAMPLES, COMPANY_ROUNDS = 40 * BATCH_SIZE, 5  # beside a busy core
# The share of an epoch that slow columns train, in every second round.
SHARES = {'scratch': 0.1, 'd2l scratch': 0.1, 'd2l gluon': 0.5}

PROFILED_SHAPE = (256, 84)
PROFILED_EXAMPLES, PROFILED_RUNS = 30 * BATCH_SIZE, 200  # enough that Python and the engine reach a steady state
# The row of the table by the operator's name without `_backward_`; others count as 'other operators'.
KINDS = {
    'Convolution': 'convolutions',
    'Pooling': 'pooling',
    'gluon_bn_max_pool': 'pooling',
    'Activation': 'sigmoids',
    'FullyConnected': 'dense layers',
    'BatchNorm': 'normalization',
    'gluon_bn': 'normalization',
}
OTHER, BETWEEN = 'other operators', 'between operators'


@dataclass(frozen=True)
class Setup:
    """What to measure, and with which workers.

    workers: by number of threads, then by column. root: the folder of Fashion-MNIST.
    """

    workers: Mapping[int, Mapping[str, Worker]]
    columns: Sequence[str]
    quick: bool = False
    root: Any = None
    watch: LoadMonitor = dataclasses.field(default_factory=LoadMonitor)

    def measure_layer(
        self, threads: int, shape: Shape, rounds: int, columns: Sequence[str], modes: Sequence[str]
    ) -> Dict[str, Dict[str, Measurement]]:
        """Return {mode: {column: its times}} for one shape, with the memory 'floor' from copies of an array."""
        workers = self.workers[threads]

        def timed_call(column: str, mode: str) -> Callable[[int], float]:
            return lambda repeat: float(workers[column].call('time_layer', column, mode, repeat))

        call_each(workers, list(workers), 'prepare', shape, threads)
        calls = {(name, mode): timed_call(name, mode) for name in columns for mode in modes}
        calls['copy', 'copy'] = timed_call('copy', 'copy')
        rounds, budget = (min(rounds, 5), 3) if self.quick else (rounds, LAYER_BUDGET)
        times = interleave(calls, rounds, budget, self.watch)
        found = {}
        for mode in modes:
            floor = summary([seconds and seconds * COPIES[mode] for seconds in times['copy', 'copy']])
            measured = {name: summary(times[name, mode]) for name in columns}
            found[mode] = {
                name: dataclasses.replace(each, floors=ratio(each, floor)) for name, each in measured.items()
            }
            found[mode]['floor'] = floor
        return found


def measure_layers(setup: Setup) -> Dict[str, Any]:
    """Measure forward, and forward + backward, for each shape. A quick run measures forward for the first only."""
    entries: List[LayerResult] = []
    for threads in setup.workers:
        for shape in SHAPES[:4] if setup.quick else SHAPES:
            say(with_threads(f'layer {shape}', threads))
            modes = ('both',) if setup.quick and entries else ('forward', 'both')
            times = setup.measure_layer(threads, shape, 21, setup.columns, modes)
            entries.append(LayerResult(shape, None, times.get('forward'), times['both'], threads))
    return {'layers': entries}


def measure_sizes(setup: Setup) -> Dict[str, Any]:
    """Measure forward + backward for each size."""
    entries = []
    for threads in setup.workers:
        for batch in BATCHES[1:2] if setup.quick else BATCHES:
            shape = (batch, *PLANE)
            megabytes = math.prod(shape) * 4 / 1e6
            say(with_threads(f'size {megabytes:.1f} MB', threads))
            fast = [name for name in setup.columns if name != 'scratch' or batch <= SLOW_UP_TO]
            times = setup.measure_layer(threads, shape, 9, fast, ('both',))
            entries.append(LayerResult(shape, megabytes, None, **times, threads=threads))
    return {'sizes': entries}


def measure_accuracy(setup: Setup) -> Dict[str, Any]:
    """Measure the relative errors of each result against float64, for each mean of X."""
    entries: List[AccuracyResult] = []
    threads, workers = next(iter(setup.workers.items()))
    for shape in SHAPES[:1] if setup.quick else SHAPES[:4]:
        say(f'accuracy {shape}')
        for mean in MEANS:
            call_each(workers, setup.columns, 'prepare', shape, threads, mean)
            errors = {name: workers[name].call('measure_errors', name) for name in setup.columns}
            entries.append(AccuracyResult(shape, mean, errors))
    return {'accuracy': entries}


def measure_epochs(setup: Setup) -> Dict[str, Any]:
    """Measure epochs with each number of threads; with the highest, also in the book's loop and beside a busy core."""
    one, most = min(setup.workers), max(setup.workers)
    if one == most:
        return {'epochs': _measure_epochs(setup, most, with_book=True)}
    found = {'epochs_one_thread': _measure_epochs(setup, one, with_book=False)}
    return {**found, 'epochs': _measure_epochs(setup, most, with_book=True), 'company': _measure_company(setup, most)}


def _measure_epochs(setup: Setup, threads: int, with_book: bool) -> Dict[str, EpochResult]:
    """Measure the seconds of training and of the test after it, for a full epoch, by column.

    Besides the layers' columns there are 'none'; 'sigmoid', the native path with the sigmoid in the same operator; and,
    prefixed with 'd2l ', two norms in the book's loop, which runs with MXNet's own threads. Slow columns train on only
    a share of the examples, from `SHARES`.
    """
    with Worker('d2l_worker', keep_memory=False) as book:
        workers = {'none': setup.workers[threads]['gluon']}
        workers.update((name, setup.workers[threads][name]) for name in setup.columns)
        if 'native' in workers:
            workers['sigmoid'] = workers['native']
        if with_book:
            workers.update({'d2l gluon': book, 'd2l scratch': book})
        rounds, share = (2, 0.06) if setup.quick else (5, 1)
        slow = [name for name in workers if name in SHARES or setup.quick and name == 'portable']
        shares = {name: max(MIN_EXAMPLES / NUM_TRAIN, share * SHARES.get(name, 1)) for name in workers}
        call_each(workers, list(workers), 'load_data', setup.root, BATCH_SIZE, threads)
        turns: Dict[str, List[Optional[EpochTurn]]] = {name: [] for name in workers}
        start = time.perf_counter()
        for i in range(-1, rounds):  # the first round is a warm-up of ten batches each
            if i >= MIN_EPOCH_ROUNDS and time.perf_counter() - start > EPOCH_BUDGET:
                break
            say(with_threads('epochs', threads) + (', warming up' if i < 0 else f', round {i + 1} of {rounds}'))
            for name, worker in workers.items():
                if name in slow and (i < 0 and setup.quick or i > 0 and (i % 2 or setup.quick)):
                    turns[name] += [None] * (i >= 0)
                    continue
                num_train = MIN_EXAMPLES if i < 0 else round(NUM_TRAIN * shares[name])
                attempts: List[Tuple[float, EpochTurn]] = []
                while not attempts or len(attempts) < 2 and i >= 0 and attempts[0][0] > MOST_LOAD:
                    time.sleep(PAUSE_SECONDS)
                    setup.watch.load()
                    turn: EpochTurn = worker.call('time_epoch', name.replace('d2l ', ''), num_train, LR)
                    # the book's loader starts processes, which would count as other programs
                    attempts.append((0.0 if worker is book else setup.watch.load(), turn))
                load, turn = min(attempts, key=lambda attempt: attempt[0])
                if i >= 0:
                    setup.watch.loads.append(load)
                    setup.watch.discarded += len(attempts) - 1
                    turns[name].append(dataclasses.replace(turn, train=turn.train * NUM_TRAIN / num_train))
        return {name: _epoch_result(turns[name], shares[name]) for name in workers}


def _epoch_result(turns: Sequence[Optional[EpochTurn]], share: float) -> EpochResult:
    last = next(turn for turn in reversed(turns) if turn)
    train, test = (summary([getattr(turn, name, None) for turn in turns]) for name in ('train', 'test'))
    return EpochResult(share, train, test, last.loss, last.train_acc, last.test_acc)


def _measure_company(setup: Setup, threads: int) -> Dict[str, Measurement]:
    """Time part of an epoch, alternately alone and beside a program that keeps one core busy."""
    name = 'native' if 'native' in setup.columns else 'gluon'
    worker, num_train = setup.workers[threads][name], COMPANY_EXAMPLES // (4 if setup.quick else 1)

    def train(repeat: int) -> float:
        turns: List[EpochTurn] = [worker.call('time_epoch', name, num_train, LR) for _ in range(repeat)]
        return sum(turn.train for turn in turns) / repeat

    def train_beside(repeat: int) -> float:
        with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as busy:
            try:
                return train(repeat)
            finally:
                busy.kill()

    say(with_threads('epochs beside a busy core', threads))
    times = interleave({'quiet': train, 'beside': train_beside}, COMPANY_ROUNDS, EPOCH_BUDGET)
    return {which: summary(times[which]) for which in times}


def measure_profile(setup: Setup) -> Dict[str, Any]:
    """Profile minibatches of LeNet's training, and a layer in a stack, forward and backward."""
    say('profile')
    worker = setup.workers[min(setup.workers)]['gluon']
    layers = [name for name in ('native', 'gluon') if name in setup.columns]
    nets = ['none', *layers, *(['sigmoid'] if 'native' in layers else [])]
    num_train, repeat = (count // 10 if setup.quick else count for count in (PROFILED_EXAMPLES, PROFILED_RUNS))
    worker.call('load_data', setup.root, BATCH_SIZE, None)
    minibatch = {name: by_kind(worker.call('profile_epoch', name, num_train, LR)) for name in nets}
    worker.call('prepare', PROFILED_SHAPE, None)
    layer = {name: by_kind(worker.call('profile_layer', name, repeat)) for name in layers}
    return {'profile': ProfileResult(minibatch, layer, PROFILED_SHAPE)}


def by_kind(profile: Profiled) -> Dict[str, float]:
    """Return {kind: seconds}, with the time between the operators."""
    kinds = dict.fromkeys([*KINDS.values(), OTHER], 0.0)
    for name, seconds in profile.operators.items():
        kinds[KINDS.get(name.replace('_backward_', ''), OTHER)] += seconds
    # Operators run asynchronously: the time outside all of them is waiting.
    return {**kinds, BETWEEN: max(0.0, profile.seconds - sum(kinds.values()))}


def say(text: str) -> None:
    print(f'bench: {text}', flush=True)


# each returns fields of the result
PARTS: Dict[str, Callable[[Setup], Dict[str, Any]]] = {
    'layers': measure_layers,
    'sizes': measure_sizes,
    'accuracy': measure_accuracy,
    'epochs': measure_epochs,
    'profile': measure_profile,
    'workers': lambda setup: {'workers': measure_workers(setup.quick, say)},
}
