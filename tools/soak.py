"""Train for an hour, and check that memory and speed stay constant and nothing hangs:  make soak MINUTES=60

Each part runs in its own process: every function on mx.cpu(0) and mx.cpu(1) in turn, and on both together; and
the training loop of LeNet on 1, 2 and 4 threads, for 200 epochs' worth of minibatches each in the hour. A part that
takes too long for a round prints where each thread is, and exits. The table compares the last third of each part with
the first. A leak of 5.7 KB per iteration shows only in the full hour; with MINUTES=0.3, which the tests use, it adds
just 0.1 MB in the training loop and 1 MB in the other parts.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
EPOCH = 235  # minibatches of 256 in Fashion-MNIST
HANG = 300  # seconds in which any machine finishes a round
ROUNDS = 7  # minimum: one to warm up, and two in each third
# Last third against first third. The memory that the allocator retains settles within some MB; a graph kept from one
# iteration to the next costs 5.7 KB each: 180 MB between the thirds of the training loop's 47,000 iterations in the
# hour, 0.8 MB between those of its 240 with MINUTES=0.3. Other programs slow a processor by a quarter, and may take
# most of it, so wall-clock time, which also shows waiting, has the wider bound; and a part that became slower runs
# again: only a slowdown that comes back each time is the package's own.
MEGABYTES, SLOWDOWN, SLOWDOWN_BY_THE_CLOCK, TRIES = 16, 1.5, 3, 3
SLOWER = 'times as slow'


class Part(NamedTuple):
    function: str  # of the table in `work`
    devices: str = 'cpu(0)'
    threads: Optional[int] = None  # OMP_NUM_THREADS; None leaves it unchanged
    seconds: float = 0  # minimum duration
    iterations: int = 0  # minimum number of minibatches


class Round(NamedTuple):
    """Some minibatches: their number, seconds and processor seconds, and the process's megabytes after them."""

    iterations: int
    seconds: float
    cpu_seconds: float
    megabytes: float


def parts(minutes):
    """Return parts that fill so many minutes on two cores."""
    functions, devices, seconds = ('batch_norm', 'portable', 'native'), ('in turn', 'together'), 5 * minutes
    iterations = round(200 * EPOCH * minutes / 60)
    return [
        *(Part(function, where, seconds=seconds) for function in functions for where in devices),
        *(Part('native', threads=threads, iterations=iterations) for threads in (1, 2, 4)),
    ]


