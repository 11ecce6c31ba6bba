"""An interrupted training continues as if nothing had happened, or says why it cannot."""

import dataclasses
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
from commands import command, lines, started
from faults import repeated
from mxnet import nd
from small_disk import small_disk

from gluon_bn import cli, compare, lenet, load_data_fashion_mnist, train
from gluon_bn.comparison import Configuration
from gluon_bn.errors import InputError
from gluon_bn.training import seed_everything
from gluon_bn.training.checkpoint import MAGIC, Checkpoint

CONFIGURATION = {"norm": "fused", "seed": 0, "lr": 1.0}


def metrics(history):
    """The history without the seconds."""
    return [(epoch.epoch, epoch.loss, epoch.train_acc, epoch.test_acc) for epoch in history]


def trained(norm, num_epochs, checkpoint=None, seed=0):
    seed_everything(seed)
    net = lenet(norm)
    data = load_data_fashion_mnist(64, num_train=256, num_test=100)
    return net, train(net, *data, num_epochs, lr=1.0, progress=False, checkpoint=checkpoint)


@pytest.mark.parametrize("norm", ["none", "scratch", "fused", "gluon"])
def test_a_training_goes_on_from_a_checkpoint_to_the_same_metrics_and_weights_bit_for_bit(tmp_path, norm):
    expected_net, expected = trained(norm, 3)
    path = tmp_path / "run.checkpoint"
    trained(norm, 1, Checkpoint(path, CONFIGURATION))
    numpy.random.rand(5)  # whatever happens in between
    net, history = trained(norm, 3, Checkpoint(path, CONFIGURATION), seed=1)
    assert metrics(history) == metrics(expected)
    values = [
        [parameter.data().asnumpy() for parameter in each._collect_params_with_prefix().values()]
        for each in (net, expected_net)
    ]
    for ours, theirs in zip(*values):
        numpy.testing.assert_array_equal(ours, theirs)


def test_dropout_too_goes_on_as_it_would_have(tmp_path):
    def drop(num_features, num_dims):
        from mxnet.gluon import nn

        return nn.Dropout(0.2)

    _, expected = trained(drop, 3, Checkpoint(tmp_path / "whole", CONFIGURATION))
    trained(drop, 1, Checkpoint(tmp_path / "parts", CONFIGURATION))
    _, history = trained(drop, 3, Checkpoint(tmp_path / "parts", CONFIGURATION))
    assert metrics(history) == metrics(expected)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "run.checkpoint"
    trained("fused", 1, Checkpoint(path, CONFIGURATION))
    return path


@pytest.fixture
def path(checkpoint, tmp_path):
    return Path(shutil.copy(checkpoint, tmp_path))


@pytest.mark.fault("a checkpoint is damaged: cut off, changed, empty, another file", tries=5)
def test_a_damaged_checkpoint_is_refused_by_name(path):
    good = path.read_bytes()
    middle = len(good) // 2
    for bad in (
        good[:middle],
        good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        b"",
        b"\n",
        b"\x93NUMPY" + bytes(100),
    ):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=f"the checkpoint {path} is damaged: .* remove it to train this run anew"):
            trained("fused", 2, Checkpoint(path, CONFIGURATION))


class Trap:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.fault("a checkpoint carries a pickle that would run a program", tries=1)
def test_nothing_in_a_checkpoint_is_unpickled(path):
    packed = io.BytesIO()
    numpy.savez(packed, content=numpy.array([Trap()], dtype=object))
    digest = hashlib.sha256(packed.getvalue()).hexdigest().encode()
    path.write_bytes(MAGIC + digest + b"\n" + packed.getvalue())
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        Checkpoint(path, CONFIGURATION).peek()


@pytest.mark.fault("a checkpoint of another configuration or net", tries=3)
def test_a_checkpoint_of_another_configuration_or_net_is_refused_by_name(path):
    with pytest.raises(ValueError, match="is of another configuration: lr must be 0.5, got 1.0; train with lr 1.0"):
        trained("fused", 2, Checkpoint(path, {**CONFIGURATION, "lr": 0.5}))
    with pytest.raises(ValueError, match="must hold the parameters of this net on its devices, got others"):
        trained("none", 2, Checkpoint(path, CONFIGURATION))
    net = lenet("fused", num_classes=7)
    net.initialize()
    with pytest.raises(ValueError, match=r"must hold 14.weight of shape \(7, .*, as this net has it, got \(10, 84\)"):
        Checkpoint(path, CONFIGURATION).load(net)


@pytest.mark.fault("bad input to Checkpoint", tries=9)
def test_bad_input_is_refused_before_anything_is_trained(tmp_path):
    for bad in (tmp_path, 5, None):
        with pytest.raises(InputError, match="^path must be a file to write, got "):
            Checkpoint(bad, CONFIGURATION)
    for bad in ({}, None, {"seed": "0"}, {"seed": True}, {"seed": 0, "fn": print}, {"seed": 0, "lr": float("nan")}):
        with pytest.raises(InputError, match="^configuration must "):
            Checkpoint(tmp_path / "run", bad)


