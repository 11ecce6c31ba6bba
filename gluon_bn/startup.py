"""What this package sets in the process before it trains: how glibc gives memory back.

By default glibc asks the kernel for each large array and gives it back when the array is
freed. A training loop frees and asks for the same arrays a thousand times an epoch, and
the page faults cost a third of its time. With the two thresholds raised, freed memory
stays in the process for the next array. Set GLUON_BN_MALLOC=0 to leave them alone.
"""
from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
ONE_GIB = 1 << 30


def keep_freed_memory():
    """Raise glibc's mmap and trim thresholds to 1 GiB; returns whether they are raised."""
    if os.environ.get('GLUON_BN_MALLOC') == '0' or not sys.platform.startswith('linux'):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, ONE_GIB) and mallopt(M_TRIM_THRESHOLD, ONE_GIB))
