"""The layer: it keeps, updates and saves the statistics, and leaves the maths to its function."""

import mxnet as mx
import numpy
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm

ROWS = [[1, 2], [3, 2], [5, 6], [7, 6]]  # means 4 and 4, variances 5 and 4


def made(*args, ctx=None, **kwargs):
    layer = BatchNorm(*args, **kwargs)
    layer.initialize(ctx=ctx)
    return layer


def statistics(layer, device=None):
    return layer.moving_mean.data(device).asnumpy().ravel(), layer.moving_var.data(device).asnumpy().ravel()


def test_a_training_step_by_hand(front):
    layer = made(2, 2, eps=0)
    with autograd.record():
        Y = layer(front.array(ROWS))
    s = 5**0.5
    numpy.testing.assert_allclose(Y.asnumpy(), [[-3 / s, -1], [-1 / s, -1], [1 / s, 1], [3 / s, 1]], rtol=1e-6)
    numpy.testing.assert_allclose(statistics(layer), [[0.4, 0.4], [0.5, 0.4]], rtol=1e-6)


def test_it_starts_as_the_chapter_says():
    layer = made(3, 4)
    values = [p.data().asnumpy() for p in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_var)]
    for value, expected in zip(values, (1, 0, 0, 0)):
        numpy.testing.assert_array_equal(value, numpy.full((1, 3, 1, 1), expected))
    assert made(3, 4, moving_var_initializer="ones").moving_var.data().asnumpy().min() == 1


def test_prediction_leaves_the_statistics_alone(front):
    layer, X = made(2, 2), front.array(ROWS)
    with autograd.record():
        layer(X)
    before = statistics(layer)
    layer(X)
    with autograd.record(train_mode=False):
        layer(X)
    numpy.testing.assert_array_equal(statistics(layer), before)


def test_prediction_of_a_row_does_not_depend_on_its_companions():
    layer, X = made(3, 2), nd.random.normal(shape=(16, 3))
    with autograd.record():
        layer(X)
    numpy.testing.assert_array_equal(layer(X)[:1].asnumpy(), layer(X[:1]).asnumpy())
    with autograd.train_mode():
        assert abs(layer(X)[:1] - layer(X[:2])[:1]).max().asscalar() > 1e-2


def test_any_function_of_the_signature_is_its_maths():
    def mean_only(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        mean = X.mean(axis=0, keepdims=True)
        return X - mean + beta, mean, moving_var

    layer = made(2, 2, fn=mean_only)
    with autograd.record():
        Y = layer(nd.array(ROWS))
    numpy.testing.assert_array_equal(Y.asnumpy(), [[-3, -2], [-1, -2], [1, 2], [3, 2]])
    numpy.testing.assert_array_equal(statistics(layer), [[4, 4], [0, 0]])
    assert "fn=mean_only" in repr(layer)


@pytest.mark.parametrize("container", [nn.Sequential, nn.HybridSequential])
def test_it_trains_in_a_container(front, container, capsys):
    net = container()
    net.add(nn.Conv2D(4, 3), BatchNorm(4, 4), nn.Dense(5), BatchNorm(5, 2), nn.Dense(1))
    net.initialize()
    X = front.array(numpy.random.randn(32, 1, 6, 6), dtype="float32")
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    losses = []
    for _ in range(20):
        with autograd.record():
            loss = ((net(X) - X.sum(axis=(1, 2, 3)).reshape((-1, 1))) ** 2).mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.asnumpy().item())
    assert losses[-1] < losses[0] / 2
    assert "BatchNorm(4, num_dims=4, fn=batch_norm" in repr(net)
    net.summary(X)
    assert "BatchNorm-2" in capsys.readouterr().out


def test_a_hybridized_sequential_compiles_the_layers_around_it():
    net = nn.Sequential()
    net.add(nn.Dense(5), BatchNorm(5, 2), nn.Dense(3))
    net.initialize()
    X = nd.random.normal(shape=(8, 4))
    with autograd.train_mode():
        expected = net(X).asnumpy()
        with pytest.warns(UserWarning, match="Consider using HybridSequential"):  # Gluon does not know us
            net.hybridize(static_alloc=True, static_shape=True)
        numpy.testing.assert_allclose(net(X).asnumpy(), expected, rtol=1e-6)
    assert statistics(net[1])[1].min() > 0


@pytest.mark.fault("a compiled graph around BatchNorm")
def test_a_graph_around_it_is_refused_with_the_way_out():
    net = nn.HybridSequential()
    net.add(nn.Dense(5), BatchNorm(5, 2))
    net.initialize()
    net.hybridize()
    with pytest.raises(ValueError, match="cannot be traced into a graph: put it in an nn.Sequential"):
        net(nd.ones((2, 3)))


def test_statistics_are_copied_to_the_device_of_the_input():
    layer, X = made(2, 2), nd.array(ROWS)
    with autograd.record():
        layer(X)
    before = statistics(layer)
    for parameter in (layer.gamma, layer.beta):
        parameter.reset_ctx(mx.cpu(1))
    Y = layer(X.copyto(mx.cpu(1)))
    assert Y.context == mx.cpu(1) == layer.moving_mean.data().context
    numpy.testing.assert_array_equal(statistics(layer), before)


