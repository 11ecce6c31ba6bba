"""Statistics estimated once over a whole data set."""

import mxnet as mx
import numpy
import pytest
import students
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn
from mxnet.gluon.contrib.nn import SyncBatchNorm

from gluon_bn import BatchNorm, estimate_statistics, lenet
from gluon_bn.data import Minibatches
from gluon_bn.training.blocks import axis_of, statistics_of


def data(shape=(5,)):
    X = numpy.random.randn(90, *shape) * 3 + 2
    return Minibatches(nd.array(X), nd.zeros((90,)), 32, shuffle=False)  # 90 = 32 + 32 + 26: the last weighs less


def dense(norm):
    net = nn.Sequential()
    net.add(nn.Dense(4, in_units=5), norm, nn.Dense(2))
    net.initialize(mx.init.Normal(1))
    net(nd.zeros((2, 5)))
    return net


def values(layer):
    return [
        (statistic.data() if isinstance(statistic, gluon.Parameter) else statistic).asnumpy().ravel()
        for statistic in statistics_of(layer)
    ]


class ReadersLayer(students.ChapterLayer):
    """As the first notebook ends: the averages are parameters, into which each step writes."""

    def __init__(self, num_features, num_dims):
        super().__init__(num_features, num_dims)
        shape = self.moving_mean.shape
        del self.moving_mean, self.moving_var
        self.moving_mean = self.params.get("moving_mean", shape=shape, init="zeros", grad_req="null")
        self.moving_var = self.params.get("moving_var", shape=shape, init="zeros", grad_req="null")

    def forward(self, X):
        Y, *new = students.batch_norm()(
            X, self.gamma.data(), self.beta.data(), self.moving_mean.data(), self.moving_var.data(), 1e-5, 0.9
        )
        for statistic, value in zip((self.moving_mean, self.moving_var), new):
            statistic.set_data(value)
        return Y


@pytest.mark.parametrize(
    "norm",
    [lambda: BatchNorm(4, 2), nn.BatchNorm, lambda: students.ChapterLayer(4, 2), lambda: ReadersLayer(4, 2)],
    ids=["ours", "Gluon", "plain arrays", "reader's"],
)
def test_the_first_layer_gets_the_statistics_of_the_whole_set(norm):
    net, batches = dense(norm()), data()
    estimate_statistics(net, batches)
    H = net[0](batches.X).asnumpy().astype("float64")
    mean, var = values(net[1])
    numpy.testing.assert_allclose(mean, H.mean(0), rtol=1e-5)
    numpy.testing.assert_allclose(var, H.var(0), rtol=1e-5)


GLUONS = {f"axis {axis}": lambda axis=axis: nn.BatchNorm(axis=axis) for axis in (1, 2, 3, -1, -3)}


@pytest.mark.parametrize(
    "norm", [*GLUONS.values(), nn.BatchNormReLU, lambda: SyncBatchNorm(num_devices=1)], ids=[*GLUONS, "ReLU", "Sync"]
)
def test_every_layer_of_gluons_is_served_with_its_channels_on_any_axis(norm):
    layer, batches = norm(), data(shape=(2, 3, 4))
    layer.initialize()
    layer(batches.X)
    estimate_statistics(layer, batches)
    axis = axis_of(layer)
    X = numpy.moveaxis(batches.X.asnumpy().astype("float64"), axis, -1).reshape(-1, batches.X.shape[axis])
    mean, var = values(layer)
    numpy.testing.assert_allclose(mean, X.mean(0), rtol=1e-5)
    numpy.testing.assert_allclose(var, X.var(0), rtol=1e-5)


def test_statistics_that_are_fixed_stay():
    net = dense(nn.BatchNorm(use_global_stats=True))
    net.add(BatchNorm(2, 2))
    net[-1].initialize()
    before = values(net[1])
    estimate_statistics(net, data())
    numpy.testing.assert_array_equal(values(net[1]), before)
    assert values(net[-1])[1].min() > 0


