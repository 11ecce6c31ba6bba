"""Which errors are shown as bad input, and which as unexpected."""

import contextlib
import importlib
import importlib.util
import json
import pickle
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import command
from rights import deprived

import gluon_bn
from gluon_bn import cli
from gluon_bn.comparison import Configuration, comparison, report, run
from gluon_bn.comparison.summary import SideBySide, Summary
from gluon_bn.comparison.task import Task
from gluon_bn.data import DataMissing, DataUnavailable, find_files
from gluon_bn.errors import GluonBnError, InputError, LoadError
from gluon_bn.norm import NativeError
from gluon_bn.training import Checkpoint

DATA = next(iter(find_files().values())).path.parent


@contextlib.contextmanager
def comparison_stopped_before_training(monkeypatch):
    def stop(*arguments):
        raise KeyError("here")

    monkeypatch.setattr(comparison, "run_tasks", stop)
    with pytest.raises(KeyError, match="here"):
        yield


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, KeyError, ZeroDivisionError])
def test_a_bug_is_not_shown_as_bad_input(tmp_path, monkeypatch, capsys, error):
    def compare(*arguments, **more):
        raise error("norm of the gradient is nan")

    monkeypatch.setattr(gluon_bn, "compare", compare)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.main(["train", "--examples", "512"]) == 1
    said = capsys.readouterr().err
    (log,) = tmp_path.glob("gluon_bn-*.traceback.txt")
    assert "--norm" not in said and said.count("\n") == 1
    assert said.startswith(f"gluon_bn: unexpected {error.__name__}: ")
    line = compare.__code__.co_firstlineno + 1
    assert re.search(
        rf"norm of the gradient is nan'? \(at {__file__}:{line}, called from .*/cli.py:\d+\); the "
        rf"traceback is in {log}\n",
        said,
    )
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

    errors = iter(
        [
            InputError("must be smaller", "lr"),
            InputError("lr of the checkpoint is another"),
            InputError("norm must not be nan", "seeds"),
        ]
    )
    monkeypatch.setattr(gluon_bn, "compare", compare)
    for line in ("--lr must be smaller", "lr of the checkpoint is another", "--seed norm must not be nan"):
        assert cli.main(["train", "--examples", "512"]) == 2
        assert capsys.readouterr().err == f"gluon_bn: {line}\n"


def test_errors_on_purpose_have_one_base_and_cross_processes():
    for error in (
        InputError("must be 1", "lr"),
        DataUnavailable(" is closed", "root"),
        NativeError("no compiler"),
        DataMissing(["a"], [("root", ": no a")], "package"),
    ):
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
        assert isinstance(copy, GluonBnError) and type(copy) is type(error)
        assert (str(copy), copy.message({"lr": "--lr", "root": "--data"})) == (
            str(error),
            error.message({"lr": "--lr", "root": "--data"}),
        )
    assert InputError("must be 1", "lr").message({"lr": "--lr"}) == "--lr must be 1"


def test_a_run_that_fails_leaves_its_traceback_in_its_log_and_one_line(tmp_path, monkeypatch):
    def train(*arguments, **more):
        raise ValueError("from deep inside\nNumPy")

    monkeypatch.setattr(run, "train", train)
    sent = []
    configuration = Configuration(norms=["none"], seeds=[3], num_epochs=1, batch_size=64, num_train=128)
    run.run_task(Task(configuration, "none", 3, str(tmp_path), None, {}), sent.append)
    (message,) = sent
    log = tmp_path / "none-3.log"
    assert re.fullmatch(
        rf"unexpected ValueError: from deep inside \(at {__file__}:\d+, called from .*/run.py:\d+\); "
        rf"the traceback is in {log}",
        message.reason,
    )
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
        done = subprocess.run(
            [sys.executable, "-m", "gluon_bn", "data"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (
        2,
        "gluon_bn: standard output cannot be written: No space left on device\n",
    )


FAILS = """
import sys
import gluon_bn
from gluon_bn import cli
from gluon_bn.comparison import Configuration
from gluon_bn.comparison.summary import Run, Summary
summary = Summary(Configuration(), None, False, {}, {}, 1, [Run("none", 0, [], failed="it")])
gluon_bn.compare = lambda *arguments, **more: (summary.content(), "run")
sys.stdin.readline()  # until the reader has gone
sys.exit(cli.main(["train", "--examples", "512"]))
"""


@pytest.mark.fault("the reader of the results goes away", tries=1)
def test_a_failed_comparison_fails_also_when_its_reader_has_gone():
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FAILS],
        stdin=subprocess.PIPE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == "gluon_bn: no normalization, seed 0, failed after 0 epochs: it\n"
    assert process.wait(timeout=60) == 1


TRAIN = ("train", "--norm", "none", "--epochs", 1, "--examples", 256, "--out")  # and a folder


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["1", "2", "1 2", "0 1 2"])
@pytest.mark.fault("a shell has closed standard output or error")
def test_a_closed_standard_output_or_error_is_no_error(tmp_path, closed):
    redirections = " ".join(f"{number}>&-" for number in closed.split())
    done = command(*TRAIN, tmp_path / "run", inside=("sh", "-c", f'exec "$@" {redirections}', "sh"))
    assert done.returncode == 0, done.stderr
    assert "unexpected" not in done.stdout + done.stderr
    assert (tmp_path / "run" / "report.md").exists()


