"""A comparison's folder written by an earlier version can still be read and resumed."""

import json
import tarfile
from pathlib import Path

import pytest

from gluon_bn import cli, lenet, load_data_fashion_mnist, load_parameters
from gluon_bn.comparison import Configuration, configuration_of, report
from gluon_bn.comparison.summary import Summary
from gluon_bn.training import evaluate_accuracy

# The folder that version 0.1.0 wrote (revision ee8385e), without its pictures, for
#     compare --norms gluon --seeds 0 --epochs 1 --examples 256
# Its checkpoint and its net hold the same 44,000 weights, which the archive compresses to one copy.
ARCHIVE = Path(__file__).with_name("data") / "version_0.1.0.tar.xz"


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as it was then: a checkpoint keeps it
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.12 and 3.13 warn where none is chosen; early releases of 3.8 to 3.11 have none
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def test_its_configuration_is_read(earlier):
    assert configuration_of(earlier) == Configuration(norms=("gluon",), seeds=(0,), num_epochs=1, num_train=256)


def test_its_summary_is_read_and_written_byte_for_byte_and_makes_the_same_report(earlier):
    text = (earlier / "summary.json").read_text()
    summary = Summary.of(json.loads(text))
    assert json.dumps(summary.content(), indent=1) + "\n" == text
    assert report.markdown(summary) == (earlier / "report.md").read_text()


def test_its_net_is_loaded_and_predicts_as_it_did(earlier):
    net = lenet("scratch")
    load_parameters(net, earlier / "nets" / "gluon-0.params")
    _, test_iter = load_data_fashion_mnist(256)
    measured = json.loads((earlier / "summary.json").read_text())["runs"][0]["test_acc_estimated"]
    assert abs(evaluate_accuracy(net, test_iter) - measured) <= 0.001  # another processor rounds differently


def test_it_is_resumed_without_training(earlier, capsys):
    kept = ("metrics.jsonl", "nets/gluon-0.checkpoint", "nets/gluon-0.params")
    before = {name: (earlier / name).read_bytes() for name in kept}
    summary = json.loads((earlier / "summary.json").read_text())
    assert cli.main(["compare", "--resume", str(earlier)]) == 0
    assert capsys.readouterr().err == f"Every run in {earlier} has finished\n"
    assert {name: (earlier / name).read_bytes() for name in kept} == before
    again = json.loads((earlier / "summary.json").read_text())
    assert [again[key] for key in ("configuration", "jobs", "results", "runs")] == [
        summary[key] for key in ("configuration", "jobs", "results", "runs")
    ]


def test_its_checkpoint_is_loaded_to_write_the_net_anew(earlier):
    net = earlier / "nets" / "gluon-0.params"
    before = net.read_bytes()
    net.unlink()
    assert cli.main(["compare", "--resume", str(earlier)]) == 0
    assert net.read_bytes() == before


def test_of_a_later_versions_summary_the_jobs_are_kept(earlier):
    path = earlier / "summary.json"
    summary = json.loads(path.read_text())
    del summary["versions"]
    summary["runs"][0]["rows"] = 3
    path.write_text(json.dumps(summary))
    assert cli.main(["compare", "--resume", str(earlier)]) == 0
    assert json.loads(path.read_text())["jobs"] == summary["jobs"] == 1