def test_a_deeper_layer_sees_what_it_sees_in_training():
    net, batches = nn.Sequential(), data(shape=(2, 6, 6))
    net.add(BatchNorm(2, 4), nn.Activation("sigmoid"), nn.Conv2D(3, 3), BatchNorm(3, 4))
    net.initialize()
    estimate_statistics(net, batches)
    with autograd.train_mode():  # each minibatch normalized by its own statistics
        H = numpy.concatenate([net[2](net[1](net[0](X))).asnumpy() for X, _ in batches]).astype("float64")
    mean, var = values(net[3])
    numpy.testing.assert_allclose(mean, H.mean((0, 2, 3)), rtol=1e-5)
    numpy.testing.assert_allclose(var, H.var((0, 2, 3)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:All children of this Sequential")
@pytest.mark.parametrize("norm", ["scratch", "fused", "gluon"])
def test_hybridized_or_not_the_estimate_is_the_same(norm):
    net = lenet(norm)
    net.initialize(mx.init.Xavier())
    X = numpy.random.rand(64, 1, 28, 28)
    batches = Minibatches(nd.array(X), nd.zeros((64,)), 32, shuffle=False)
    net(batches.X)
    layers = [block for block in net if type(block).__name__ == "BatchNorm"]
    estimate_statistics(net, batches)
    expected = [values(layer) for layer in layers]
    net.hybridize(static_alloc=True, static_shape=True)
    net(batches.X)
    for layer in layers:
        for parameter in statistics_of(layer):
            parameter.set_data(nd.zeros(parameter.shape))
    estimate_statistics(net, batches)
    for layer, old in zip(layers, expected):
        numpy.testing.assert_allclose(values(layer), old, rtol=1e-4)  # Gluon's compiled sums differ in the fifth digit
    assert net[0]._active and dict(net[0]._flags)["static_alloc"]
    numpy.testing.assert_allclose(net(batches.X).asnumpy(), net(batches.X).asnumpy())


def test_the_weights_stay_and_every_device_gets_the_estimate():
    net = nn.Sequential()
    net.add(nn.Dense(4, in_units=5), BatchNorm(4, 2))
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    before = net[0].weight.data(mx.cpu(0)).asnumpy()
    estimate_statistics(net, data())
    numpy.testing.assert_array_equal(net[0].weight.data(mx.cpu(0)).asnumpy(), before)
    for parameter in statistics_of(net[1]):
        one, other = (array.asnumpy() for array in parameter.list_data())
        numpy.testing.assert_array_equal(one, other)
        assert abs(one).min() > 0


@pytest.mark.parametrize("norm", [BatchNorm, students.ChapterLayer, ReadersLayer])
def test_an_interruption_leaves_the_statistics_as_they_were(norm):
    net, batches = dense(norm(4, 2)), data()
    with autograd.record():
        net(batches.X)
    before = values(net[1])

    def interrupted():
        yield batches.X * 7, batches.y
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        estimate_statistics(net, interrupted())
    numpy.testing.assert_array_equal(values(net[1]), before)
    assert not net[1]._forward_pre_hooks


def test_minibatches_of_numpy_need_no_labels():
    net, other, batches = dense(BatchNorm(4, 2)), dense(BatchNorm(4, 2)), data()
    for parameter, source in zip(other.collect_params().values(), net.collect_params().values()):
        parameter.set_data(source.data())
    estimate_statistics(net, batches)
    estimate_statistics(other, [(X.asnumpy(), None) for X, _ in batches])
    numpy.testing.assert_array_equal(values(other[1]), values(net[1]))


def test_sizes_may_be_unknown_until_the_first_minibatch():
    net = nn.Sequential()
    net.add(nn.Dense(4), nn.BatchNorm())
    net.initialize()
    estimate_statistics(net, data())
    assert values(net[1])[1].min() > 0


def test_the_variance_is_within_the_minibatches_and_between_their_means():
    """Of minibatches that drift: E[var_b] + Var[mean_b], the whole set's; Algorithm 2's m/(m-1) E[var_b] is less."""
    X = numpy.random.randn(40, 8) + numpy.arange(40)[:, None]  # a mean for each of 40 minibatches of 8
    layer = BatchNorm(1, 2)
    layer.initialize()
    estimate_statistics(layer, [(nd.array(x[:, None]), None) for x in X])
    _, (var,) = values(layer)
    algorithm_2 = 8 / 7 * X.var(axis=1).mean()
    numpy.testing.assert_allclose(var, X.var(axis=1).mean() + X.mean(axis=1).var(), rtol=1e-5)
    numpy.testing.assert_allclose(var, X.var(), rtol=1e-5)
    assert algorithm_2 < 1.3 < 100 < var


def refused(net, batches, match):
    before = values(net[1])
    with pytest.raises(ValueError, match=match):
        estimate_statistics(net, batches)
    numpy.testing.assert_array_equal(values(net[1]), before)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # of NumPy
@pytest.mark.fault("NaN or infinity on the way to an estimate of statistics", tries=3)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("norm", [lambda: BatchNorm(4, 2), nn.BatchNorm])
def test_what_is_not_finite_is_refused_by_name_and_the_statistics_stay(norm, value):
    net, batches = dense(norm()), data()
    name = statistics_of(net[1])[0].name
    batches.X[40, 3] = value
    refused(net, batches, "X of minibatch 2 must be finite, but holds NaN or infinity; look at the data")
    batches.X[40, 3] = 1e30  # finite, but its square is not in float32
    refused(net, batches, f"{name[:-4]}var must be finite, got NaN or infinity: .* too large")
    net[0].bias.data()[0] = value
    refused(net, data(), f"{name} must be finite, got NaN or infinity: .* or an earlier parameter")


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="must hold a BatchNorm layer, got none"):
        estimate_statistics(gluon.nn.Dense(3), data())
    with pytest.raises(ValueError, match=r"is a SyncBatchNorm of 2 devices.*num_devices=1"):
        estimate_statistics(SyncBatchNorm(num_devices=2, in_channels=4), data())
    unknown = students.ChapterLayer(4, 2)
    unknown.moving_var = numpy.zeros((1, 4))
    with pytest.raises(ValueError, match="in parameters or MXNet arrays named .*, a ChapterLayer, does not"):
        estimate_statistics(unknown, data())
    other = students.ChapterLayer(5, 2)
    other.initialize()
    other.moving_mean = nd.zeros((1, 1))
    with pytest.raises(ValueError, match=r"must hold one value for each of 5 channels .* got shape \(1, 1\)"):
        estimate_statistics(other, data())
    with pytest.raises(ValueError, match="must give minibatches .* got none"):
        estimate_statistics(dense(BatchNorm(4, 2)), [])


@pytest.mark.slow
@pytest.mark.long  # test_claims_training.py shows the same with a shorter training
def test_the_estimate_predicts_better_than_the_moving_average():
    """The moving average lags weights that move fast; the estimate is never worse by more than noise."""
    from gluon_bn import evaluate_accuracy, load_data_fashion_mnist, train
    from gluon_bn.training import seed_everything

    gains = []
    for seed in range(3):
        seed_everything(seed)
        train_iter, test_iter = load_data_fashion_mnist(256)
        net = lenet("fused")
        history = train(net, train_iter, test_iter, num_epochs=2, lr=1.0, progress=False)
        estimate_statistics(net, train_iter)
        gains.append(evaluate_accuracy(net, test_iter) - history[-1].test_acc)
    assert min(gains) > -0.01 and max(gains) > 0.01, gains
