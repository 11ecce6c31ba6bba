"""What memory allows: an array copied by all cores, in a process of its own.

A copy reads an array and writes one: two passes. Batch normalization, forward, must do as much: read X, write Y.
Backward must read dY, read X and write dX. So forward is at least one copy, forward + backward at least 2.5.
"""
from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy

PASSES_OF_A_COPY = 2
PASSES = {'forward': 2, 'both': 5}

_case = None


def prepare(shape, threads):
    global _case
    _case = numpy.ones(math.prod(shape), 'float32'), numpy.zeros(math.prod(shape), 'float32'), threads


def time_layer(column, mode, repeat):
    """Seconds of one copy, by one thread or by all cores, whichever is faster."""
    source, target, threads = _case
    return min(_copy(source, target, count, repeat) for count in {1, threads})


def _copy(source, target, threads, repeat):
    def copy_share(source, target):
        for _ in range(repeat):
            numpy.copyto(target, source)  # without Python's lock

    shares = list(zip(numpy.array_split(source, threads), numpy.array_split(target, threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: time.sleep(0.001), range(threads)))  # starts the threads
        start = time.perf_counter()
        for done in [pool.submit(copy_share, *share) for share in shares]:
            done.result()
        return (time.perf_counter() - start) / repeat
