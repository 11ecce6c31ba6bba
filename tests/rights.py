"""A process without root's rights."""

import os
import shutil

import pytest


def without(*rights):
    """What takes these rights from root; other users have none of them."""
    if os.geteuid():
        return ()
    if not shutil.which('setpriv'):
        pytest.skip('root, and no setpriv on this machine')
    return ('setpriv', f'--bounding-set={",".join(f"-{right}" for right in rights)}')
