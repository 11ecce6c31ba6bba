"""The main job, in small, on the real data."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from gluon_bn import cli
from gluon_bn.comparison import Configuration
from gluon_bn.plots import plot_curves
from gluon_bn.report import spread, summarize, table

FILES = {"metrics.jsonl", "summary.json", "curves.svg", "curves.png", "report.md"}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_command_writes_all_results(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["compare", "--norms", "none", "fused", "gluon", "--epochs", "1", "--seeds", "0", "1",
                     "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == FILES
    metrics, summary = lines_of(out / "metrics.jsonl"), json.loads((out / "summary.json").read_text())
    assert [(m["norm"], m["seed"], m["epoch"]) for m in metrics] == [
        (norm, seed, 1) for seed in (0, 1) for norm in ("none", "fused", "gluon")]
    assert [run["history"][0]["loss"] for run in summary["runs"]] == [m["loss"] for m in metrics]
    losses = {(m["norm"], m["seed"]): m["loss"] for m in metrics}
    for seed in (0, 1):
        assert abs(losses["fused", seed] - losses["gluon", seed]) < 0.01
        assert losses["none", seed] > losses["fused", seed] + 0.5
    printed, report = capsys.readouterr().out, (out / "report.md").read_text()
    for result in summary["results"]:
        assert f"{result['loss']['median']:.3f}" in printed and f"{result['loss']['median']:.3f}" in report
    assert summary["versions"]["mxnet"] == "1.9.1" and summary["machine"]["cores"] >= 1
    # a second comparison does not overwrite the first
    assert cli.main(["compare", "--out", str(out)]) == 2
    assert "folder without a comparison in it" in capsys.readouterr().err


def test_stopping_keeps_what_is_finished(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gluon_bn", "compare", "--epochs", "1", "--norms", "none", "fused",
               "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not ((out / "metrics.jsonl").exists() and lines_of(out / "metrics.jsonl")):
        time.sleep(0.1)
    time.sleep(3)  # into the next run
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"Stopped; what had finished is in {out}{os.sep}" in printed
    assert "Traceback" not in errors
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] and [result["norm"] for result in summary["results"]] == ["none"]
    assert {path.name for path in out.iterdir()} == FILES
    assert "was stopped" in (out / "report.md").read_text()


@pytest.mark.parametrize("arguments, message", [
    (["--norms", "batch"], "norm must be one of 'none', 'scratch', 'fused', 'gluon'"),
    (["--seeds", "1", "1"], r"seeds must be one or more different ones, got \[1, 1\]"),
    (["--seeds", "-1"], "seeds must be whole numbers from 0"),
    (["--epochs", "0"], "num_epochs must be a whole number >= 1, got 0"),
    (["--lr", "-1"], "lr must be a finite number > 0"),
    (["--batch-size", "0"], "batch_size must be a whole number"),
])
def test_bad_input_is_refused_before_anything_is_written(tmp_path, capsys, arguments, message):
    out = tmp_path / "run"
    assert cli.main(["compare", "--out", str(out), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gluon_bn: ") and re.search(message, captured.err)
    assert not out.exists()


def test_the_summary_is_median_and_range_over_seeds():
    runs = [{"norm": "fused", "seed": seed, "finished": seed < 3, "test_acc_estimated": 0.9, "history": [
        {"loss": 9, "train_acc": 0, "test_acc": 0, "seconds": 9},
        {"loss": loss, "train_acc": 0.5, "test_acc": 0.5, "seconds": 1}]} for seed, loss in enumerate((3, 1, 2, 100))]
    (result,) = summarize(runs)
    assert result["loss"] == {"median": 2, "min": 1, "max": 3}
    assert (result["seeds"], result["epochs"], result["seconds"]["median"]) == (3, 2, 5)
    assert "2.000 (1.000 to 3.000)" in table([result])
    assert spread([1.0]) == {"median": 1.0, "min": 1.0, "max": 1.0}


def test_the_defaults_are_the_chapters():
    configuration = Configuration()
    assert (configuration.num_epochs, configuration.lr, configuration.batch_size) == (10, 1.0, 256)


def drawn(*losses, tmp_path):
    """The points of the curve of the first panel, from one norm's runs with these losses."""
    runs = [{"norm": "fused", "history": [{"loss": x, "train_acc": 0.5, "test_acc": 0.5} for x in history]}
            for history in losses]
    figure = plot_curves(runs)
    figure.savefig(tmp_path / "curves.png")
    return [list(line.get_ydata()) for line in figure.axes[0].lines]


def test_curves_are_drawn_of_whatever_there_is(tmp_path):
    nan = float("nan")
    assert drawn([], tmp_path=tmp_path) == []  # stopped within the first epoch
    assert len(drawn([nan, nan], tmp_path=tmp_path)) == 1  # diverged
    assert drawn([3.0, 2.0], [9.0], tmp_path=tmp_path) == [[3.0, 2.0]]  # a stopped run cuts no other short
    assert drawn([3.0, 2.0], [1.0, 4.0], tmp_path=tmp_path) == [[2.0, 3.0]]
