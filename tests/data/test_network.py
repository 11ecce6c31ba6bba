"""If the data is on the machine, nothing opens a connection."""

import os
import sys

import pytest
from commands import python

from gluon_bn.data import find_files

# Python runs this file at each start, so a process that the command starts is watched too.
WATCH = """
import sys

def watch(event, arguments):
    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.sendto'):
        with open({log!r}, 'a') as log:
            print(event, arguments, file=log)

sys.addaudithook(watch)
"""


def run(folder, *command):
    (folder / "sitecustomize.py").write_text(WATCH.format(log=str(folder / "connections")))
    done = python(*command, PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))
    return done, (folder / "connections").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["data"], ["compare", "--norms", "fused", "--seeds", "0", "--epochs", "1", "--examples", "512", "--out"]],
)
def test_a_command_opens_no_connection(command, tmp_path):
    find_files()
    out = [str(tmp_path / "run")] if "--out" in command else []
    done, connected = run(tmp_path, "-m", "gluon_bn", *command, *out)
    assert done.returncode == 0, done.stderr
    assert not connected


def test_a_connection_would_be_seen(tmp_path):
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    assert run(tmp_path, "-c", code)[1]
