"""MXNet's parameter server, with two workers that are processes."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("broadcasts.py")


def wrong_starts(*race):
    """Return how many of fifty first steps went wrong on either worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    roles = [("scheduler", "-1"), ("server", "-1"), ("worker", "0"), ("worker", "1")]
    command = [sys.executable, str(PROGRAM)]
    parts = [subprocess.Popen([*command, *role, port, *race], stdout=subprocess.PIPE, text=True) for role in roles]
    try:
        return sum(int(part.communicate(timeout=120)[0]) for part in parts[2:])
    finally:
        for part in parts:
            part.kill()
            part.communicate()


@pytest.mark.slow
def test_no_weight_is_overwritten_by_a_gradient_in_fifty_starts():
    """Every bit of each float64 arrives, too."""
    assert wrong_starts() == 0


@pytest.mark.slow
@pytest.mark.long
def test_mxnets_own_store_has_the_race():
    assert wrong_starts("race") > 0
