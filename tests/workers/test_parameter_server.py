"""MXNet's parameter server, with two workers that are processes."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import command

from gluon_bn.workers.parameter_server import LOOPBACK, Role, free_port, timed_wait

PROGRAM = Path(__file__).with_name("broadcasts.py")
JOIN = """
import os, sys
from gluon_bn.errors import WorkersError
from gluon_bn.workers.parameter_server import LOOPBACK, ParameterServer, Role, serve
name, rank, workers, port = sys.argv[1:]
role, end = Role(name, int(rank), int(workers), LOOPBACK, int(port), LOOPBACK), lambda number: os._exit(1)
try:
    serve(role, end) if name != "worker" else ParameterServer(role, end)
except WorkersError as error:
    print(error, flush=True)
os._exit(0)
"""


def listening():
    found = socket.socket()
    found.bind((LOOPBACK, 0))
    found.listen()
    return found


def wrong_starts(*race):
    """Return how many of fifty first steps went wrong on either worker."""
    port = str(free_port(LOOPBACK))
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
        with timed_wait(role, [].append, seconds):
            time.sleep(0.2)
        found = capfd.readouterr().err
        assert found.startswith(said) if said else not found


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers, said",
    [
        (
            ["13", "13", "13"],
            {"DMLC_TASK_ID must be a different number from 0 to 2 for each worker, got 1 for 3 workers\n"},
        ),
        pytest.param(
            ["02", "13"],
            {
                f"DMLC_NUM_WORKER must be the same for all processes, got {n} here and another number elsewhere\n"
                for n in (2, 3)
            },
            marks=pytest.mark.long,
        ),
    ],
)
@pytest.mark.fault("workers share a rank, or disagree on their number", tries=1)
def test_workers_with_conflicting_numbers_are_refused(workers, said):
    port = str(free_port(LOOPBACK))
    roles = [(name, "-1", str(len(workers))) for name in ("scheduler", "server")]
    roles += [("worker", *numbers) for numbers in workers]  # rank and number of workers
    command = [sys.executable, "-W", "ignore", "-c", JOIN]
    parts = [subprocess.Popen([*command, *role, port], stdout=subprocess.PIPE, text=True) for role in roles]
    try:
        assert {part.communicate(timeout=60)[0] for part in parts[2:]} == said
    finally:
        for part in parts:
            part.kill()
            part.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, who", [("worker", "worker 1 on this machine"), ("scheduler", "scheduler on this machine")]
)
@pytest.mark.fault("a worker never starts", tries=1)
def test_a_process_gives_up_waiting(name, who):
    with listening() as free:
        port = str(free.getsockname()[1])
        if name == "scheduler":
            free.close()
        settings = {"DMLC_ROLE": name, "DMLC_PS_ROOT_URI": LOOPBACK, "DMLC_PS_ROOT_PORT": port, "DMLC_NUM_WORKER": "2"}
        words = ("train", "--norm", "sync", "--examples", "512")
        done = command(*words, timeout=60, DMLC_TASK_ID="1", GLUON_BN_WAIT="1.5", **settings)
    assert done.returncode == 1
    assert done.stderr == (
        f"gluon_bn: {who}: the scheduler, the server and 2 workers did not all start within 1.5 s; start them all, or "
        "set GLUON_BN_WAIT=SECONDS to wait longer\n"
    )
