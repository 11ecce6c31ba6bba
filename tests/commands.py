"""Runs Python in another process, as a user does, and writes scripts that stand in for other programs."""

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


def started(out, *words, file="metrics.jsonl"):
    """Start `python -m gluon_bn` with the folder `out`, wait until the file in it has content, return the process."""
    command = [sys.executable, "-m", "gluon_bn", *words, "--out", str(out)]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **output, start_new_session=True)
    wait_for(lambda: (out / file).exists() and (out / file).stat().st_size)
    return process


def wait_for(condition, seconds=120, why=str):
    """Wait until the condition holds. why: returns the message if time runs out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def lines(out):
    """The lines that a comparison has written, one per epoch."""
    path = out / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def script(file, text):
    """Write an executable shell script; return its path."""
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file
