"""Runs Python in another process, as a user does."""

import os
import subprocess
import sys


def python(*words, inside=(), cwd=None, timeout=300, **environment):
    """Run this Python with these words, inside another command if named, and return how it ended, its output as text.

    environment: variables to set, or to remove if None.
    """
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    return subprocess.run(
        [*inside, sys.executable, *map(str, words)],
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def command(*words, **how):
    """Run `python -m gluon_bn`."""
    return python("-m", "gluon_bn", *words, **how)
