"""The memory floor: the time to copy an array with all cores, in a separate process.

A copy makes two passes over memory. Forward needs at least two as well (read X, write Y), and backward three
(read dY, read X, write dX). So forward takes at least as long as 1 copy, forward + backward as 2.5.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Sequence

import numpy

COPIES = {'forward': 1, 'both': 2.5}


class Framework:
    def prepare(self, shape: Sequence[int], threads: int) -> None:
        size, self.threads = math.prod(shape), threads
        self.source, self.target = numpy.ones(size, 'float32'), numpy.zeros(size, 'float32')

    def time_layer(self, column: str, mode: str, repeat: int) -> float:
        """Return the seconds of one copy, with one thread or with all cores, whichever is faster."""
        return min(self._copy(count, repeat) for count in {1, self.threads})

    def _copy(self, threads: int, repeat: int) -> float:
        def copy_share(source: numpy.ndarray[Any, Any], target: numpy.ndarray[Any, Any]) -> None:
            for _ in range(repeat):
                numpy.copyto(target, source)  # releases Python's lock

        shares = list(zip(numpy.array_split(self.source, threads), numpy.array_split(self.target, threads)))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: time.sleep(0.001), range(threads)))  # starts the threads
            start = time.perf_counter()
            for done in [pool.submit(copy_share, *share) for share in shares]:
                done.result()
            return (time.perf_counter() - start) / repeat