@pytest.mark.slow
def test_a_terminal_without_a_character_gets_its_escape(tmp_path):
    out = tmp_path / "résultats"
    done = command(*TRAIN, out, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    assert "r\\xe9sultats" in done.stdout and (out / "report.md").exists()
    assert json.loads((out / "summary.json").read_text())["runs"][0]["finished"]


def test_each_broad_except_says_why():
    """A broad except hides bugs: the line must say what it is for."""
    top = Path(__file__).resolve().parents[1]
    for path in {*top.glob("gluon_bn/**/*.py"), *top.glob("tools/*.py")}:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"\s*except\b.*\b(Base)?Exception\b|\s*except\b.*\bValueError\b|\s*except:", line):
                assert re.search(r":  # \S", line), f"{path}: {line.strip()}"


@pytest.fixture
def begun(tmp_path):
    """The folder of a comparison that has been begun, and has trained nothing yet."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "configuration.json").write_text('{"norms": ["none"], "seeds": [0], "num_epochs": 1, "num_train": 256}')
    return out


@pytest.mark.parametrize(
    "content, why",
    [
        (
            '{"norms": ["none"], "optimizer": "adam"}',
            r"has optimizer, which this version, \S+, does not know; "
            "continue with the version that started it, or start anew",
        ),
        ("[1, 2]", r"is damaged: it must hold a JSON object, got \[1, 2\]; start anew"),
        ('"a text"', 'is damaged: it must hold a JSON object, got "a text"; start anew'),
        ('{"lr": "fast"}', "is damaged: lr must be a finite number > 0, got 'fast'"),
        ('{"norms": [["none"]]}', r"is damaged: norms must be one of .*; got \['none'\]"),
        ('{"norms": 3}', "is damaged: norms must be a tuple"),
        ('{"norms"', "is damaged: Expecting ':' delimiter"),
        ("\xff", "is damaged: it is not text"),
    ],
)
@pytest.mark.fault("a configuration that is damaged, or of another version")
def test_a_configuration_that_cannot_be_gone_on_with_is_named(begun, capsys, content, why):
    (begun / "configuration.json").write_bytes(content.encode("latin-1"))
    assert cli.main(["compare", "--resume", str(begun)]) == 2
    said = capsys.readouterr().err
    assert re.match(
        f"gluon_bn: --resume must be the folder of a comparison, got {begun}, whose configuration.json {why}", said
    ), said


@pytest.mark.parametrize(
    "closed, mode, said",
    [
        (
            "configuration.json",
            0,
            "the folder of a comparison, got {begun}, whose configuration.json cannot be read: "
            "Permission denied; check its permissions",
        ),
        (
            "summary.json",
            0o200,
            "a folder whose files can be read, got {begun}: summary.json cannot be: Permission "
            "denied; check its permissions",
        ),
        (
            ".",
            0,
            "the folder of a comparison, got {begun}, whose configuration.json cannot be read: Permission denied; "
            "check its permissions",
        ),
        (".", 0o555, "a folder that can be written, got {begun}: Permission denied; check its permissions"),
        ("nets", 0o555, "a folder that can be written, got {begun}: Permission denied; check its permissions"),
    ],
)
@pytest.mark.fault("a folder or file of a comparison to go on with that cannot be read or written")
def test_what_cannot_be_read_or_written_of_a_comparison_is_named(begun, capsys, closed, mode, said):
    (begun / "nets").mkdir()
    (begun / "summary.json").write_text('{"jobs": 2}')
    (begun / closed).chmod(mode)
    try:
        with deprived("dac_override", "dac_read_search"):
            assert cli.main(["compare", "--resume", str(begun)]) == 2
    finally:
        begun.chmod(0o755)
        (begun / closed).chmod(0o755)
    assert capsys.readouterr().err == f"gluon_bn: --resume must be {said.format(begun=begun)}\n"
    assert (begun / "summary.json").read_text() == '{"jobs": 2}'


@pytest.mark.fault("a checkpoint that cannot be read", tries=1)
def test_a_checkpoint_that_cannot_be_read_is_named(begun, capsys):
    (begun / "nets").mkdir()
    checkpoint = begun / "nets" / "none-0.checkpoint"
    checkpoint.write_bytes(b"")
    checkpoint.chmod(0)
    with deprived("dac_override", "dac_read_search"):
        assert cli.main(["compare", "--resume", str(begun)]) == 2
    assert capsys.readouterr().err == (
        f"gluon_bn: the checkpoint {checkpoint} cannot be read: Permission denied; check its permissions\n"
    )


@pytest.mark.fault("a file of the benchmark in a folder that may not be written", tries=1)
def test_a_folder_without_the_right_to_write_is_not_called_read_only(tmp_path, capsys):
    tmp_path.chmod(0o555)
    with deprived("dac_override"):
        assert cli.main(["bench", "--quick", "--parts", "layers", "--json", str(tmp_path / "x.json")]) == 2
    tmp_path.chmod(0o755)
    assert capsys.readouterr().err == (
        f"gluon_bn: --json must be a file that can be written, got {tmp_path}/x.json: Permission denied; name another\n"
    )


@pytest.mark.parametrize("option", ["--out", "--resume", "--data"])
def test_an_empty_path_is_refused_and_a_tilde_is_the_home_folder(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--examples", "256", option, ""]) == 2
    assert re.match(rf"gluon_bn: {option} must be .*folder.*, got ''; ", capsys.readouterr().err)
    assert cli.main(["train", "--examples", "256", option, "~no such user/x"]) == 2
    assert f"{option} must be" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_home_folder_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with comparison_stopped_before_training(monkeypatch):
        gluon_bn.compare(Configuration(norms=["none"], seeds=[0], num_train=256), "~/x", DATA, progress=False)
    assert (tmp_path / "home" / "x" / "configuration.json").exists() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("batch_size, num_train, most", [(100_000, 512, "512"), (100_000, None, "60,000")])
def test_a_minibatch_of_more_than_all_examples_is_refused(batch_size, num_train, most):
    with pytest.raises(
        InputError,
        match=f"^batch_size must be at most the number of training examples, {most}, got 100,000; use smaller",
    ):
        Configuration(batch_size=batch_size, num_train=num_train)


def test_an_epoch_beside_the_others_is_of_the_examples_that_are_trained_on():
    measured = SideBySide(10, {"scratch": 1.0, "fused": 1.0}, {"scratch": 0.25, "fused": 0.01})
    for num_train, words in (2560, "250 ms each, or 2.5 s per epoch."), (None, "or 58.8 s per epoch."):
        summary = Summary(Configuration(batch_size=256, num_train=num_train), measured, False, {}, {}, 1, [])
        assert report.beside(summary).endswith(words)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gluon_bn.lenet(["fused"]), r"norm must be one of .*; got \['fused'\]"),
        (lambda: gluon_bn.lenet(pool=["max"]), r"pool must be one of .*; got \['max'\]"),
        (lambda: Configuration(norms=[["fused"]]), r"norms must be one of .*; got \['fused'\]"),
        (lambda: Configuration(seeds=[[0]]), r"seeds must be whole numbers from 0 to .*, got \[0\]"),
        (lambda: Configuration(pool={}), r"pool must be one of .*; got {}"),
        (lambda: Checkpoint("a path", {}), "configuration must be a dict of what is trained, with its seed"),
        (lambda: gluon_bn.train(None, [1], [1], 1, 0.1, on_epoch=5), "on_epoch|train_iter"),
    ],
)
def test_values_of_a_wrong_type_are_named_before_anything_runs(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_bug_within_an_import_is_not_hidden_behind_another_error(monkeypatch):
    class Finder:
        def __init__(self, code):
            self.code = code

        def find_spec(self, name, path=None, target=None):
            if name == "gluon_bn.model":
                return importlib.util.spec_from_loader(name, self)

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            exec(self.code, module.__dict__)

    for code, error in (
        ("missing_name", NameError),
        ("import gluon_bn.no_such_module", ModuleNotFoundError),
        ("import no_such_package", LoadError),
        ("import json; json.loads('')", LoadError),
    ):
        monkeypatch.delitem(sys.modules, "gluon_bn.model", raising=False)
        monkeypatch.delitem(vars(gluon_bn), "lenet", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder(code), *sys.meta_path])
        with pytest.raises(error):
            gluon_bn.lenet  # noqa: B018
