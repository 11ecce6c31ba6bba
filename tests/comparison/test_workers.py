"""`train --workers`: the scheduler, the server and the workers, each a process of its own."""

import json

import psutil
import pytest

from gluon_bn import cli, compare
from gluon_bn.comparison import Configuration

SMALL = {"norms": ("sync",), "seeds": (0,), "num_epochs": 1, "lr": 0.1, "num_train": 1280, "batch_size": 64}


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_workers_have_the_losses_of_one(tmp_path):
    """After 20 steps. At a higher rate, rounding would grow: fused_batch_norm's two paths then differ by 2e-3."""
    found = {}
    for workers in (1, 2, 4):
        summary, out = compare(Configuration(**SMALL), tmp_path / str(workers), progress=False, workers=workers)
        assert not summary["runs"][0]["failed"] and (out / "nets" / "sync-0.params").exists()
        assert summary["machine"].get("workers", 1) == workers
        (found[workers],) = losses(out)
    assert found[2] == pytest.approx(found[1], abs=1e-4)
    assert found[4] == pytest.approx(found[1], abs=1e-4)
    assert not [
        process for process in psutil.Process().children(recursive=True) if "gluon_bn" in str(process.cmdline())
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--workers", "0"], "--workers must be a whole number of at least 1, got 0"),
        (
            ["--workers", "9", "--examples", "100", "--batch-size", "92"],
            "--workers must be at most the number of examples of the smallest minibatch, 8, got 9; take fewer workers",
        ),
    ],
)
@pytest.mark.fault("a number of workers that cannot share the minibatches", tries=1)
def test_a_wrong_number_of_workers_is_refused(arguments, message, tmp_path, capsys):
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"gluon_bn: {message}") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
