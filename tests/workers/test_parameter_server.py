"""MXNet's parameter server, with two workers that are processes."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gluon_bn.workers.parameter_server import LOOPBACK, Role, said_to_wait

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


@pytest.mark.fault("a worker never starts", tries=1)
def test_a_worker_says_that_it_waits_for_others(capfd):
    role = Role("worker", 1, 2, LOOPBACK, 9091, LOOPBACK)
    for seconds, said in ((60, ""), (0, "gluon_bn: worker 1 on this machine waits for the others")):
        with said_to_wait(role, seconds):
            time.sleep(0.2)
        found = capfd.readouterr().err
        assert found.startswith(said) if said else not found
