"""A training that becomes non-finite stops, says where this started, and keeps the history."""

import json
import pickle

import mxnet as mx
import numpy
import pytest
from mxnet import nd
from mxnet.gluon import nn

from gluon_bn import cli, lenet, load_data_fashion_mnist, train
from gluon_bn.data import Minibatches
from gluon_bn.experiments.rates import with_activation
from gluon_bn.training.blocks import blocks_of
from gluon_bn.training.divergence import MOST_ARRAYS, Diverged, DivergenceMonitor
from gluon_bn.training.loop import CHECK_EVERY, seed_everything
from gluon_bn.training.totals import Totals


def data(num_train=2048):
    return load_data_fashion_mnist(64, num_train=num_train, num_test=100)


def diverging(net, train_iter, lr=1.0, num_epochs=1, test_iter=None, **kwargs):
    with pytest.raises(Diverged) as caught:
        train(net, train_iter, test_iter or data()[1], num_epochs, lr, progress=False, plot=False, **kwargs)
    return caught.value


@pytest.mark.fault("the learning rate is far too large", tries=1)
@pytest.mark.parametrize("devices", [1, 2])
def test_a_rate_far_too_large_is_named_with_epoch_minibatch_and_layer(devices):
    error = diverging(
        with_activation(lenet("none"), "relu"), data()[0], lr=1e6, device=[mx.cpu(i) for i in range(devices)]
    )
    assert (error.epoch, error.lr) == (1, 1e6) and 2 <= error.minibatch <= 5
    assert str(error).startswith(
        f"the training diverged in epoch 1, minibatch {error.minibatch}, at a learning rate "
        f"of 1000000.0: {error.where} was the first that is not finite"
    )
    assert error.where.startswith(("the output of layer ", "the loss", "the gradient of ")) and error.history == []


def squaring():
    """A net that squares its input, and minibatches for it in order: 1e30 is finite, its square is not."""
    net, inner = nn.Sequential(), nn.HybridSequential()
    inner.add(nn.Flatten(), nn.HybridLambda("square"))
    net.add(inner, nn.Dense(10))
    X, y = data()[0].X.copy(), data()[0].y
    return net, Minibatches(X, y, 64, shuffle=False)


@pytest.mark.parametrize(
    "minibatch, hybridize", [(1, False), (CHECK_EVERY, True), (CHECK_EVERY + 1, False), (32, True)]
)
def test_the_first_minibatch_and_layer_are_found_exactly(minibatch, hybridize):
    net, train_iter = squaring()
    if hybridize:
        net[0].hybridize()
    train_iter.X[64 * minibatch - 1, 0, 3, 3] = 1e30
    error = diverging(net, train_iter, lr=0.1)
    assert (error.epoch, error.minibatch) == (1, minibatch)
    assert error.where == "the output of layer 0.1, HybridLambda(square),"


