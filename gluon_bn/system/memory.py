"""Keeps glibc from returning freed memory to the kernel.

By default, glibc requests each array of more than 32 MiB from the kernel and returns it when the array is freed. A
training loop frees and allocates the same arrays at each step. On an AMD EPYC, this made a layer with arrays of 51 MB
about three times as slow; LeNet's arrays are smaller, and its time did not change.
"""

from __future__ import annotations

import ctypes
import os
import sys

from ..errors import InputError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # from malloc.h
ONE_GIB = 1 << 30
HEAP = 64 << 20  # glibc's size of a heap in a thread's arena


def keep_freed_memory() -> None:
    """Keep freed memory in the process for the next array: raise glibc's thresholds to 1 GiB, and use a single arena.

    Threads that started earlier keep their arenas. glibc unmaps a heap of such an arena once it is empty, whatever the
    thresholds, unless it pads each request by the size of a heap; the padding takes no memory until it is used.

    Does nothing with another C library, or if GLUON_BN_MALLOC is 0. An old glibc ignores options it does not know.

    Raises: InputError if GLUON_BN_MALLOC is neither 0 nor 1.
    """
    setting = os.environ.get('GLUON_BN_MALLOC') or '1'
    if setting not in ('0', '1'):
        raise InputError(f'must be 0 or 1, got {setting!r}; unset it for 1', 'GLUON_BN_MALLOC')
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform.startswith('linux') else None
    if setting == '1' and mallopt:
        for name, value in (
            (M_MMAP_THRESHOLD, ONE_GIB),
            (M_TRIM_THRESHOLD, ONE_GIB),
            (M_TOP_PAD, HEAP),
            (M_ARENA_MAX, 1),
        ):
            mallopt(name, value)
