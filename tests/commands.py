"""Runs Python in another process, as a user does."""

import os
import subprocess
import sys
import time


def python(*words, inside=(), cwd=None, timeout=300, **environment):
    """Run this Python with these arguments, inside another command if given; return the completed process.

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


def started(out, *words):
    """Start `python -m gluon_bn` with the folder `out`, wait for its first epoch, and return the process."""
    command = [sys.executable, "-m", "gluon_bn", *words, "--out", str(out)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **output, start_new_session=True)
    wait_for(out / "metrics.jsonl")
    return process


def wait_for(path):
    """Wait until a file has content, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
