"""What is shown as bad input, and what as an error that nobody expected."""
import json
import os
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import gluon_bn
from gluon_bn import cli
from gluon_bn.comparison import run
from gluon_bn.data import DataMissing, DataUnavailable
from gluon_bn.errors import GluonBnError, InputError
from gluon_bn.norm import NativeError


def command(*arguments, inside=(), **environment):
    return subprocess.run([*inside, sys.executable, "-m", "gluon_bn", *map(str, arguments)], text=True, check=False,
                          capture_output=True, env={**os.environ, **environment}, timeout=300)


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, KeyError, ZeroDivisionError])
def test_a_bug_is_not_shown_as_bad_input(tmp_path, monkeypatch, capsys, error):
    def compare(*arguments, **more):
        raise error("norm of the gradient is nan")

    monkeypatch.setattr(gluon_bn, "compare", compare)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["train", "--examples", "512"]) == 1
    said = capsys.readouterr().err
    log, = tmp_path.glob("gluon_bn-*.traceback.txt")
    assert "--norm" not in said and said.count("\n") == 1
    assert said.startswith(f"gluon_bn: unexpected {error.__name__}: ")
    line = compare.__code__.co_firstlineno + 1
    assert re.search(rf"norm of the gradient is nan'? \(at {__file__}:{line}, called from .*/cli.py:\d+\); the "
                     rf"traceback is in {log}\n", said)
    assert log.read_text().startswith("Traceback (most recent call last):") and "in _compare" in log.read_text()


def test_a_traceback_that_cannot_be_kept_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gluon_bn, "compare", lambda *arguments, **more: 1 / 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert cli.main(["train", "--examples", "512"]) == 1
    said = capsys.readouterr().err
    assert "its traceback cannot be written: No such file or directory\nTraceback (most recent call last):" in said


def test_an_option_stands_for_the_argument_that_is_wrong_and_for_nothing_else(monkeypatch, capsys):
    def compare(*arguments, **more):
        raise next(errors)

    errors = iter([InputError("must be smaller", "lr"), InputError("lr of the checkpoint is another"),
                   InputError("norm must not be nan", "seeds")])
    monkeypatch.setattr(gluon_bn, "compare", compare)
    for line in ("--lr must be smaller", "lr of the checkpoint is another", "--seed norm must not be nan"):
        assert cli.main(["train", "--examples", "512"]) == 2
        assert capsys.readouterr().err == f"gluon_bn: {line}\n"


def test_errors_on_purpose_have_one_base_and_cross_processes():
    for error in (InputError("must be 1", "lr"), DataUnavailable(" is closed", "root"), NativeError("no compiler"),
                  DataMissing(["a"], [("root", ": no a")], "package")):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
        assert isinstance(copy, GluonBnError) and type(copy) is type(error)
        assert (str(copy), copy.message({"lr": "--lr", "root": "--data"})) == (
            str(error), error.message({"lr": "--lr", "root": "--data"}))
    assert InputError("must be 1", "lr").message({"lr": "--lr"}) == "--lr must be 1"


def test_a_run_that_fails_leaves_its_traceback_in_its_log_and_one_line(tmp_path, monkeypatch):
    def train(*arguments, **more):
        raise ValueError("from deep inside\nNumPy")

    monkeypatch.setattr(run, "train", train)
    sent = []
    task = {"do": "train", "norm": "none", "seed": 3, "folder": str(tmp_path), "batch_size": 64, "root": None,
            "num_train": 128, "pool": "max", "num_epochs": 1, "lr": 1.0}
    run.work(task, sent.append)
    (message,) = sent
    log = tmp_path / "none-3.log"
    assert re.fullmatch(rf"unexpected ValueError: from deep inside \(at {__file__}:\d+, called from .*/run.py:\d+\); "
                        rf"the traceback is in {log}", message["failed"])
    assert "in train_one" in log.read_text() and log.read_text().endswith("ValueError: from deep inside\nNumPy\n")


def test_a_command_runs_in_a_thread_too(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["train", "--epochs", "0"])))
    thread.start()
    thread.join()
    assert codes == [2]
    assert "--epochs must be a whole number" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.fault("standard output is full", tries=1)
def test_a_full_standard_output_is_named():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "gluon_bn", "data"], stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert (done.returncode, done.stderr) == (
        2, "gluon_bn: standard output cannot be written: No space left on device\n")


FAILS = """
import sys
import gluon_bn
from gluon_bn import cli
summary = {"results": [], "interrupted": False, "runs": [{"norm": "none", "seed": 0, "history": [], "failed": "it",
                                                           "diverged": False}]}
gluon_bn.compare = lambda *arguments, **more: (summary, "run")
sys.stdin.readline()  # until the reader has gone
sys.exit(cli.main(["train", "--examples", "512"]))
"""


@pytest.mark.fault("the reader of the results goes away", tries=1)
def test_a_failed_comparison_fails_also_when_its_reader_has_gone():
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", FAILS], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == "gluon_bn: no normalization, seed 0, failed after 0 epochs: it\n"
    assert process.wait(timeout=60) == 1


def test_a_terminal_without_a_character_gets_its_escape(tmp_path):
    out = tmp_path / "résultats"
    done = command("train", "--norm", "none", "--epochs", 1, "--examples", 256, "--out", out,
                   PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    assert "r\\xe9sultats" in done.stdout and (out / "report.md").exists()
    assert json.loads((out / "summary.json").read_text())["runs"][0]["finished"]
