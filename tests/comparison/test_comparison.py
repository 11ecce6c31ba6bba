"""The main job, at a small size, on the real data."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import psutil
import pytest
from commands import lines, python, started

from gluon_bn import cli, compare
from gluon_bn.comparison import Configuration, comparison, folder
from gluon_bn.comparison.plots import plot_curves
from gluon_bn.comparison.report import caption, failures, markdown, minutes, table, three_digits
from gluon_bn.comparison.summary import Run, Spread, Summary, spread, summarize, time_left
from gluon_bn.drawing import LABELS
from gluon_bn.errors import InputError
from gluon_bn.system.interpreter import command_line
from gluon_bn.system.processes import run_tasks
from gluon_bn.training import Epoch

FILES = {"configuration.json", "metrics.jsonl", "nets", "summary.json", "curves.svg", "curves.png", "report.md"}


def measured(out):
    """What the lines say, apart from the seconds: {(norm, seed, epoch): (loss, train_acc, test_acc)}."""
    found = map(json.loads, lines(out))
    return {(m["norm"], m["seed"], m["epoch"]): (m["loss"], m["train_acc"], m["test_acc"]) for m in found}


@pytest.mark.slow
def test_the_command_writes_all_results(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        cli.main(
            ["compare", "--norms", "none", "fused", "gluon", "--epochs", "1", "--seeds", "0", "1", "--out", str(out)]
            + ["--examples", "12800"]
        )
        == 0
    )
    assert {path.name for path in out.iterdir()} == FILES
    metrics, summary = measured(out), json.loads((out / "summary.json").read_text())
    assert set(metrics) == {(norm, seed, 1) for seed in (0, 1) for norm in ("none", "fused", "gluon")}
    assert {(run["norm"], run["seed"], 1): run["history"][0]["loss"] for run in summary["runs"]} == {
        key: loss for key, (loss, _, _) in metrics.items()
    }
    for seed in (0, 1):
        losses = {norm: metrics[norm, seed, 1][0] for norm in ("none", "fused", "gluon")}
        assert abs(losses["fused"] - losses["gluon"]) < 0.01
        assert losses["none"] > losses["fused"] + 0.5
    printed, report = capsys.readouterr().out, (out / "report.md").read_text()
    for result in summary["results"]:
        assert f"{result['loss']['median']:.3f}" in printed and f"{result['loss']['median']:.3f}" in report
    assert summary["versions"]["mxnet"] == "1.9.1" and summary["machine"]["cores"] >= 1
    # resuming a finished comparison trains nothing, and keeps what was measured beside it
    assert cli.main(["compare", "--resume", str(out)]) == 0
    assert json.loads((out / "summary.json").read_text()) == summary and summary["beside"]["minibatches"] == 24
    assert capsys.readouterr().err == f"Every run in {out} has finished\n"
    # a second comparison does not overwrite the first
    assert cli.main(["compare", "--out", str(out)]) == 2
    assert "gluon_bn: --out must be a folder without results in it" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_at_the_same_time_come_to_the_same_as_runs_in_order(tmp_path):
    configuration = Configuration(norms=("fused",), seeds=(0, 1), num_epochs=2, num_train=1024)
    for jobs in (1, 2):
        summary, out = compare(configuration, tmp_path / str(jobs), progress=False, jobs=jobs)
        assert summary["jobs"] == jobs
    assert measured(tmp_path / "1") == measured(tmp_path / "2")
    assert [json.loads(line)["seed"] for line in lines(tmp_path / "1")] == [0, 0, 1, 1]


def start(out, *arguments):
    """The command in a process of its own, when the first epoch is in the metrics: (process, its runs' processes)."""
    process = started(out, "compare", *arguments)
    return process, psutil.Process(process.pid).children()


def gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not alive


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault("Ctrl-C or SIGTERM while a comparison trains", tries=1)
def test_stopping_keeps_what_is_finished(tmp_path, signum):
    out = tmp_path / "run"
    # the first run is over soon after its epoch, the second is not
    process, children = start(out, "--jobs", "1", "--epochs", "1", "--norms", "none", "fused", "--examples", "20000")
    first, children = children, []
    while not children or children == first:
        time.sleep(0.1)
        children = psutil.Process(process.pid).children()
    # Ctrl-C goes to all processes of a terminal's group; what stops a service, to one
    (os.killpg if signum == signal.SIGINT else os.kill)(process.pid, signum)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"Stopped; what had finished is in {out}{os.sep}" in printed
    assert "Traceback" not in errors
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] and [result["norm"] for result in summary["results"]] == ["none"]
    assert {path.name for path in out.iterdir()} == FILES
    assert "was stopped" in (out / "report.md").read_text()
    assert gone(children)