def test_each_device_keeps_statistics_of_its_share():
    devices = [mx.cpu(0), mx.cpu(1)]
    layer, X = made(2, 2, ctx=devices), nd.array(ROWS)
    with autograd.record():
        losses = [
            (layer(shard) * nd.random.normal(shape=(2, 2), ctx=shard.context)).sum()
            for shard in gluon.utils.split_and_load(X, devices)
        ]
    autograd.backward(losses)
    numpy.testing.assert_allclose(statistics(layer, mx.cpu(0)), [[0.2, 0.2], [0.1, 0]], rtol=1e-6)
    numpy.testing.assert_allclose(statistics(layer, mx.cpu(1)), [[0.6, 0.6], [0.1, 0]], rtol=1e-6)
    gluon.Trainer(layer.collect_params(), "sgd", {"learning_rate": 0.1}).step(4)
    gammas = [layer.gamma.data(device).asnumpy() for device in devices]
    numpy.testing.assert_array_equal(*gammas)
    assert abs(gammas[0] - 1).max() > 0


def test_save_and_load_keep_the_statistics(tmp_path):
    layer, other, X = made(2, 2), BatchNorm(2, 2), nd.array(ROWS)
    with autograd.record():
        layer(X)
    layer.save_parameters(str(tmp_path / "layer.params"))
    other.load_parameters(str(tmp_path / "layer.params"))
    numpy.testing.assert_array_equal(statistics(other), statistics(layer))
    numpy.testing.assert_array_equal(other(X).asnumpy(), layer(X).asnumpy())


def test_collect_params_holds_the_statistics_but_the_trainer_does_not_move_them():
    layer = made(2, 2)
    assert [name.split("_", 1)[1] for name in layer.collect_params()] == ["gamma", "beta", "moving_mean", "moving_var"]
    trainer = gluon.Trainer(layer.collect_params(), "sgd", {"learning_rate": 1.0, "wd": 0.5})
    with autograd.record():
        loss = (layer(nd.array(ROWS)) * nd.random.normal(shape=(4, 2))).sum()
    loss.backward()
    before = statistics(layer)
    trainer.step(1)
    numpy.testing.assert_array_equal(statistics(layer), before)
    assert abs(layer.beta.data()).min().asscalar() > 0


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_a_cast_layer_takes_that_type(dtype):
    layer = made(2, 2)
    layer.cast(dtype)
    with autograd.record():
        Y = layer(nd.array(ROWS, dtype=dtype))
    assert Y.dtype == numpy.dtype(dtype)
    numpy.testing.assert_allclose(statistics(layer)[0], [0.4, 0.4], rtol=1e-3)


@pytest.mark.parametrize("six", [numpy.prod((2, 3)), numpy.int8(6), numpy.uint64(6), numpy.array(6)], ids=repr)
def test_sizes_of_any_integral_type_are_taken(six):
    layer = made(six, numpy.int64(2))
    assert layer(nd.ones((3, 6))).shape == (3, 6) and repr(layer) == repr(BatchNorm(6, 2))


REFUSED = {
    "num_features must be a whole number >= 1, got 0": lambda: BatchNorm(0, 2),
    "num_features must be a whole number >= 1, got 2.0": lambda: BatchNorm(2.0, 2),
    "num_features must be a whole number >= 1, got True": lambda: BatchNorm(True, 2),
    "num_features must be a whole number >= 1, got '6'": lambda: BatchNorm("6", 2),
    "num_dims must be 2 .* or 4 .*, got 3": lambda: BatchNorm(2, 3),
    r"num_dims must be 2 .* or 4 .*, got \[2\]": lambda: BatchNorm(2, [2]),
    "eps must be a number, got 1j": lambda: BatchNorm(2, 2, eps=1j),
    "eps must be a finite number >= 0, got nan": lambda: BatchNorm(2, 2, eps=float("nan")),
    "eps must be a finite number": lambda: BatchNorm(2, 2, eps=-1e-5),
    "momentum must be between 0 and 1, got 9": lambda: BatchNorm(2, 2, momentum=9),
    "fn must be a function like batch_norm, got 'fused'": lambda: BatchNorm(2, 2, fn="fused"),
    r"must have 4 axes, as num_dims=4 says, got \(4, 2\)": lambda: made(2, 4)(nd.array(ROWS)),
    r"must have 3 channels \(axis 1\), as num_features=3 says, got \(4, 2\); set num_features=2": lambda: made(3, 2)(
        nd.array(ROWS)
    ),
    "MXNet array, got builtins.list; wrap it": lambda: made(2, 2)(ROWS),
    "floats, got int32": lambda: made(2, 2)(nd.array(ROWS, dtype="int32")),
    "more than one value per channel": lambda: made(2, 2)(nd.array(ROWS[:1])),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.fault("bad input to BatchNorm")
def test_bad_input_is_refused_by_name(message):
    with autograd.train_mode(), pytest.raises(ValueError, match=message):
        REFUSED[message]()
