"""What this package sets in the process when it is imported: how glibc gives memory back.

By default glibc asks the kernel for each large array and gives it back when the array is
freed. A training loop frees and asks for the same arrays a thousand times an epoch, and
the page faults cost a third of its time. With both thresholds raised, freed memory stays
in the process for the next array; with one arena for all threads, that holds for the
arrays of MXNet's own threads too. Set GLUON_BN_MALLOC=0 to leave all of it alone.
"""
from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # from malloc.h
ONE_GIB = 1 << 30


def keep_freed_memory():
    """Raise glibc's mmap and trim thresholds to 1 GiB, and have one arena; returns whether it is done."""
    if os.environ.get('GLUON_BN_MALLOC') == '0' or not sys.platform.startswith('linux'):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    settings = ((M_MMAP_THRESHOLD, ONE_GIB), (M_TRIM_THRESHOLD, ONE_GIB), (M_ARENA_MAX, 1))
    return all([mallopt(name, value) for name, value in settings])