def test_a_configuration_is_compared_as_it_was_written(tmp_path):
    """A tuple comes back from JSON as a list, and a number of NumPy's as one of Python's."""
    configuration = {"seed": numpy.int64(0), "sizes": (6, numpy.float64(0.5))}
    for num_epochs in (1, 2):
        _, history = trained("fused", num_epochs, Checkpoint(str(tmp_path / "run"), configuration))
    assert len(history) == 2


@pytest.mark.fault("a checkpoint that cannot be read or written", tries=3)
def test_a_checkpoint_that_cannot_be_read_or_written_says_why(tmp_path, path):
    os.chmod(path, 0)
    if os.geteuid() != 0:  # root reads everything
        with pytest.raises(InputError, match=f"the checkpoint {path} cannot be read: Permission denied"):
            Checkpoint(path, CONFIGURATION).peek()
    checkpoint = Checkpoint(tmp_path / "folder", CONFIGURATION)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"the checkpoint {tmp_path}/folder cannot be read: Is a directory"):
        trained("fused", 1, checkpoint)
    with pytest.raises(OSError, match="/proc/none/run cannot be written: .*; what it held before is intact$"):
        trained("fused", 1, Checkpoint("/proc/none/run", CONFIGURATION))


def test_a_net_of_another_type_is_refused(path):
    net = lenet("fused")
    net.cast("float16")
    net.initialize()
    with pytest.raises(InputError, match=r"must hold 0.weight of type float16, .* got float32; cast the net"):
        Checkpoint(path, CONFIGURATION).load(net)


SMALL = Configuration(norms=("fused",), seeds=(0,), num_epochs=2, num_train=512)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return compare(SMALL, tmp_path_factory.mktemp("runs") / "run", progress=False)


def test_what_is_finished_is_not_trained_again(finished, capsys):
    summary, out = finished
    assert cli.main(["train", "--resume", str(out)]) == 0
    again = json.loads((out / "summary.json").read_text())
    assert again == json.loads(json.dumps(summary))  # seconds too
    assert capsys.readouterr().err == f"Every run in {out} has finished\n"
    assert len(lines(out)) == 2


def test_the_trained_net_is_kept_for_gluon_to_load(finished):
    summary, out = finished
    net = lenet("fused")
    net.load_parameters(str(out / "nets" / "fused-0.params"))
    _, test_iter = load_data_fashion_mnist(256)
    right = sum(int((net(X).argmax(axis=1).astype("int32") == y).sum().asscalar()) for X, y in test_iter)
    assert right / 10_000 == summary["runs"][0]["test_acc_estimated"]
    assert nd.load(str(out / "nets" / "fused-0.params"))["1.moving_mean"].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lr", "0.5"], "--lr must be 1.0, as .* was started with, got 0.5; leave it out, or start anew"),
        (["--norms", "fused", "gluon"], "--norms must be "),
        (["--examples", "600"], "--examples must be 512, "),
    ],
)
def test_a_resumed_comparison_keeps_its_configuration(finished, capsys, arguments, message):
    assert cli.main(["compare", "--resume", str(finished[1]), *arguments]) == 2
    assert re.match("gluon_bn: " + message, capsys.readouterr().err)


