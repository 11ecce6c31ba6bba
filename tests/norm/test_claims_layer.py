"""The chapter's claims about the layer: prediction, the separation of maths and bookkeeping, sizes, Gluon's layer."""

import contextlib

import numpy
import pytest
from mxnet import autograd, init, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm, batch_norm, fused_batch_norm

FNS = [batch_norm, fused_batch_norm]


def trained_layer(fn=batch_norm, shape=(32, 5)):
    """A layer that has seen three minibatches."""
    layer = BatchNorm(shape[1], num_dims=len(shape), fn=fn)
    layer.initialize()
    for _ in range(3):
        with autograd.record():
            layer(nd.random.normal(2, 3, shape=shape))
    return layer


@pytest.mark.claim("C10")
@pytest.mark.parametrize("shape", [(32, 5), (8, 5, 4, 3)])
@pytest.mark.parametrize("fn", FNS)
def test_a_row_alone_predicts_as_in_any_minibatch_and_in_training_the_minibatch_matters(fn, shape):
    layer = trained_layer(fn, shape)
    first, second = (nd.random.normal(2, 3, shape=shape) for _ in range(2))
    second[0] = first[0]
    alone, one, other = (layer(X)[0].asnumpy() for X in (first[:1], first, second))
    # the same arithmetic for each value, but the compiler may order it otherwise for another batch size
    numpy.testing.assert_allclose(alone, one, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_array_equal(one, other)
    with autograd.train_mode():
        one, other = layer(first)[0].asnumpy(), layer(second)[0].asnumpy()
    assert abs(one - other).max() > 0.01


@pytest.mark.claim("C26")
@pytest.mark.parametrize(
    "mode, training",
    [
        (autograd.record, True),
        (lambda: autograd.record(train_mode=False), False),
        (autograd.train_mode, True),
        (autograd.predict_mode, False),
        (contextlib.nullcontext, False),
    ],
    ids=["record", "record(train_mode=False)", "train_mode", "predict_mode", "plain"],
)
@pytest.mark.parametrize("fn", FNS)
def test_autograd_alone_tells_training_from_prediction(fn, mode, training):
    layer = trained_layer(fn)
    X, before = nd.random.normal(7, 3, shape=(32, 5)), layer.moving_mean.data().asnumpy()
    with mode():
        Y = layer(X).asnumpy()
    assert (abs(Y.mean(axis=0)).max() < 1e-4) == training  # by its own mean, or by that of other minibatches
    assert (abs(layer.moving_mean.data().asnumpy() - before).min() > 0.1) == training


@pytest.mark.claim("C27")
def test_a_function_written_elsewhere_serves_as_the_layers_maths_and_the_statistics_are_still_kept():
    def mean_only(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        if not autograd.is_training():
            return gamma * (X - moving_mean) + beta, moving_mean, moving_var
        mean = X.mean(axis=0, keepdims=True)
        return gamma * (X - mean) + beta, momentum * moving_mean + (1 - momentum) * mean, moving_var

    layer = BatchNorm(2, num_dims=2, fn=mean_only)
    layer.initialize()
    X = nd.array([[1, 2], [3, 2], [5, 6], [7, 6]])
    with autograd.record():
        Y = layer(X)
    assert Y.asnumpy().tolist() == [[-3, -2], [-1, -2], [1, 2], [3, 2]]
    numpy.testing.assert_allclose(layer.moving_mean.data().asnumpy(), [[0.4, 0.4]], rtol=1e-6)
    assert layer.moving_var.data().asnumpy().tolist() == [[0, 0]]
    numpy.testing.assert_allclose(layer(X).asnumpy(), X.asnumpy() - 0.4, rtol=1e-6)


@pytest.mark.claim("C28")
@pytest.mark.parametrize("shape", [(8, 5), (8, 5, 4, 3)])
def test_our_sizes_are_given_and_checked_and_gluons_are_inferred(shape):
    X = nd.random.normal(shape=shape)
    theirs = nn.BatchNorm()
    theirs.initialize()
    theirs(X)
    assert theirs.gamma.shape == (5,)
    ours = BatchNorm(6, num_dims=len(shape))
    ours.initialize()
    with pytest.raises(ValueError, match=r"X must have 6 channels \(axis 1\), .* set num_features=5"):
        ours(X)
    ours = BatchNorm(5, num_dims=6 - len(shape))
    ours.initialize()
    with pytest.raises(ValueError, match=f"X must have {6 - len(shape)} axes"):
        ours(X)


@pytest.mark.claim("C23")
@pytest.mark.parametrize("fn", FNS)
def test_a_dense_layer_is_phi_of_the_norm_of_the_affine_map(fn):
    net = nn.Sequential()
    net.add(nn.Dense(3), BatchNorm(3, num_dims=2, fn=fn), nn.Activation("sigmoid"))
    net.initialize(init.Normal(1))
    u = nd.array([[1, 2], [3, 2], [5, 6], [7, 6]])
    with autograd.train_mode():
        y = net(u).asnumpy()
    x = u.asnumpy().astype("float64") @ net[0].weight.data().asnumpy().T + net[0].bias.data().asnumpy()
    expected = 1 / (1 + numpy.exp(-(x - x.mean(axis=0)) / numpy.sqrt(x.var(axis=0) + 1e-5)))
    numpy.testing.assert_allclose(y, expected, atol=1e-5)  # float32 carries 6e-8, times a few roundings of sums of 20
