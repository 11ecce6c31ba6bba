"""Max pooling by the compiled operator: Gluon's results, bit for bit."""

import mxnet as mx
import numpy
import pytest
from mxnet import autograd, nd
from mxnet.gluon import nn

from gluon_bn.norm import MaxPool2D, choose

pytestmark = pytest.mark.skipif(choose()[0] != "native", reason="needs the compiled operator")


def pooled(block, X, dY, front=mx.nd):
    """Return Y and dX; as in a network, the input of the pooling is not itself a variable."""
    X, dY = front.array(X), front.array(dY)
    X.attach_grad()
    with autograd.record():
        Y = block(X * 1)
    Y.backward(dY)
    return Y.asnumpy(), X.grad.asnumpy()


def same(first, second):
    return all(numpy.array_equal(a, b) for a, b in zip(first, second))


def arrays(shape):
    random = numpy.random.default_rng(0)
    X = random.integers(-2, 3, shape) / 4.0  # many equal values, whose order decides where the gradient goes
    return X, random.standard_normal((*shape[:2], shape[2] // 2, shape[3] // 2))


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (3, 5, 4, 6), (2, 3, 10, 2), (256, 6, 24, 24)])
@pytest.mark.parametrize("flags", [None, {}, {"static_alloc": True, "static_shape": True}])
def test_the_results_are_gluons(shape, flags, front):
    block = MaxPool2D(2, 2)
    block.compiles = True
    if flags is not None:
        block.hybridize(**flags)
    assert same(pooled(block, *arrays(shape), front), pooled(nn.MaxPool2D(2, 2), *arrays(shape), front))


def test_by_hand():
    X = [[[[1, 3, 3, 3], [2, 3, 3, 4]]]]  # of equal values, the first gets the gradient
    Y, dX = pooled(MaxPool2D(2, 2), X, [[[[10, 20]]]])
    assert Y.tolist() == [[[[3, 4]]]] and dX.tolist() == [[[[0, 10, 0, 0], [0, 0, 0, 20]]]]


def test_gradients_are_added_where_the_input_asks_for_it():
    X = nd.array(arrays((2, 3, 4, 4))[0])
    X.attach_grad(grad_req="add")
    for _ in range(2):
        with autograd.record():
            Y = MaxPool2D(2, 2)(X)
        Y.backward()
    assert X.grad.sum().asscalar() == 2 * Y.size


@pytest.mark.parametrize(
    "settings, shape, dtype",
    [
        ({}, (1, 2, 5, 4), "float32"),
        ({}, (1, 2, 4, 4), "float16"),
        ({"padding": 1}, (1, 2, 4, 4), "float32"),
        ({"strides": 1}, (1, 2, 4, 4), "float32"),
        ({"ceil_mode": True}, (1, 2, 4, 5), "float32"),
    ],
)
def test_other_poolings_are_left_to_mxnet(settings, shape, dtype):
    X = nd.random.normal(shape=shape).astype(dtype)
    settings = {"pool_size": 2, "strides": 2, **settings}
    Y = MaxPool2D(**settings)(X)
    assert Y.dtype == X.dtype and (Y == nn.MaxPool2D(**settings)(X)).min().asscalar() == 1


def test_an_exported_net_needs_no_operator():
    symbol = MaxPool2D(2, 2)(mx.sym.var("X"))
    assert "gluon_bn" not in symbol.tojson() and "Pooling" in symbol.tojson()
