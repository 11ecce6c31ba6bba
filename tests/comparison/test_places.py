"""Where the workers run: bad hosts and bad variables are refused before anything starts."""

import dataclasses
import os
import re
import socket
from pathlib import Path

import pytest
from commands import script
from mxnet import nd

from gluon_bn import cli
from gluon_bn.comparison import Configuration
from gluon_bn.comparison.cluster import check_alike
from gluon_bn.comparison.places import by_hand, on_hosts
from gluon_bn.comparison.task import Task
from gluon_bn.data import Minibatches
from gluon_bn.errors import InputError, WorkersError
from gluon_bn.workers import Threads

VARIABLES = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9091",
    "DMLC_NUM_WORKER": "2",
}


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "--hosts must be a file with a host on each line, got .*, which lists none"),
        ("-oProxyCommand=x", "--hosts must list a host or user@host on each line, got '-oProxyCommand=x'"),
        ("no-such-host.invalid", "--hosts must list hosts that can be found, got no-such-host.invalid in .*; name its"),
        ("user@a..b", "--hosts must list hosts that can be found, got user@a..b in .*: .*label"),
        ("255.255.255.255", "--hosts must list hosts that can be reached, got 255.255.255.255: Permission denied"),
        ("user@", "--hosts must list a host or user@host on each line, got 'user@'"),
        (None, "--hosts must be a file with a host on each line, got .*: No such file"),
    ],
)
@pytest.mark.fault("a file of hosts that names none, or one that is not there", tries=1)
def test_wrong_hosts_are_refused(content, message, tmp_path):
    file = tmp_path / "hosts"
    if content is not None:
        file.write_text(content + "\n")
    with pytest.raises(InputError) as error:
        on_hosts(str(file), 2)
    assert_message(error.value, message)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("DMLC_ROLE", "boss", "DMLC_ROLE must be scheduler, server or worker, got 'boss'"),
        ("DMLC_PS_ROOT_URI", "", "DMLC_PS_ROOT_URI must be the address of the scheduler, got nothing"),
        ("DMLC_PS_ROOT_URI", "no-such-host.invalid", "DMLC_PS_ROOT_URI must be an address, got no-such-host.invalid"),
        ("DMLC_PS_ROOT_URI", "a..b", "DMLC_PS_ROOT_URI must be an address, got a..b: .*label"),
        ("DMLC_PS_ROOT_PORT", "eighty", "DMLC_PS_ROOT_PORT must be a whole number from 1 to 65535, got 'eighty'"),
        ("DMLC_NUM_WORKER", "0", "DMLC_NUM_WORKER must be a whole number from 1 to 65535, got '0'"),
        ("DMLC_NODE_HOST", "203.0.113.9", "DMLC_NODE_HOST must be an address of this machine, got 203.0.113.9: Cannot"),
        (
            "DMLC_NODE_HOST",
            "no-such-host.invalid",
            "DMLC_NODE_HOST must be an address of this machine, got no-such-host",
        ),
        ("DMLC_NODE_HOST", "a..b", "DMLC_NODE_HOST must be an address of this machine, got a..b: .*; unset it"),
        ("DMLC_NUM_SERVER", "2", "DMLC_NUM_SERVER must be 1, got '2'; start a single server"),
        ("GLUON_BN_WAIT", "soon", "GLUON_BN_WAIT must be a positive number of seconds, got 'soon'"),
        ("DMLC_TASK_ID", "2", "DMLC_TASK_ID must be a whole number from 0 to 1, got '2'"),
    ],
)
@pytest.mark.fault("a variable of a cluster is missing or wrong", tries=1)
def test_wrong_variables_are_refused(name, value, message, monkeypatch):
    for variable, good in {**VARIABLES, "DMLC_TASK_ID": "1", name: value}.items():
        monkeypatch.setenv(variable, good)
    with pytest.raises(InputError) as error:
        by_hand()
    assert_message(error.value, message)


@pytest.mark.fault("the scheduler's port is in use", tries=1)
def test_a_port_in_use_is_refused(monkeypatch, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        values = {**VARIABLES, "DMLC_ROLE": "scheduler", "DMLC_PS_ROOT_PORT": str(taken.getsockname()[1])}
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["train", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "in use; use another port" in error and error.count("\n") == 1


@pytest.mark.parametrize("option, value", [("--workers", "3"), ("--hosts", "file")])
@pytest.mark.fault("an option contradicts a variable of a cluster", tries=1)
def test_options_beside_variables_of_a_cluster_are_refused(option, value, monkeypatch, tmp_path, capsys):
    for name, good in {**VARIABLES, "DMLC_TASK_ID": "0"}.items():
        monkeypatch.setenv(name, good)
    assert cli.main(["train", option, value, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gluon_bn: {option} must not be given with DMLC_ROLE: this is one of 2 workers")


@pytest.mark.fault("a machine without ssh", tries=1)
def test_hosts_without_ssh_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "hosts").write_text("127.0.0.1\n")
    with pytest.raises(InputError) as caught:
        on_hosts(str(tmp_path / "hosts"), 2)
    assert_message(caught.value, "--hosts needs the program ssh, got none on PATH; install an OpenSSH client")


@pytest.mark.slow
@pytest.mark.fault("ssh cannot log in to a host", tries=1)
def test_a_host_that_refuses_ssh_is_named(monkeypatch, tmp_path, capsys):
    script(tmp_path / "ssh", "exit 255")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    hosts, out = tmp_path / "hosts", tmp_path / "run"
    hosts.write_text("localhost\n")
    arguments = ["--norm", "sync", "--epochs", "1", "--examples", "256", "--hosts", str(hosts), "--out", str(out)]
    assert cli.main(["train", *arguments]) == 1
    printed, errors = capsys.readouterr()
    assert "ssh cannot log in to localhost, or lost the connection; `ssh localhost true` must work" in errors
    assert f"train --workers 2 --hosts {hosts} --resume {out}\n" in printed


def assert_message(error, message):
    assert re.match(message, error.message({"hosts": "--hosts"})), error
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "part, file", [("code", "a.py"), ("code", "kernels/a.h"), ("data", "a.py"), ("configuration", "a.py")]
)
@pytest.mark.fault("a worker has other code, data or another configuration", tries=1)
def test_an_unlike_worker_is_refused_by_all(part, file, tmp_path):
    configuration = Configuration(norms=("sync",), seeds=(0,))
    errors = []

    def work(member):
        other = member.rank == 2
        lr = 0.5 if other and part == "configuration" else 1.0
        task = Task(dataclasses.replace(configuration, lr=lr), "sync", 0, str(tmp_path), None, {})
        X = nd.ones((2, 1, 2, 2)) * (2 if other and part == "data" else 1)
        package = tmp_path / str(member.rank)
        Path(package, file).parent.mkdir(parents=True)
        Path(package, file).write_text(str(other and part == "code"))
        try:
            check_alike(member, task, Minibatches(X, nd.ones(2), 2, True), package)
        except WorkersError as error:
            errors.append(str(error))

    Threads.run(3, work)
    host = socket.gethostname()
    expected = f"worker 2 on {host} must have the {part} of worker 0 on {host}, got another; give all workers the same"
    assert len(errors) == 3 and all(error.startswith(expected) for error in errors), errors
