"""LeNet: its shapes, its norms, and the same initial weights for all of them."""

import mxnet as mx
import numpy
import pytest
from mxnet import nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm, batch_norm, fused_batch_norm, lenet, train
from gluon_bn.errors import InputError
from gluon_bn.model import NORMS, compiled
from gluon_bn.training import seed_everything

X = nd.ones((2, 1, 28, 28))


def types(net):
    return " ".join(type(layer).__name__ for layer in net)


def test_layers_in_the_order_of_the_chapter():
    affine = "Conv2D Activation MaxPool2D Conv2D Activation MaxPool2D Dense Activation Dense Activation Dense"
    assert types(lenet("none")) == affine
    normalized = "Conv2D BatchNorm Activation AvgPool2D " * 2 + "Dense BatchNorm Activation " * 2 + "Dense"
    assert types(lenet("scratch", pool="avg")) == normalized


@pytest.mark.parametrize(
    "norm, layer, fn",
    [("scratch", BatchNorm, batch_norm), ("fused", BatchNorm, fused_batch_norm), ("gluon", nn.BatchNorm, None)],
)
def test_each_name_is_its_norm(norm, layer, fn):
    norms = [block for block in lenet(norm) if type(block).__name__ == "BatchNorm"]
    assert len(norms) == 4 and all(isinstance(block, layer) for block in norms)
    assert all(getattr(block, "fn", None) is fn for block in norms)


def test_a_function_makes_the_norms():
    requested = []

    def no_op(num_features, num_dims):
        requested.append((num_features, num_dims))
        return nn.Lambda(lambda x: x)

    net = lenet(no_op, num_classes=7)
    net.initialize()
    assert net(X).shape == (2, 7)
    assert requested == [(6, 4), (16, 4), (120, 2), (84, 2)]


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_starts_from_the_same_weights(norm):
    weights = []
    for name in ("none", norm):
        seed_everything(3)
        net = lenet(name)
        net.initialize(mx.init.Xavier())
        net(X)
        weights.append([p.data().asnumpy() for key, p in net.collect_params().items() if key.endswith("weight")])
    assert len(weights[0]) == 5
    for plain, normed in zip(*weights):
        numpy.testing.assert_array_equal(plain, normed)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="norm must be one of 'none', 'scratch', 'fused', 'sync', 'gluon', or .*; got 'batch'"
    ):
        lenet("batch")
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 1, got 0"):
        lenet(num_classes=0)
    with pytest.raises(ValueError, match="pool must be one of 'max', 'avg'; got 'min'"):
        lenet("none", pool="min")
    with pytest.raises(ValueError, match=r"norm must be one of .*; got \['fused'\]"):
        lenet(["fused"])
    with pytest.raises(ValueError, match=r"pool must be one of 'max', 'avg'; got \['max'\]"):
        lenet(pool=["max"])


def test_a_norm_that_makes_no_layer_of_its_sizes_is_refused():
    """Gluon's layers take an axis first."""
    for layer in (nn.BatchNorm, nn.LayerNorm):
        with pytest.raises(InputError, match=f"norm must take .*, got Gluon's {layer.__name__}; .*: nn"):
            lenet(layer)
    with pytest.raises(InputError, match=r"norm must return a Gluon block, got 'x' for \(6, 4\)"):
        lenet(lambda num_features, num_dims: "x")


def test_numbers_of_classes_of_any_integral_type_are_taken():
    net = lenet("none", num_classes=numpy.int64(7))
    net.initialize()
    assert net(X).shape == (2, 7)


def test_the_biases_draw_nothing_so_the_weights_do_not_depend_on_them():
    weights = []
    for use_bias in (True, False):
        seed_everything(3)
        net = nn.Sequential()
        net.add(nn.Conv2D(6, 5, use_bias=use_bias), nn.Dense(10, use_bias=use_bias))
        net.initialize(mx.init.Xavier())
        net(X)
        weights.append([layer.weight.data().asnumpy() for layer in net])
        assert not use_bias or not any(layer.bias.data().asnumpy().any() for layer in net)
    for with_bias, without in zip(*weights):
        numpy.testing.assert_array_equal(with_bias, without)


@pytest.mark.parametrize("norm", ["none", "fused", "gluon", "scratch"])
def test_a_compiled_net_trains_to_the_same_loss_bit_for_bit(norm):
    losses = []
    X = nd.random.uniform(shape=(40, 1, 28, 28))
    minibatches = [(X[:32], nd.arange(32) % 10), (X[32:], nd.arange(8))]
    for net in (lenet(norm), compiled(lenet(norm))):
        seed_everything(0)
        history = train(net, minibatches, minibatches, 2, 1.0, plot=False, progress=False)
        losses.append([epoch.loss for epoch in history])
    assert losses[0] == losses[1]
