"""The parts of the benchmark: a layer's time and accuracy, an epoch's time, and where the time goes."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .copy_worker import COPIES
from .results import AccuracyResult, EpochResult, LayerResult, ProfileResult, Shape
from .rounds import PAUSE_SECONDS, EpochTurn, Measurement, Profiled, Worker, call_each, interleave, ratio, summary

SHAPES: Sequence[Shape] = (
    (256, 6, 24, 24),
    (256, 16, 8, 8),
    (256, 120),
    (256, 84),
    (64, 64, 56, 56),
    (32, 256, 14, 14),
)
LAYER_BUDGET = 20  # seconds per shape
PLANE = (32, 28, 28)  # an example of 0.1 MB; the batch sets the size
BATCHES = (1, 3, 10, 30, 100, 300, 1000, 2000)
SLOW_UP_TO = 100  # the largest batch for batch_norm, which takes a second per 30 MB
MEANS = (0, 1e2, 1e4)

NUM_TRAIN, BATCH_SIZE, LR = 60_000, 256, 1.0
MIN_EXAMPLES = 10 * BATCH_SIZE
EPOCH_BUDGET, MIN_EPOCH_ROUNDS = 300, 3  # seconds after which no round starts, except for the first three
# The share of an epoch that slow columns train, in every second round.
SHARES = {'scratch': 0.1, 'd2l scratch': 0.1, 'd2l gluon': 0.5}

PROFILED_SHAPE = (256, 84)
PROFILED_EXAMPLES, PROFILED_RUNS = 30 * BATCH_SIZE, 200  # enough that Python and the engine reach a steady state
# The row of the table by the operator's name without `_backward_`; others count as 'other operators'.
KINDS = {
    'Convolution': 'convolutions',
    'Pooling': 'pooling',
    'Activation': 'sigmoids',
    'FullyConnected': 'dense layers',
    'BatchNorm': 'normalization',
    'gluon_bn': 'normalization',
}
OTHER, BETWEEN = 'other operators', 'between operators'


@dataclass(frozen=True)
class Setup:
    """What to measure, and with which workers. workers: by column. root: the folder of the Fashion-MNIST files."""

    workers: Mapping[str, Worker]
    columns: Sequence[str]
    threads: int
    quick: bool = False
    root: Any = None

    def measure_layer(
        self, shape: Shape, rounds: int, columns: Sequence[str], modes: Sequence[str]
    ) -> Dict[str, Dict[str, Measurement]]:
        """Return {mode: {column: its times}} for one shape, with the memory 'floor' from copies of an array."""

        def timed_call(column: str, mode: str) -> Callable[[int], float]:
            return lambda repeat: float(self.workers[column].call('time_layer', column, mode, repeat))

        call_each(self.workers, list(self.workers), 'prepare', shape, self.threads)
        calls = {(name, mode): timed_call(name, mode) for name in columns for mode in modes}
        calls['copy', 'copy'] = timed_call('copy', 'copy')
        times = interleave(calls, 2 if self.quick else rounds, LAYER_BUDGET)
        found = {}
        for mode in modes:
            floor = summary([seconds and seconds * COPIES[mode] for seconds in times['copy', 'copy']])
            measured = {name: summary(times[name, mode]) for name in columns}
            found[mode] = {
                name: dataclasses.replace(each, floors=ratio(each, floor)) for name, each in measured.items()
            }
            found[mode]['floor'] = floor
        return found


def measure_layers(setup: Setup) -> List[LayerResult]:
    """Measure forward, and forward + backward, for each shape."""
    entries = []
    for shape in SHAPES[:3:2] if setup.quick else SHAPES:
        say(f'layer {shape}')
        entries.append(LayerResult(shape, None, **setup.measure_layer(shape, 21, setup.columns, ('forward', 'both'))))
    return entries


def measure_sizes(setup: Setup) -> List[LayerResult]:
    """Measure forward + backward for each size."""
    entries = []
    for batch in BATCHES[2:4] if setup.quick else BATCHES:
        shape = (batch, *PLANE)
        megabytes = math.prod(shape) * 4 / 1e6
        say(f'size {megabytes:.1f} MB')
        fast = [name for name in setup.columns if name != 'scratch' or batch <= SLOW_UP_TO]
        entries.append(LayerResult(shape, megabytes, None, **setup.measure_layer(shape, 9, fast, ('both',))))
    return entries


def measure_accuracy(setup: Setup) -> List[AccuracyResult]:
    """Measure the relative errors of each result against float64, for each mean of X."""
    entries, workers = [], setup.workers
    for shape in SHAPES[:1] if setup.quick else SHAPES[:4]:
        say(f'accuracy {shape}')
        for mean in MEANS:
            call_each(workers, setup.columns, 'prepare', shape, setup.threads, mean)
            errors = {name: workers[name].call('measure_errors', name) for name in setup.columns}
            entries.append(AccuracyResult(shape, mean, errors))
    return entries


def measure_epochs(setup: Setup) -> Dict[str, EpochResult]:
    """Measure the seconds of training and of the test after it, for a full epoch, by column.

    Besides the layers' columns there are 'none' and, prefixed with 'd2l ', two norms in the book's loop. Slow columns
    train on only a share of the examples, from `SHARES`.
    """
    with Worker('d2l_worker', keep_memory=False) as book:
        workers = {
            'none': setup.workers['gluon'],
            **{name: setup.workers[name] for name in setup.columns},
            'd2l gluon': book,
            'd2l scratch': book,
        }
        rounds, share = (1, 0.05) if setup.quick else (5, 1)
        shares = {name: max(MIN_EXAMPLES / NUM_TRAIN, share * SHARES.get(name, 1)) for name in workers}
        call_each(workers, list(workers), 'load_data', setup.root, BATCH_SIZE, setup.threads)
        turns: Dict[str, List[Optional[EpochTurn]]] = {name: [] for name in workers}
        start = time.perf_counter()
        for i in range(-1, rounds):  # the first round is a warm-up of ten batches each
            if i >= MIN_EPOCH_ROUNDS and time.perf_counter() - start > EPOCH_BUDGET:
                break
            say('epochs, warming up' if i < 0 else f'epochs, round {i + 1} of {rounds}')
            for name, worker in workers.items():
                if name in SHARES and i % 2 and i >= 0:
                    turns[name].append(None)
                    continue
                num_train = MIN_EXAMPLES if i < 0 else round(NUM_TRAIN * shares[name])
                time.sleep(PAUSE_SECONDS)
                turn: EpochTurn = worker.call('time_epoch', name.replace('d2l ', ''), num_train, LR)
                if i >= 0:
                    turns[name].append(dataclasses.replace(turn, train=turn.train * NUM_TRAIN / num_train))
        return {name: _epoch_result(turns[name], shares[name]) for name in workers}


def _epoch_result(turns: Sequence[Optional[EpochTurn]], share: float) -> EpochResult:
    last = next(turn for turn in reversed(turns) if turn)
    train, test = (summary([getattr(turn, name, None) for turn in turns]) for name in ('train', 'test'))
    return EpochResult(share, train, test, last.loss, last.train_acc, last.test_acc)


def measure_profile(setup: Setup) -> ProfileResult:
    """Profile minibatches of LeNet's training, and a layer in a stack, forward and backward."""
    say('profile')
    worker, layers = setup.workers['gluon'], [name for name in ('native', 'gluon') if name in setup.columns]
    num_train, repeat = (count // 10 if setup.quick else count for count in (PROFILED_EXAMPLES, PROFILED_RUNS))
    worker.call('load_data', setup.root, BATCH_SIZE, None)
    minibatch = {name: by_kind(worker.call('profile_epoch', name, num_train, LR)) for name in ['none', *layers]}
    worker.call('prepare', PROFILED_SHAPE, None)
    layer = {name: by_kind(worker.call('profile_layer', name, repeat)) for name in layers}
    return ProfileResult(minibatch, layer, PROFILED_SHAPE)


def by_kind(profile: Profiled) -> Dict[str, float]:
    """Return {kind: seconds}, with the time between the operators."""
    kinds = dict.fromkeys([*KINDS.values(), OTHER], 0.0)
    for name, seconds in profile.operators.items():
        kinds[KINDS.get(name.replace('_backward_', ''), OTHER)] += seconds
    # Operators run asynchronously: the time outside all of them is waiting.
    return {**kinds, BETWEEN: max(0.0, profile.seconds - sum(kinds.values()))}


def say(text: str) -> None:
    print(f'bench: {text}', flush=True)


PARTS: Dict[str, Callable[[Setup], Any]] = {
    'layers': measure_layers,
    'sizes': measure_sizes,
    'accuracy': measure_accuracy,
    'epochs': measure_epochs,
    'profile': measure_profile,
}
