"""The cost of several workers: the model recovers the constants; a round trip takes the time that was set."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import python, wait_for

from gluon_bn.bench import cost, report
from gluon_bn.bench.network import address, machines
from gluon_bn.bench.results import Result, WorkersResult, WorkersTimes
from gluon_bn.bench.workers import CHANNELS, SIZES

A, B, D, GRADIENTS, COMPUTE = 2e-4, 3e-4, 1e-9, 1e-3, {"sync": 0.03, "fused": 0.02}


WAITING = 5e-3


def made_up(workers, nominal):
    round_trip = nominal or 1e-5
    exchange = {size: round_trip + A + B * workers + D * 16 * workers**2 * size for size in SIZES}
    gradients = round_trip + GRADIENTS * workers
    between = {"sync": WAITING + gradients + 2 * sum(exchange[1 + 2 * c] for c in CHANNELS), "fused": gradients}
    steps = {norm: COMPUTE[norm] + between[norm] for norm in between}
    exchanges = [(exchange[size], 1000.0) for size in SIZES]
    parts = {} if nominal else {"compute": COMPUTE, "between": between, "gradients": gradients}
    return WorkersTimes(workers, nominal, round_trip, exchanges, **steps, **parts)


def test_the_model_finds_the_constants_and_predicts_what_they_give():
    times = [made_up(workers, nominal) for workers in (2, 4) for nominal in (0.0, 1e-3, 1e-2)]
    workers = WorkersResult(256, 32, CHANNELS, SIZES, COMPUTE, 0.05, times)
    model = cost.Model.fit(workers)
    assert (model.a, model.b, model.d, model.gradients) == pytest.approx((A, B, D, GRADIENTS), rel=1e-6)
    result = Result("", "", {"cores": 2}, {}, 0, [], workers=workers)
    ((title, note, table),) = report.sections(result)
    assert title == "Several workers" and table.count("+0%") + table.count("-0%") == 2 * len(times)
    assert "0.30 N + 0.20 ms, plus 1.00 ns per byte" in note
    assert "In a step of 4 workers, processes wait 5.0 (sync) or 0.0 (fused) ms for a core." in note
    assert model.misses() == pytest.approx([0] * len(model.misses()), abs=1e-6) and model.misses()
    predicted = model.step("sync", 4, 1e-3, COMPUTE)  # each process has its own core
    assert predicted == pytest.approx(made_up(4, 1e-3).sync - WAITING)
    result.machine.update(processor="a processor", platform="a system")
    assert "![steps by several workers, predicted and measured](workers.svg)" in report.markdown(result, "workers.svg")
    assert len(report.draw(result).axes) == 2 and "6 channels: 1,000" in note


def test_the_time_per_byte_is_never_negative():
    times = [made_up(workers, 0.0) for workers in (2, 4)]
    slow = [replace(one, exchanges=[(2e-2 if size == SIZES[0] else 1e-3, 0) for size in SIZES]) for one in times]
    model = cost.Model.fit(WorkersResult(256, 32, CHANNELS, SIZES, COMPUTE, 0.05, slow))
    assert model.d == 0 and model.exchange(1024, 1e-3, SIZES[0]) == model.exchange(1024, 1e-3, SIZES[-1]) > 0


@pytest.mark.filterwarnings("error")
def test_without_network_namespaces_the_loopback_is_shown():
    result = Result("", "", {"cores": 2}, {}, 0, [])
    result.workers = WorkersResult(256, 32, CHANNELS, SIZES, COMPUTE, 0.05, [made_up(n, 0.0) for n in (2, 4)])
    ((_, note, table),) = report.sections(result)
    assert table.count("loopback") == 2 and "bytes per exchange" not in note
    assert "only loopback" in report.draw(result).axes[0].get_title()


@pytest.fixture
def network():
    """Skip the test where network namespaces are unavailable."""
    if os.geteuid() or not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs root, iproute2 and /dev/net/tun")
    probe = f"gluonbn{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    subprocess.run(["ip", "netns", "del", probe], check=True)


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.fault("the benchmark is interrupted or killed while its network namespaces exist", tries=1)
def test_no_namespace_or_relay_is_left(end):
    code = (
        "from gluon_bn.bench.network import machines\nwith machines(2, 1e-3) as made: print(made, flush=True), input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert b"10.78.0.2" in process.stdout.readline()
        mine = f"gluonbn{process.pid}-"
        assert left(mine)
        os.killpg(process.pid, end)
    wait_for(lambda: not left(mine), 20)


def left(mine):
    """Return the namespaces with this name, and the processes with it in their command line."""
    commands = [path for path in Path("/proc").glob("[0-9]*/cmdline") if mine.encode() in content(path)]
    return [*Path("/run/netns").glob(f"{mine}*"), *commands]


def content(path):
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


@pytest.mark.usefixtures("network")
@pytest.mark.slow
@pytest.mark.parametrize("nominal", [1e-4, 1e-3, 1e-2])
def test_a_round_trip_takes_the_time_that_was_set(nominal):
    code = "from gluon_bn.bench.network import round_trip_to; print(min(round_trip_to(%r) for _ in range(5)))"
    with machines(2, nominal) as ((here, _), _):
        measured = float(python("-c", code % address(1), inside=["ip", "netns", "exec", here]).stdout)
    assert nominal * 0.9 < measured < nominal * 1.5 + 3e-4  # while no other program delays the relay