def test_a_resumed_comparison_keeps_its_number_of_threads(finished, capsys, monkeypatch):
    """Other threads, other sums: it would not come to the same metrics."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cli.main(["compare", "--resume", str(finished[1])]) == 2
    message = "of another configuration: OMP_NUM_THREADS must be '3', got '.'; train with OMP_NUM_THREADS '.', or start"
    assert re.search(message, capsys.readouterr().err)


def test_resuming_takes_norms_in_a_list_and_no_other_folder(finished):
    summary, _ = compare(dataclasses.replace(SMALL, norms=list(SMALL.norms)), resume=finished[1], progress=False)
    assert summary["runs"] == finished[0]["runs"]
    with pytest.raises(ValueError, match="out must not be given with resume"):
        compare(out="elsewhere", resume=finished[1])


def test_what_is_not_for_want_of_room_is_not_said_to_be(finished, tmp_path):
    out = shutil.copytree(finished[1], tmp_path / "run")
    (out / "metrics.jsonl").unlink()
    (out / "metrics.jsonl").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        compare(resume=out, progress=False)
    assert "free some space" not in str(caught.value) and "metrics.jsonl" in str(caught.value)


def test_only_a_folder_of_a_comparison_can_be_resumed(tmp_path, capsys):
    for folder, lacks in (
        (tmp_path, "has no configuration.json"),
        (tmp_path / "no", f"is not a folder in {os.getcwd()}"),
    ):
        assert cli.main(["compare", "--resume", str(folder)]) == 2
        assert f"--resume must be the folder of a comparison, got {folder}, which {lacks}" in capsys.readouterr().err
    (tmp_path / "configuration.json").write_text('{"norms": ')
    assert cli.main(["compare", "--resume", str(tmp_path)]) == 2
    assert "configuration.json is damaged: " in capsys.readouterr().err


def resumed(out, **how):
    return command("compare", "--resume", out, **how)


@pytest.mark.slow
@pytest.mark.fault("two commands that go on in one folder", tries=1)
def test_two_processes_do_not_go_on_with_the_same_comparison(tmp_path):
    out = tmp_path / "run"
    first = started(out, *"compare --norms none --seeds 0 --epochs 99 --examples 512".split())
    try:
        second = resumed(out)
        assert second.returncode == 2
        assert f"--resume must be a folder that no other process uses, got {out}" in second.stderr
    finally:
        first.kill()
        first.communicate()


@pytest.mark.slow
@pytest.mark.fault("the disk is full", tries=2)
def test_a_full_disk_is_named_and_what_was_written_before_goes_on_later(tmp_path, finished):
    out = tmp_path / "run"
    process = started(out, *RUN)
    process.kill()  # the first epoch is written
    process.communicate()
    before = (out / "nets" / "fused-0.checkpoint").read_bytes()
    for limit, message in (
        (100_000, f"the checkpoint {out}/nets/fused-0.checkpoint cannot be written: File too large"),
        (100, f"{out} cannot be written: File too large; what was written before is intact"),
    ):
        # a limit on the size of a file makes the same write fail as a full disk does, and coverage's own write too
        full = resumed(out, inside=["prlimit", f"--fsize={limit}"], COVERAGE_PROCESS_CONFIG="")
        assert full.returncode in (1, 2) and message in full.stderr and "Traceback" not in full.stderr, full.stderr
        assert (out / "nets" / "fused-0.checkpoint").read_bytes() == before
    again = resumed(out)
    assert again.returncode == 0, again.stderr
    assert without_seconds(out) == without_seconds(finished[1])


@pytest.mark.slow
@pytest.mark.fault("the disk is full", tries=1)
def test_a_full_disk_for_temporary_files_leaves_no_half_net(tmp_path, finished):
    out, small = tmp_path / "run", tmp_path / "small"
    small.mkdir()
    # room for all of the net but its end: MXNet does not notice
    mount = small_disk(small, (finished[1] / "nets" / "fused-0.params").stat().st_size // 4096 * 4)
    full = command(*RUN, "--out", out, inside=mount, TMPDIR=str(small))
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert (
        f"the trained net cannot be written to {small}, the folder for temporary files: free some space" in full.stderr
    )
    assert not (out / "nets" / "fused-0.params").exists()
    again = resumed(out)
    assert again.returncode == 0, again.stderr
    assert without_seconds(out) == without_seconds(finished[1])
    assert (out / "nets" / "fused-0.params").read_bytes() == (finished[1] / "nets" / "fused-0.params").read_bytes()


@pytest.mark.slow
def test_a_net_that_is_gone_is_made_anew(tmp_path, finished):
    out = shutil.copytree(str(finished[1]), str(tmp_path / "run"))
    (tmp_path / "run" / "nets" / "fused-0.params").unlink()
    assert cli.main(["compare", "--resume", out]) == 0
    for name in ("nets/fused-0.params", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (finished[1] / name).read_bytes()


def without_seconds(out):
    """All that a comparison measured but the seconds, by run."""
    runs = json.loads((out / "summary.json").read_text())["runs"]
    for run in runs:
        for epoch in run["history"]:
            del epoch["seconds"], epoch["examples_per_sec"]
    return runs


RUN = "compare --norms fused --seeds 0 --epochs 2 --examples 512".split()
LONGER = "compare --norms fused --seeds 0 --epochs 4 --batch-size 64 --examples 1024".split()


@pytest.mark.slow
def test_stopped_and_resumed_is_as_if_it_had_never_stopped(tmp_path, finished):
    out = tmp_path / "run"
    process = started(out, *RUN)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    again = resumed(out)
    assert again.returncode == 0, again.stderr
    assert without_seconds(out) == without_seconds(finished[1])
    assert [json.loads(line)["epoch"] for line in lines(out)] == [1, 2]
    assert again.stdout.count("Seconds: measured with interruptions, so they may not be comparable.") == 1


@pytest.mark.slow
@pytest.mark.parametrize("times", repeated("a training is killed by kill -9 at a random moment", 2, 20))
def test_killed_trainings_end_with_the_metrics_of_an_uninterrupted_one(times, tmp_path):
    start = time.monotonic()
    whole = tmp_path / "whole"
    assert command(*LONGER, "--out", whole).returncode == 0
    seconds = time.monotonic() - start
    moments = random.Random()

    def killed_and_resumed(i):
        out = tmp_path / str(i)
        process = started(out, *LONGER, file="configuration.json")
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        process.communicate()
        done = len(lines(out))
        again = resumed(out)
        assert again.returncode == 0, again.stderr
        return done, without_seconds(out)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(killed_and_resumed, range(times)))
    assert [result for _, result in results] == [without_seconds(whole)] * times
    assert times < 20 or len({done for done, _ in results}) > 2  # killed before, in and after various epochs