def test_a_net_of_many_parameters_is_watched():
    """More than MXNet's operator has room for."""
    net = nn.Sequential()
    for _ in range(MOST_ARRAYS // 2 + 1):
        net.add(nn.Dense(10))
    X, y = nd.random.uniform(shape=(40, 10)), nd.zeros(40)
    minibatches = [(X, y)] * CHECK_EVERY
    assert len(train(net, minibatches, minibatches[:1], 2, 1e-6, progress=False, plot=False)) == 2
    net[len(net) - 1].bias.data()[0] = float("inf")  # the last of all
    error = diverging(net, minibatches, initialize=False, test_iter=minibatches[:1])
    assert error.minibatch == 1 and error.where.startswith(f"the output of layer {len(net) - 1}, Dense")


def test_an_error_comes_whole_out_of_another_process():
    error = Diverged(1, 2, 1e6, "the loss", [])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_what_was_recorded_before_stays():
    net, train_iter = squaring()
    seen = []

    def poison(epoch):
        seen.append(epoch)
        train_iter.X[64 * 9 - 1, 0, 3, 3] = 1e30

    error = diverging(net, train_iter, lr=0.1, num_epochs=3, on_epoch=poison)
    assert (error.epoch, error.minibatch) == (2, 9)
    assert error.history == seen and [epoch.epoch for epoch in seen] == [1]


def test_an_interrupted_replay_leaves_no_hook():
    def interrupted(X, y):
        raise KeyboardInterrupt

    net, train_iter = squaring()
    net.initialize()
    net(train_iter.X[:1])
    monitor = DivergenceMonitor(net, 0.1, interrupted, [])
    monitor.record_batch(train_iter.X[:1], train_iter.y[:1])
    net[1].bias.data()[:] = float("inf")
    with pytest.raises(KeyboardInterrupt):
        monitor.finish_epoch(Totals())
    assert not any(layer._forward_hooks for layer in blocks_of(net))


@pytest.mark.fault("a minibatch with NaN or infinity", tries=1)
def test_a_minibatch_that_is_not_finite_is_named():
    X, y = data()[0].X.copy(), data()[0].y
    X[700, 0, 3, 3] = float("nan")  # in the 11th minibatch
    error = diverging(lenet("fused"), Minibatches(X, y, 64, shuffle=False))
    assert error.minibatch == 11 and error.where == "the minibatch itself"
    assert str(error).endswith("the minibatch itself was the first that is not finite; look at the data")


class Refilled:
    """Minibatches in the same two arrays, again and again; the fifth is not finite."""

    def __init__(self, array):
        self.X, self.y = array(numpy.zeros((16, 1, 28, 28))), array(numpy.zeros(16))

    def __len__(self):
        return 4 * CHECK_EVERY

    def __iter__(self):
        for minibatch in range(1, len(self) + 1):
            self.X[:] = numpy.random.rand(*self.X.shape)
            if minibatch == 5:
                self.X[3, 0, 3, 3] = float("nan")
            yield self.X, self.y


@pytest.mark.parametrize("array", [nd.array, numpy.asarray])
def test_an_iterator_may_fill_the_same_arrays_again(array):
    error = diverging(lenet("none"), Refilled(array))
    assert error.minibatch == 5 and error.where == "the minibatch itself"


def test_a_parameter_that_overflows_behind_a_finite_loss_is_named():
    net = lenet("none")  # the sigmoid makes of an infinite bias a finite 1
    train(net, *data(64), num_epochs=1, lr=1e-3, progress=False)
    bias = net[0].bias
    train_iter = data()[0]

    def overflow(epoch):
        bias.data()[0] = float("inf")

    error = diverging(net, train_iter, lr=1e-3, num_epochs=2, initialize=False, on_epoch=overflow)
    assert error.epoch == 2 and "layer 0, Conv2D" in error.where


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "scratch", "fused", "gluon"])
def test_watching_changes_no_number(monkeypatch, norm):
    losses = []
    for watched in (True, False):
        if not watched:
            for name in ("record_batch", "check_window", "finish_epoch"):
                monkeypatch.setattr(f"gluon_bn.training.divergence.DivergenceMonitor.{name}", lambda *arguments: None)
        seed_everything(0)
        losses.append([epoch.loss for epoch in train(lenet(norm), *data(1024), 2, 1.0, progress=False)])
    assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.fault("runs of a comparison diverge", tries=2)
def test_a_comparison_marks_the_runs_that_diverge(tmp_path, capsys):
    out = tmp_path / "run"
    words = "compare --norms none gluon --seeds 0 --lr 1e38 --epochs 1 --examples 1024 --out".split()
    assert cli.main([*words, str(out)]) == 1
    captured = capsys.readouterr()
    assert "--resume" not in captured.out  # it would diverge again
    assert "no normalization (1 of 1 failed)    -" in captured.out
    summary = json.loads((out / "summary.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    for run in summary["runs"]:
        assert not run["finished"] and "diverged in epoch 1, minibatch" in run["failed"]
        assert run["failed"] in captured.err and run["failed"] in (out / "report.md").read_text()
    assert (out / "metrics.jsonl").read_text() == ""


def test_a_divergence_is_found_under_both_fronts(front):
    net = nn.Sequential()
    net.add(nn.Dense(10))
    X = front.array(numpy.full((4, 1, 2, 2), 3e38), dtype="float32")
    minibatches = [(X, front.array([0, 1, 2, 3], dtype="int32"))]
    with pytest.raises(Diverged, match="the output of layer 0, Dense|the loss|the gradient of weight of layer 0"):
        train(net, minibatches, minibatches, 1, 1e9, progress=False, plot=False)


class Half(nn.Block):
    """A dense layer in float16, of operators that MXNet has for it on a CPU."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = self.params.get("weight", shape=(1, inputs, outputs), dtype="float16")

    def forward(self, X):
        return (X.expand_dims(axis=2) * self.weight.data()).sum(axis=1)


@pytest.mark.filterwarnings("ignore:Accumulating with float16")
@pytest.mark.parametrize("lr, where", [(10.0, "the output of layer 1, Half"), (1e5, "weight of layer 0, Half")])
def test_what_overflows_in_float16_is_named(lr, where):
    """From 65,520 on float16 is infinite: weights of that size are, and so are outputs of many smaller ones."""
    mx.random.seed(0)
    random = numpy.random.RandomState(0)
    net = nn.Sequential()
    net.add(Half(6, 8), Half(8, 4))
    minibatches = [
        (nd.array(random.randn(4, 6), dtype="float16"), nd.array(random.randint(0, 4, 4))) for _ in range(25)
    ]
    with pytest.raises(Diverged, match=f"{where}.* was the first that is not finite"):
        train(net, minibatches, minibatches[:1], 1, lr, progress=False)
