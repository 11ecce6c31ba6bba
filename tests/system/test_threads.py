"""The thread policy: free cores, the reader's own settings, and a libgomp that is already loaded."""

import os
import sys
from pathlib import Path

import pytest
from commands import python

from gluon_bn.doctor.machine import check_threads
from gluon_bn.system import threads

TOP = Path(__file__).resolve().parents[2]
SETTINGS = (threads.THREADS, threads.SPINS, threads.SETTLED, "OMP_WAIT_POLICY")


@pytest.fixture
def unset(monkeypatch):
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that what `settle` sets is undone, too
        monkeypatch.delenv(name)
    monkeypatch.setattr(threads, "_settled", False)
    monkeypatch.setattr(threads, "cores", lambda: 4)


def test_one_run_alone_has_every_core_and_spins_briefly(unset):
    assert threads.policy() == {"OMP_NUM_THREADS": "4", "GOMP_SPINCOUNT": "500"}


def test_each_of_several_runs_has_one_thread(unset):
    assert threads.policy(alone=False) == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "setting, chosen",
    [
        ({"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": "500"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_NUM_THREADS": "4", "GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "active"}),
        ({"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "4", "GOMP_SPINCOUNT": "500"}),
    ],
)
def test_what_the_reader_has_set_wins(unset, monkeypatch, setting, chosen):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert threads.policy() == chosen


def test_a_resumed_run_keeps_its_threads_unless_the_reader_sets_others(unset, monkeypatch):
    recorded = {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "500", "GLUON_BN_FUSED": "native"}
    assert threads.policy(recorded=recorded) == {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "500"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.policy(recorded=recorded)["OMP_NUM_THREADS"] == "3"


def test_variables_set_by_the_package_do_not_count_as_the_readers(unset, monkeypatch):
    monkeypatch.setattr(threads, "is_loaded", lambda: False)
    threads.settle()
    assert os.environ["OMP_NUM_THREADS"] == "4" and threads.policy(alone=False) == {"OMP_NUM_THREADS": "1"}
    code = "from gluon_bn.system.threads import given; print(given())"
    child = python("-c", code, PYTHONPATH=str(TOP))
    assert child.stdout == "{}\n", "of a command in a notebook that has imported gluon_bn"


@pytest.mark.parametrize(
    "line, files, quotas",
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, [1.5]),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"}, [3, 1]),
        ("0::/gone", {"cpu.max": "200000 100000"}, [2]),
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "1"}, []),
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "10000"}, [5]),
        ("5:cpuset:/a", {"cpuset/a/cpu.cfs_quota_us": "1", "cpuset/a/cpu.cfs_period_us": "1"}, []),
    ],
)
def test_limits_of_control_groups_of_both_versions(tmp_path, line, files, quotas):
    (tmp_path / "cgroup").write_text(f"7:memory:/m\n{line}\n")
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert list(threads.quotas(tmp_path / "cgroup", tmp_path / "fs")) == quotas


def test_a_part_of_a_core_counts_as_one_and_affinity_limits(monkeypatch):
    for limits, cores in (([0.5], 1), ([1.9], 1), ([], 3), ([9], 3)):
        monkeypatch.setattr(threads, "quotas", lambda limits=limits: iter(limits))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
        assert threads.cores() == cores


STARTED = """
import os
{first}
from gluon_bn.system import before_mxnet
from gluon_bn.doctor.machine import check_threads
from mxnet import nd
nd.dot(nd.ones((999, 999)), nd.ones((999, 999))).wait_to_read()
print(os.environ.get("OMP_NUM_THREADS"), os.environ.get("GOMP_SPINCOUNT"), "does not apply" in check_threads().text)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "first, setting, printed",
    [
        ("", {}, f"{threads.cores()} {'500' if threads.cores() > 1 else None} False"),
        ("", {"OMP_NUM_THREADS": "1"}, "1 None False"),
        ("import ctypes; ctypes.CDLL('libgomp.so.1')", {}, "None None True"),
    ],
)
def test_the_policy_is_set_before_mxnet_loads_libgomp_and_never_later(first, setting, printed):
    environment = {**dict.fromkeys(SETTINGS), **setting, "PYTHONPATH": str(TOP)}
    done = python("-W", "ignore", "-c", STARTED.format(first=first), **environment)
    assert (done.returncode, done.stdout) == (0, f"{printed}\n"), done.stderr


def test_the_doctor_reports_the_policy(unset):
    assert check_threads(left_alone=False).text == (
        "a single run: OMP_NUM_THREADS=4 GOMP_SPINCOUNT=500; each of several: OMP_NUM_THREADS=1"
    )
    assert "libgomp was loaded before gluon_bn" in check_threads(left_alone=True).text
