"""Two network namespaces, each with an address of its own, as two machines. They need root and iproute2."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import lines, script, wait_for
from faults import repeated

ADDRESSES = {"A": "10.77.0.1", "B": "10.77.0.2"}
TRAIN = [sys.executable, "-m", "gluon_bn", "train", "--norm", "sync", "--examples", "512", "--batch-size", "128"]


@pytest.fixture
def machines():
    """Two namespaces joined by a cable: {name: the prefix that runs a command in it}."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and iproute2")
    names = {name: f"gluonbn{os.getpid()}{name}" for name in ADDRESSES}
    cable = {name: f"gb{os.getpid()}{name}" for name in ADDRESSES}
    try:
        for name in names.values():
            if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
                pytest.skip("network namespaces are not allowed here")
        ip("link", "add", cable["A"], "netns", names["A"], "type", "veth", "peer", cable["B"], "netns", names["B"])
        for name, address in ADDRESSES.items():
            ip("-n", names[name], "addr", "add", f"{address}/24", "dev", cable[name])
            ip("-n", names[name], "link", "set", cable[name], "up")
            ip("-n", names[name], "link", "set", "lo", "up")
        yield {name: ["ip", "netns", "exec", names[name]] for name in ADDRESSES}
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def ip(*words):
    subprocess.run(["ip", *words], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("tries", repeated("the cable between two machines that train together is cut", 1, 10))
def test_all_end_when_a_machine_cannot_be_reached(machines, tmp_path, tries):
    for attempt in range(tries):
        ip("-n", machines["B"][-1], "link", "set", f"gb{os.getpid()}B", "up")
        cut_the_cable(machines, tmp_path / str(attempt))


def cut_the_cable(machines, out):
    settings = {"DMLC_PS_ROOT_URI": ADDRESSES["A"], "DMLC_PS_ROOT_PORT": "9555", "DMLC_NUM_WORKER": "2"}

    def start(machine, role, rank=""):
        environment = {**os.environ, **settings, "DMLC_ROLE": role, "DMLC_TASK_ID": rank}
        command = [*machines[machine], *TRAIN, "--epochs", "99", "--out", str(out)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    parts = [start("A", "scheduler"), start("A", "server"), start("A", "worker", "0"), start("B", "worker", "1")]
    wait_for(lambda: lines(out))
    sockets = subprocess.run([*machines["A"], "ss", "-Hltn"], capture_output=True, text=True).stdout.splitlines()
    assert sockets and all(line.split()[3].startswith(ADDRESSES["A"] + ":") for line in sockets), "no other interface"
    ip("-n", machines["B"][-1], "link", "set", f"gb{os.getpid()}B", "down")
    since = time.monotonic()
    errors = [part.communicate(timeout=60)[1] for part in parts]
    assert time.monotonic() - since < 30
    assert "a worker, MXNet's process " in errors[0] and "is stopped, or cannot be reached" in errors[0]
    for rank in (0, 1):
        assert f"worker {rank} on {ADDRESSES['AB'[rank]]} has joined, as MXNet's process " in errors[2 + rank]
        assert f"scheduler on {ADDRESSES['A']}: it is stopped, or cannot be reached" in errors[2 + rank]
    assert "Traceback" not in "".join(errors)


@pytest.fixture(params=["script", pytest.param("sshd", marks=pytest.mark.long)])
def ssh(request, machines, tmp_path):
    """A folder with an ssh that reaches the other namespace: a script that enters it, or OpenSSH and a server there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    enter, server = " ".join(machines["B"]), None
    reach = (
        'while [ "$1" != -- ]; do shift; done\n'
        f'[ "$2" = {ADDRESSES["B"]} ] && exec env -i PATH="$PATH" HOME="$HOME" {enter} sh -c "$3"\n'
    )
    if request.param == "sshd":
        if not shutil.which("sshd", path="/usr/sbin"):
            pytest.skip("needs openssh-server")
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(tmp_path / key)], check=True)
        (tmp_path / "known").write_text(f"{ADDRESSES['B']} {(tmp_path / 'host.pub').read_text()}")
        (tmp_path / "sshd").write_text(
            f"ListenAddress {ADDRESSES['B']}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
            "StrictModes no\nPidFile none\nPermitRootLogin yes\n"
        )
        server = subprocess.Popen([*machines["B"], "/usr/sbin/sshd", "-D", "-f", str(tmp_path / "sshd")])
        reach = f'exec {shutil.which("ssh")} -i {tmp_path}/user -oUserKnownHostsFile={tmp_path}/known "$@"\n'
    script(folder / "ssh", reach)
    yield folder
    if server:
        server.kill()
        server.communicate()


@pytest.mark.slow
def test_hosts_start_the_other_workers_over_ssh(machines, ssh, tmp_path):
    (tmp_path / "hosts").write_text(f"# the others\n{ADDRESSES['B']}\n")
    command = [*machines["A"], *TRAIN, "--epochs", "1", "--hosts", str(tmp_path / "hosts")]
    environment = {**os.environ, "PATH": f"{ssh}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    assert "sync, seed 0: epoch 1/1" in done.stderr
    assert '"workers": 2' in (tmp_path / "run" / "summary.json").read_text()