@pytest.mark.slow
@pytest.mark.fault("the command is killed while two runs train", tries=1)
def test_no_run_outlives_the_command(tmp_path):
    process, children = start(tmp_path / "run", "--jobs", "2", "--epochs", "99", "--examples", "1024")
    assert len(children) == 2
    process.kill()
    process.communicate()
    assert gone(children)


def test_a_run_whose_command_was_stopped_while_it_started_ends_in_silence():
    done = python("-m", "gluon_bn.comparison.run")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


TALKER = """
from gluon_bn.system.processes import serve_task

def work(task, send):
    while True:
        send({"said": task})

serve_task(work)
"""


def test_processes_that_are_stopped_while_they_speak_end_in_silence(tmp_path, monkeypatch):
    (tmp_path / "talker.py").write_text(TALKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    errors = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    for _ in range(10):
        before = set(threading.enumerate())
        with contextlib.closing(run_tasks("talker", [0, 1, 2], 3, {})) as messages:
            for _ in range(100):
                next(messages)
            listeners = set(threading.enumerate()) - before
        for listener in listeners:
            listener.join()
    assert len(listeners) == 3 and not errors


@pytest.mark.slow
@pytest.mark.fault("one run of several is killed", tries=1)
def test_a_run_that_fails_is_marked_and_the_others_go_on(tmp_path):
    out, data = tmp_path / "a run", tmp_path / "data"
    data.mkdir()
    arguments = "--jobs 1 --seeds 0 --epochs 4 --norms none gluon --examples 4096".split()
    process, (child,) = start(out, *arguments, "--data", str(data))
    child.kill()
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no normalization, seed 0, failed after" in errors and "killed by SIGKILL" in errors
    assert "no normalization (1 of 1 failed)" in printed
    assert f"{command_line('compare', '--resume', str(out), '--data', str(data))}\n" in printed
    summary, report = json.loads((out / "summary.json").read_text()), (out / "report.md").read_text()
    assert [(run["norm"], run["finished"]) for run in summary["runs"]] == [("none", False), ("gluon", True)]
    assert "killed by SIGKILL" in report and "training examples: 4,096;" in report


QUITTER = """
import os
from gluon_bn.system.processes import serve_task

def work(task, send):
    send({"Failed": {"reason": "the reason"}})
    os._exit(3)

serve_task(work)
"""


def test_of_a_run_that_says_why_and_then_crashes_the_reason_is_kept(tmp_path, monkeypatch, capsys):
    (tmp_path / "quitter.py").write_text(QUITTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(comparison, "run_tasks", lambda module, *rest: run_tasks("quitter", *rest))
    summary, _ = compare(Configuration(norms=["none"], seeds=[0]), tmp_path / "run")
    assert [run["failed"] for run in summary["runs"]] == ["the reason"]
    assert capsys.readouterr().err.splitlines()[1:] == ["none, seed 0: the reason"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--norms", "batch"], "--norms must be one of 'none', 'scratch', 'fused', 'sync', 'gluon'; got 'batch'\n"),
        (["--data", "/no/where"], "--data must be an existing folder, got /no/where; leave it out"),
        (["--seeds", "1", "1"], r"--seeds must be non-empty, without duplicates, got \[1, 1\]"),
        (["--seeds", "-1"], "--seeds must be whole numbers from 0"),
        (["--epochs", "0"], "--epochs must be a whole number of at least 1, got 0"),
        (["--lr", "-1"], "--lr must be a finite number > 0"),
        (["--lr", "nan"], "--lr must be a finite number > 0"),
        (["--batch-size", "0"], "--batch-size must be a whole number"),
        (["--batch-size", "59999"], "--batch-size must not leave a minibatch of a single example, .* got 59999"),
        (["--batch-size", "1"], "--batch-size must not leave a minibatch of a single example"),
        (["--batch-size", "64", "--examples", "129"], "--batch-size must not leave .* got 64 for 129 examples"),
        (["--examples", "60001"], "--examples must be a whole number from 1 to 60,000"),
        (["--jobs", "0"], "--jobs must be a whole number"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys, arguments, message):
    out = tmp_path / "run"
    assert cli.main(["compare", "--out", str(out), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gluon_bn: ") and re.search("gluon_bn: " + message, captured.err), captured.err
    assert not out.exists()


@pytest.mark.fault("a folder with files that the results would replace", tries=1)
@pytest.mark.parametrize("name", ["report.md", "nets"])
def test_what_is_there_is_never_written_over(tmp_path, capsys, name):
    (tmp_path / name).mkdir() if name == "nets" else (tmp_path / name).write_text("my own")
    assert cli.main(["compare", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"gluon_bn: --out must be a folder without results in it, got {tmp_path}, which has {name}; name a new one\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.fault("two commands that begin in one folder", tries=20)
def test_of_two_that_begin_in_one_folder_one_is_refused(tmp_path):
    def begin(i):
        try:
            with folder.create(tmp_path / str(i // 2), Configuration()):
                return "begun"
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(begin, range(40)))
    assert answers.count("begun") == 20
    for answer in answers:
        assert re.match("begun|out must be a folder (without results in it|that no other process uses)", answer)


def test_an_error_while_a_folder_is_locked_is_not_taken_for_another_process(tmp_path):
    with pytest.raises(BlockingIOError, match="from within"):
        with folder.locked(tmp_path):
            raise BlockingIOError(11, "from within")
    with folder.locked(tmp_path), pytest.raises(InputError, match="^resume must be a folder that no other process use"):
        with folder.locked(tmp_path):
            pass


@pytest.mark.parametrize("below", ["a file", "a file/run", "a link to nowhere/run"])
def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path, capsys, below):
    (tmp_path / "a file").touch()
    (tmp_path / "a link to nowhere").symlink_to(tmp_path / "nowhere")
    out = tmp_path / below
    assert cli.main(["compare", "--out", str(out)]) == 2
    assert re.fullmatch(
        f"gluon_bn: --out must be a folder that can be written, got {out}: "
        "(File exists|Not a directory|No such file or directory); name another\n",
        capsys.readouterr().err,
    )


def test_a_configuration_takes_numpys_numbers_and_lists_and_refuses_what_is_neither():
    given = Configuration(
        norms=["fused"],
        num_epochs=numpy.int64(3),
        lr=numpy.float32(0.5),
        seeds=numpy.arange(2),
        batch_size=numpy.int32(64),
        num_train=numpy.int16(640),
    )
    plain = Configuration(("fused",), 3, 0.5, 64, (0, 1), num_train=640)
    assert given == plain and json.dumps(dataclasses.asdict(given)) == json.dumps(dataclasses.asdict(plain))
    with pytest.raises(ValueError, match=r"seeds must be a tuple, got 3; write \(3,\) for a single value"):
        Configuration(seeds=3)
    with pytest.raises(ValueError, match=r"norms must be a tuple, got 'fused'; write \('fused',\) for a single value"):
        Configuration(norms="fused")


@pytest.mark.slow
@pytest.mark.fault("the reader of the progress goes away", tries=1)
def test_a_training_goes_on_when_nobody_reads_its_progress(tmp_path):
    out = tmp_path / "run"
    process, _ = start(out, "--norms", "none", "--seeds", "0", "--epochs", "4", "--examples", "512")
    assert process.stderr.readline() == f"The results go to {out}; to continue after an interruption: --resume {out}\n"
    process.stderr.close()
    with process.stdout:
        assert process.stdout.read().endswith("metrics.jsonl, nets\n")
    assert process.wait() == 0
    assert len(lines(out)) == 4


def test_an_option_that_is_not_known_shows_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--epchs", "3"])
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.startswith("usage: gluon_bn train [-h] [--norm NORM]")
    assert errors.endswith("gluon_bn train: error: unrecognized arguments: --epchs 3\n")


@pytest.mark.fault("the data is damaged", tries=1)
def test_a_start_that_fails_for_want_of_data_leaves_the_folder_free(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-images-idx3-ubyte").write_bytes(b"short")
    arguments = ["compare", "--out", str(tmp_path / "run"), "--data", str(tmp_path / "data")]
    for _ in range(2):  # the second time is no other than the first
        assert cli.main(arguments) == 2
        assert capsys.readouterr().err.startswith("gluon_bn: --data holds a wrong file")
        assert not (tmp_path / "run").exists()


@pytest.mark.fault("the compiled operator is asked for and cannot be had, or the wish is misspelt", tries=1)
@pytest.mark.parametrize(
    "wish, message",
    [
        ("native", "gluon_bn: GLUON_BN_FUSED=native, but /no/compiler cannot be run"),
        ("nativ", "gluon_bn: GLUON_BN_FUSED must be native, portable or auto, got 'nativ'"),
    ],
)
def test_an_operator_that_cannot_be_had_is_refused_in_one_line_before_anything_is_written(
    tmp_path, undecided, capsys, wish, message
):
    undecided(GLUON_BN_FUSED=wish, CXX="/no/compiler")
    assert cli.main(["compare", "--out", str(tmp_path / "run")]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith(message) and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_train_names_its_own_arguments(tmp_path, capsys):
    for arguments, message in ((["--norm", "batch"], "--norm must be one of"), (["--seed", "-1"], "--seed must be")):
        assert cli.main(["train", "--out", str(tmp_path / "run"), *arguments]) == 2
        assert capsys.readouterr().err.startswith(f"gluon_bn: {message}")


@pytest.mark.parametrize("command", ["compare", "train"])
def test_the_help_says_what_the_table_calls_each_norm(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for norm in ("none", "scratch", "fused", "gluon"):
        assert f"{norm} ({LABELS[norm]})" in printed


def test_the_summary_is_median_and_range_over_seeds():
    histories = [[Epoch(1, 9, 0, 0, 9, 1), Epoch(2, loss, 0.5, 0.5, 1, 1)] for loss in (3, 1, 2, 100)]
    runs = [Run("fused", seed, history, seed < 3, test_acc_estimated=0.9) for seed, history in enumerate(histories)]
    (result,) = summarize(runs)
    assert result.loss == Spread(median=2, min=1, max=3)
    assert (result.seeds, result.epochs, result.seconds.median) == (3, 2, 5)
    assert "2.000 (1.000 to 3.000)" in table([result])
    assert spread([1.0]) == Spread(median=1.0, min=1.0, max=1.0)


def test_a_norm_whose_runs_all_failed_has_a_row_without_numbers():
    runs = [Run("none", 0, [], failed="no room")]
    assert "no normalization (1 of 1 failed)  -" in table(summarize(runs))
    summary = Summary(Configuration(), None, False, {}, {}, None, runs)
    assert failures(summary) == ["no normalization, seed 0, failed after 0 epochs: no room"]


def test_the_caption_says_how_many_runs_shared_the_machine():
    assert caption(2).endswith("Seconds: with 2 runs at a time.")
    assert caption(1).endswith("Seconds: one run at a time.")
    assert caption(None).endswith("Seconds: measured with interruptions, so they may not be comparable.")


@pytest.mark.parametrize("number, text", [(0.24649, "0.246"), (9999, "9999.000"), (1.01e31, "1.01e+31")])
def test_numbers_have_three_digits_however_large_they_are(number, text):
    assert three_digits(number) == text


def test_the_defaults_are_the_chapters():
    configuration = Configuration()
    assert (configuration.num_epochs, configuration.lr, configuration.batch_size) == (10, 1.0, 256)


def drawn(*losses, tmp_path):
    """The points of the curve of the first panel, from one norm's runs with these losses."""
    runs = [
        {"norm": "fused", "history": [{"loss": x, "train_acc": 0.5, "test_acc": 0.5} for x in history]}
        for history in losses
    ]
    figure = plot_curves(runs)
    figure.savefig(tmp_path / "curves.png")
    return [list(line.get_ydata()) for line in figure.axes[0].lines]


def test_curves_are_drawn_of_whatever_there_is(tmp_path):
    nan = float("nan")
    assert drawn([], tmp_path=tmp_path) == []  # stopped within the first epoch
    assert len(drawn([nan, nan], tmp_path=tmp_path)) == 1  # diverged
    assert drawn([3.0, 2.0], [9.0], tmp_path=tmp_path) == [[3.0, 2.0]]  # a stopped run cuts no other short
    assert drawn([3.0, 2.0], [1.0, 4.0], tmp_path=tmp_path) == [[2.0, 3.0]]


def test_the_time_left_comes_from_the_epochs_measured():
    history = [Epoch(1, 2.3, 0.1, 0.1, 5.0, 1)]
    runs = [Run("none", 0, history), Run("fused", 0, []), Run("none", 1, [], failed="no room")]
    # left: 2 epochs of none at 5 s, and 3 of fused, also at 5 s for want of a measurement; 5 s of training took 8 s
    assert time_left(runs, 3, [("none", 5.0)], 8.0) == (2 * 5 + 3 * 5) * 8 / 5
    assert time_left(runs, 3, [("none", 5.0), ("fused", 10.0)], 8.0) == pytest.approx((2 * 5 + 3 * 10) * 8 / 15)


@pytest.mark.parametrize("seconds, text", [(3, "about 10 s"), (44, "about 40 s"), (95, "about 2 min")])
def test_the_time_left_in_words(seconds, text):
    assert minutes(seconds) == text


def test_after_each_seed_the_results_so_far_are_shown_and_marked(tmp_path, monkeypatch, capsys):
    written = []
    monkeypatch.setattr(comparison, "_write", lambda out, summary, partial=False: written.append(partial))

    def run_tasks(module, tasks, jobs, environment):
        for i, (loss, reason) in enumerate([(2.0, None), (1.0, None), (None, "no room"), (3.0, None)]):
            if loss:
                epoch = Epoch(1, loss, 0.5, 0.5, 7.0, 1)
                yield i, {"Epoch": dataclasses.asdict(epoch)}
            yield i, {"Failed": {"reason": reason}} if reason else {"Finished": {"test_acc_estimated": None}}

    monkeypatch.setattr(comparison, "run_tasks", run_tasks)
    compare(Configuration(norms=["none", "gluon"], seeds=[0, 1], num_epochs=1), tmp_path / "run")
    assert written == [True, False]
    said = capsys.readouterr().err
    assert said.count("Partial result") == 1 and "Partial result, 2 of 4 runs; about" in said
    table_of_seed_0 = said[said.index("Partial result") :]
    assert re.search(r"no normalization +2\.000 .*\n.*gluon.nn.BatchNorm +1\.000 ", table_of_seed_0)
    assert "loss 2.000, train acc 0.500, test acc 0.500, 7.0 s; about" in said
    summary = Summary(Configuration(), None, True, {}, {"processor": "", "cores": 1}, None, [])
    assert "still running" in markdown(summary, is_partial=True) and "stopped" in markdown(summary)