def work(part, hang=HANG):
    """Run a part in this process, and print a line per `Round`."""
    faulthandler.dump_traceback_later(HANG, exit=True)
    import mxnet as mx
    import psutil

    from gluon_bn import BatchNorm, batch_norm, fused_batch_norm, lenet, train
    from gluon_bn.norm import batch_norm_portable

    fn = {'batch_norm': batch_norm, 'portable': batch_norm_portable, 'native': fused_batch_norm}[part.function]
    net = lenet(lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=fn))
    pair = [mx.cpu(0), mx.cpu(1)]
    # full minibatches, which several threads share, among small ones, which allow many iterations
    sizes = [256, 32, 32, 32] * 6 if part.iterations else [64] * 4
    batches = [
        (mx.nd.random.uniform(shape=(size, 1, 28, 28)), mx.nd.random.randint(0, 10, shape=(size,))) for size in sizes
    ]
    start, done, process = time.perf_counter(), 0, psutil.Process()
    while done < max(part.iterations, ROUNDS * len(batches)) or time.perf_counter() - start < part.seconds:
        faulthandler.dump_traceback_later(hang, exit=True)
        devices = {'cpu(0)': pair[:1], 'together': pair, 'in turn': [pair[done // len(batches) % 2]]}[part.devices]
        if part.devices == 'in turn' and done:
            net.collect_params().reset_ctx(devices)
        began, cpu = time.perf_counter(), time.process_time()
        train(net, batches, batches[:1], 1, 0.1, devices, initialize=not done, plot=False, progress=False)
        mx.nd.waitall()
        done += len(batches)
        took = time.perf_counter() - began, time.process_time() - cpu
        gc.collect()
        print(json.dumps(Round(len(batches), *took, process.memory_info().rss / 2**20)), flush=True)
    faulthandler.dump_traceback_later(HANG, exit=True)  # exiting may hang, too


def run(part, tries=TRIES):
    """Run a part in a separate process, again if it became slower, and return its rounds, and what went wrong or ''."""
    path = 'native' if part.function == 'native' else 'portable'
    # Otherwise a thread would spin, and use processor time, while other programs delay the thread it waits for.
    passive = os.environ.get('OMP_WAIT_POLICY', 'passive')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'GLUON_BN_FUSED': path, 'OMP_WAIT_POLICY': passive}
    if part.threads:
        environment['OMP_NUM_THREADS'] = str(part.threads)
    command = [sys.executable, __file__, '--part', json.dumps(part)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    rounds = [Round(*json.loads(line)) for line in done.stdout.splitlines()]
    wrong = f'exit code {done.returncode}' if done.returncode else judge(rounds)
    if SLOWER in wrong and tries > 1:
        print(*row(part, rounds, f'{wrong}; runs again'), sep=' | ', file=sys.stderr, flush=True)
        return run(part, tries - 1)
    return rounds, wrong


def judge(rounds):
    """Return what is wrong with a part's rounds, or ''."""
    first, last = thirds(rounds)
    growth = megabytes(last) - megabytes(first)
    if growth > MEGABYTES:
        return f'memory grew by {growth:.0f} MB'
    if milliseconds(last) > SLOWDOWN * milliseconds(first):
        return f'it became {milliseconds(last) / milliseconds(first):.1f} {SLOWER}'
    if fastest(last) > SLOWDOWN_BY_THE_CLOCK * fastest(first):
        return f'it became {fastest(last) / fastest(first):.1f} {SLOWER} in wall-clock time'
    return ''


def thirds(rounds):
    """Return the first and the last third, without the first round, which compiles and allocates."""
    size = max(1, (len(rounds) - 1) // 3)
    return rounds[1 : size + 1], rounds[-size:]


def megabytes(rounds):
    return median(r.megabytes for r in rounds)


def milliseconds(rounds):
    """Return the processor time per iteration, which excludes other programs."""
    return median(1000 * r.cpu_seconds / r.iterations for r in rounds)


def fastest(rounds):
    """Return the wall-clock milliseconds per iteration in the fastest round, which other programs disturbed least."""
    return min(1000 * r.seconds / r.iterations for r in rounds)


def row(part, rounds, wrong):
    where = f'{part.devices} OMP_NUM_THREADS={part.threads}' if part.threads else f'{part.devices} '
    times, memory = '-', '-'
    if len(rounds) > 1:
        first, last = thirds(rounds)
        times = f'{milliseconds(first):.1f} -> {milliseconds(last):.1f}'
        memory = f'{megabytes(first):.0f} -> {megabytes(last):.0f}'
    iterations, seconds = sum(r.iterations for r in rounds), sum(r.seconds for r in rounds)
    return [part.function, where, iterations, f'{seconds:.0f}', times, memory, wrong or 'ok']


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=60, help='approximate total duration on two cores')
    parser.add_argument('--part', help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.part:
        return work(Part(*json.loads(arguments.part)))
    from tabulate import tabulate

    rows = []
    for part in parts(arguments.minutes):
        rounds, wrong = run(part)
        rows.append(row(part, rounds, wrong))
        print(*rows[-1], sep=' | ', file=sys.stderr, flush=True)
    print(tabulate(rows, ('function', 'where', 'iterations', 'seconds', 'CPU ms an iteration', 'MB', 'outcome')))
    return 0 if all(cells[-1] == 'ok' for cells in rows) else 1


if __name__ == '__main__':
    sys.exit(main())
