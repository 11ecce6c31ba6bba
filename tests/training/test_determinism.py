"""The same seed gives the same numbers, in any process and for every norm."""

import json
import subprocess
import sys

import numpy
import pytest

from gluon_bn import lenet, load_data_fashion_mnist, train
from gluon_bn.data import Minibatches
from gluon_bn.training import seed_everything

NORMS = ("none", "scratch", "fused", "gluon")


def metrics(norm, seed=0):
    """Two short epochs from this seed: (loss, train accuracy, test accuracy) of each."""
    seed_everything(seed)
    history = train(
        lenet(norm), *load_data_fashion_mnist(64, num_train=500, num_test=100), 2, 1.0, progress=False, plot=False
    )
    return [[epoch.loss, epoch.train_acc, epoch.test_acc] for epoch in history]


if __name__ == "__main__":  # the other process
    print(json.dumps({norm: metrics(norm) for norm in NORMS}))


@pytest.mark.slow
def test_one_seed_gives_the_same_metrics_twice_in_one_process_and_in_another():
    here = {norm: metrics(norm) for norm in NORMS}
    assert {norm: metrics(norm) for norm in NORMS} == here
    done = subprocess.run([sys.executable, "-W", "ignore", __file__], stdout=subprocess.PIPE, text=True, check=True)
    assert json.loads(done.stdout) == here  # JSON holds every bit of a float


def test_another_seed_gives_other_metrics():
    assert metrics("fused", seed=1) != metrics("fused", seed=0)


class Seen(Minibatches):
    """Minibatches that note what they gave."""

    def __iter__(self):
        self.given = []
        for X, y in super().__iter__():
            self.given.append((float(X.sum().asscalar()), y.asnumpy().tolist()))
            yield X, y


@pytest.fixture(scope="module")
def started():
    """Of each norm from one seed: the first weights of the affine layers, and the minibatches of the second epoch."""
    found = {}
    for norm in NORMS:
        seed_everything(0)
        few, test_iter = load_data_fashion_mnist(64, num_train=500, num_test=100)
        net = lenet(norm)
        train_iter = Seen(few.X, few.y, 64, shuffle=True)
        train(net, train_iter, test_iter, 2, 1e-30, progress=False, plot=False)  # too small a rate to move a weight
        layers = [layer for layer in net if hasattr(layer, "weight")]
        found[norm] = [layer.weight.data().asnumpy() for layer in layers], train_iter.given
    return found


@pytest.mark.parametrize("norm", NORMS[1:])
def test_initial_weights_and_minibatches_do_not_depend_on_the_norm(started, norm):
    (weights, minibatches), (plain_weights, plain_minibatches) = started[norm], started["none"]
    assert len(weights) == 5 and len(minibatches) == 8
    for ours, plain in zip(weights, plain_weights):
        assert abs(ours).max() > 0
        numpy.testing.assert_array_equal(ours, plain)
    assert minibatches == plain_minibatches
