"""What memory allows: an array copied by all cores, in a process of its own.

A copy reads an array and writes one: two passes. Batch normalization, forward, must do as much: read X, write Y.
Backward must read dY, read X and write dX. So forward is at least one copy, forward + backward at least 2.5.
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
        """Seconds of one copy, by one thread or by all cores, whichever is faster."""
        return min(self._copy(count, repeat) for count in {1, self.threads})

    def _copy(self, threads: int, repeat: int) -> float:
        def copy_share(source: numpy.ndarray[Any, Any], target: numpy.ndarray[Any, Any]) -> None:
            for _ in range(repeat):
                numpy.copyto(target, source)  # without Python's lock

        shares = list(zip(numpy.array_split(self.source, threads), numpy.array_split(self.target, threads)))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: time.sleep(0.001), range(threads)))  # starts the threads
            start = time.perf_counter()
            for done in [pool.submit(copy_share, *share) for share in shares]:
                done.result()
            return (time.perf_counter() - start) / repeat
