"""Run a process, or this thread for a while, without root's rights."""

import contextlib
import ctypes
import os
import shutil

import pytest

CAPABILITIES = {'dac_override': 1, 'dac_read_search': 2}  # as in <linux/capability.h>


def without(*rights):
    """What takes these rights from root; other users have none of them."""
    if os.geteuid():
        return ()
    if not shutil.which('setpriv'):
        pytest.skip('root, and no setpriv on this machine')
    return ('setpriv', f'--bounding-set={",".join(f"-{right}" for right in rights)}')


@contextlib.contextmanager
def deprived(*rights):
    """Take these rights from this thread, and give them back at the end."""
    libc = ctypes.CDLL(None)
    header, rows = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3; this thread
    if libc.capget(header, rows):
        pytest.skip('the rights of a thread cannot be read on this machine')
    effective = rows[0]
    rows[0] &= ~sum(1 << CAPABILITIES[right] for right in rights)
    assert libc.capset(header, rows) == 0
    try:
        yield
    finally:
        rows[0] = effective
        assert libc.capset(header, rows) == 0
