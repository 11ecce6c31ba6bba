"""The chapter's full run gives the results that the README shows."""

import pytest

from gluon_bn import compare
from gluon_bn.comparison import Configuration


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0,), pytest.param((0, 1, 2), marks=pytest.mark.long)])
def test_the_full_run_shows_what_batch_normalization_does(seeds, tmp_path):
    """Learning rate 1.0, minibatches of 256, ten epochs."""
    configuration = Configuration()
    assert (configuration.lr, configuration.batch_size, configuration.num_epochs) == (1.0, 256, 10)
    summary, _ = compare(Configuration(norms=("none", "fused"), seeds=seeds), tmp_path / "run", progress=False)
    plain, ours = summary["results"]
    assert (plain["norm"], ours["norm"]) == ("none", "fused") and plain["seeds"] == ours["seeds"] == len(seeds)
    assert ours["loss"]["median"] <= 0.26
    assert ours["train_acc"]["median"] >= 0.905
    assert ours["test_acc_estimated"]["median"] >= 0.87
    assert plain["train_acc"]["median"] <= ours["train_acc"]["median"] - 0.05
