"""The layer with fused_batch_norm: in place or compiled into its net, its results are those of the function."""

import copy
import ctypes
import gc
import sys

import mxnet as mx
import numpy
import oracle
import pytest
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm, batch_norm, fused_batch_norm, lenet
from gluon_bn.errors import InputError
from gluon_bn.norm import fused
from gluon_bn.training import seed_everything

NATIVE = pytest.mark.skipif(fused.choose()[0] != "native", reason=fused.status())
MODES = {"eager": None, "hybridized": {}, "static": {"static_alloc": True, "static_shape": True}}


def by_function(*args):
    """The same maths, but the layer does not recognize it, and so uses the returned statistics."""
    return fused_batch_norm(*args)


def made(num_features=6, num_dims=2, fn=fused_batch_norm, **kwargs):
    layer = BatchNorm(num_features, num_dims, fn=fn, **kwargs)
    layer.initialize()
    return layer


def hybridized(net, mode):
    if MODES[mode] is not None:
        net.hybridize(**MODES[mode])
    return net


def equal(ones, others):
    return all(numpy.array_equal(one, other) for one, other in zip(ones, others))


def parameters(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


def steps(net, front, shape, dtype="float32", grad_req="write"):
    """All results of four training steps with predictions between them."""
    net.cast(dtype)
    net.collect_params("gamma|beta").setattr("grad_req", grad_req)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5, "multi_precision": True})
    random, found = numpy.random.RandomState(0), []
    for m in (shape[0], shape[0], shape[0] - 1, shape[0]):
        X, dY = (front.array(random.randn(m, *shape[1:]), dtype=dtype) for _ in range(2))
        X.attach_grad(grad_req)
        for _ in range(2):
            with autograd.record():
                Y = net(X)
            Y.backward(dY)
        trainer.step(m)
        found += [Y.asnumpy(), X.grad.asnumpy(), net(X).asnumpy(), *parameters(net)]
    return found


@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(16, 6), (8, 6, 5, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_the_layer_computes_what_the_function_does(front, mode, shape, dtype, grad_req):
    layer, reference = (made(6, len(shape), fn) for fn in (fused_batch_norm, by_function))
    assert equal(
        steps(hybridized(layer, mode), front, shape, dtype, grad_req), steps(reference, front, shape, dtype, grad_req)
    )


@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(16, 6), (8, 6, 5, 5)])
def test_a_sigmoid_within_the_layer_is_the_sigmoid_after_it(front, shape, dtype, grad_req):
    def within(mode):
        return steps(hybridized(made(6, len(shape), activation="sigmoid"), mode), front, shape, dtype, grad_req)

    after = nn.HybridSequential()
    after.add(made(6, len(shape)), nn.Activation("sigmoid"))
    eager = within("eager")
    for found, expected in zip(eager, steps(after, front, shape, dtype, grad_req)):
        tolerance = 2e-6 if dtype == "float32" else 0  # the compiled operator has its own exponential in float32
        numpy.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * abs(expected).max())
    assert all(equal(within(mode), eager) for mode in MODES)


@pytest.mark.parametrize("shape", [(64, 16, 24, 24), (65, 16, 63, 65), (2000, 120)])
def test_a_sigmoid_within_the_layer_is_the_sigmoid_after_it_in_large_arrays(shape):
    found = []
    for layer in (made(shape[1], len(shape), activation="sigmoid"), made(shape[1], len(shape))):
        X, dY = (nd.array(values) for values in numpy.random.RandomState(0).randn(2, *shape))
        X.attach_grad()
        with autograd.record():
            Y = layer(X)
            Y = Y if layer.act else nd.sigmoid(Y)
        Y.backward(dY)
        found.append([array.asnumpy() for array in (Y, X.grad, layer.gamma.grad(), layer.beta.grad())])
    for within, after in zip(*found):
        numpy.testing.assert_allclose(within, after, rtol=0, atol=2e-6 * abs(after).max())


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softrelu", "softsign", "tanh"])
@pytest.mark.parametrize("fn", [batch_norm, by_function, fused_batch_norm])
def test_every_activation_is_applied_to_Y(fn, name):
    X = nd.random.normal(shape=(16, 6))
    layer = made(fn=fn, activation=name)
    assert layer.collect_params().keys() == {
        p.name for p in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_var)
    }
    for mode in MODES:
        with autograd.record():
            Y, plain = hybridized(layer, mode)(X), made(fn=fn)(X)
        numpy.testing.assert_allclose(Y.asnumpy(), nd.Activation(plain, name).asnumpy(), rtol=3e-7)
    assert f"activation='{name}'" in repr(layer)


@pytest.mark.fault("an activation that does not exist")
def test_an_unknown_activation_is_refused_by_name():
    for wrong in ("swish", "", 1, nd.relu):
        with pytest.raises(InputError, match="activation must be one of 'relu', 'sigmoid', .*; got"):
            BatchNorm(6, 2, activation=wrong)


@NATIVE
def test_the_sigmoid_is_accurate_until_it_is_tiny():
    values = numpy.append(numpy.linspace(-120, 120, 240_001), [numpy.nan, numpy.inf, -numpy.inf]).astype("float32")
    layer = made(1, 4, activation="sigmoid", eps=1e-12, moving_var_initializer="ones")  # predicts the sigmoid itself
    Y = layer(nd.array(values.reshape(1, 1, 1, -1))).asnumpy().ravel()
    exact = 1 / (1 + numpy.exp(-values.astype("float64")))
    numpy.testing.assert_allclose(
        Y, exact, rtol=3e-7, atol=1e-37
    )  # a few units in the last place; exp(-87), where it is clamped


@pytest.fixture(scope="module")
def minibatches():
    random = numpy.random.RandomState(0)
    return [(nd.array(random.randn(16, 1, 28, 28)), nd.array(random.randint(0, 10, 16))) for _ in range(3)]


def trained(minibatches, mode, **settings):
    seed_everything(0)
    net = hybridized(lenet("fused", **settings), mode)
    net.initialize(init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    loss_fn, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for X, y in minibatches:
        with autograd.record():
            loss = loss_fn(net(X), y)
        loss.backward()
        trainer.step(16)
        losses.append(loss.asnumpy())
    return net, losses


@NATIVE
def test_lenet_is_compiled_whole_and_exported_with_the_same_numbers(minibatches, tmp_path):
    X = minibatches[0][0]
    eager, losses = trained(minibatches, "eager")
    assert isinstance(eager, nn.HybridSequential)
    for mode in ("hybridized", "static"):
        net, found = trained(minibatches, mode)
        assert equal(found, losses) and equal(parameters(net), parameters(eager))
        numpy.testing.assert_array_equal(net(X).asnumpy(), eager(X).asnumpy())
    net.export(str(tmp_path / "lenet"))
    with pytest.warns(UserWarning, match="Cannot decide type"):  # the type of the input, which imports leave open
        imported = gluon.SymbolBlock.imports(
            str(tmp_path / "lenet-symbol.json"), ["data"], str(tmp_path / "lenet-0000.params")
        )
    numpy.testing.assert_array_equal(imported(X).asnumpy(), eager(X).asnumpy())
    with autograd.record():
        numpy.testing.assert_array_equal(imported(X).asnumpy(), eager(X).asnumpy())
    statistics = [name for name in imported.collect_params() if "moving" in name]
    assert len(statistics) == 8
    for name in statistics:  # the training pass moved them in both
        (own,) = (p for key, p in eager.collect_params().items() if key.split("_", 1)[1] == name.split("_", 1)[1])
        numpy.testing.assert_array_equal(imported.collect_params()[name].data().asnumpy(), own.data().asnumpy())


@NATIVE
def test_lenet_with_the_sigmoid_in_its_norms_computes_the_same(minibatches, tmp_path):
    net, losses = trained(minibatches, "eager")
    fused, fused_losses = trained(minibatches, "eager", fuse_sigmoid=True)
    assert sum(isinstance(block, nn.Activation) for block in net) == 4
    assert not any(isinstance(block, nn.Activation) for block in fused)
    numpy.testing.assert_allclose(fused_losses, losses, rtol=1e-4)
    assert equal(trained(minibatches, "static", fuse_sigmoid=True)[1], fused_losses)
    net.save_parameters(str(tmp_path / "net.params"))
    fused.load_parameters(str(tmp_path / "net.params"))
    X = minibatches[0][0]
    numpy.testing.assert_allclose(fused(X).asnumpy(), net(X).asnumpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="fuse_sigmoid needs norm='fused', got norm='scratch'; leave out fuse_sigmoid"):
        lenet("scratch", fuse_sigmoid=True)


@pytest.mark.filterwarnings("ignore:All children of this Sequential")
def test_hybridize_compiles_only_the_layers_around_norms_that_it_cannot_compile(minibatches, monkeypatch):
    """Without native operators, or with batch_norm: the layers around the norms are compiled, as in nn.Sequential."""
    for norm in ("scratch", "fused"):
        if norm == "fused":
            monkeypatch.setattr("gluon_bn.model.choose", lambda: ("portable", "for this test"))
            monkeypatch.setattr("gluon_bn.norm.layer.choose", lambda: ("portable", "for this test"))
        net = lenet(norm)
        assert type(net) is nn.Sequential
        net.initialize(init.Xavier())
        expected = net(minibatches[0][0]).asnumpy()
        net.hybridize()
        numpy.testing.assert_allclose(net(minibatches[0][0]).asnumpy(), expected, rtol=1e-5)


@NATIVE
@pytest.mark.parametrize("mode", MODES)
def test_statistics_may_be_written_between_steps(mode):
    layer, X = hybridized(made(), mode), nd.random.normal(shape=(16, 6))
    with autograd.record():
        layer(X)
    layer.moving_mean.set_data(nd.full((1, 6), 3))
    layer.moving_var.data()[:] = 4
    numpy.testing.assert_allclose(layer(X).asnumpy(), (X.asnumpy() - 3) / 2, rtol=1e-4, atol=1e-6)
    with autograd.record():
        layer(X)
    expected = 0.9 * 3 + 0.1 * X.mean(axis=0).asnumpy()
    numpy.testing.assert_allclose(layer.moving_mean.data().asnumpy()[0], expected, rtol=1e-6)


@NATIVE
@pytest.mark.parametrize("mode", MODES)
def test_a_layer_used_twice_moves_its_statistics_twice(mode):
    layer, net, X = made(momentum=0.5), nn.HybridSequential(), nd.random.normal(3, shape=(64, 6))
    net.add(layer, layer)
    hybridized(net, mode)
    with autograd.record():
        Y = net(X)
    Y.backward()
    mean = X.asnumpy().mean(axis=0)
    numpy.testing.assert_allclose(layer.moving_mean.data().asnumpy()[0], mean / 4, rtol=1e-3, atol=1e-3)


@NATIVE
@pytest.mark.parametrize("times", [2, 12])  # from 9 on, a static graph adds each gradient to the sum of those before
def test_gradients_of_one_array_in_many_calls_are_all_added(times):
    class Net(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.layer = made()

        def hybrid_forward(self, F, X):
            return sum(F.tanh(self.layer(F.relu(X))) * i for i in range(1, times)) + self.layer(X)

    found, random = [], numpy.random.RandomState(0)
    X, dY = nd.array(random.randn(16, 6)), nd.array(random.randn(16, 6))
    X.attach_grad()
    for mode in MODES:
        net = hybridized(Net(), mode)
        with autograd.record():
            Y = net(X)
        Y.backward(dY)
        found.append([X.grad.asnumpy(), net.layer.gamma.grad().asnumpy(), net.layer.beta.grad().asnumpy()])
    for others in found[1:]:
        for one, other in zip(found[0], others):
            numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


REFUSED = {
    "must have 2 axes": lambda: made()(nd.ones((4, 6, 3, 3))),
    r"must have 6 channels .*, got \(4, 5\)": lambda: made()(nd.ones((4, 5))),
    "MXNet array, got builtins.list; wrap it": lambda: made()([[1] * 6]),
    "floats, got int32": lambda: made()(nd.ones((4, 6), dtype="int32")),
    "gamma must be float64 as X is, got float32": lambda: made()(nd.ones((4, 6), dtype="float64")),
    "gamma must be an mx.np array as X is, got mx.nd": lambda: made()(mx.np.ones((4, 6))),
    "more than one value per channel": lambda: made()(nd.ones((1, 6))),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.fault("bad input to BatchNorm")
def test_bad_input_is_refused_by_name(message):
    with autograd.train_mode(), pytest.raises(ValueError, match=message):
        REFUSED[message]()


@pytest.mark.fault("bad input to BatchNorm")
def test_bad_input_after_good_input_is_refused_and_changes_nothing():
    layer = made()
    with autograd.record():
        layer(nd.random.normal(shape=(16, 6)))
        before = parameters(layer)
        for bad in (nd.ones((1, 6)), nd.ones((16, 7)), nd.ones((16, 6), dtype="float64")):
            with pytest.raises(ValueError):
                layer(bad)
    assert equal(parameters(layer), before)
    layer.gamma.cast("float64")  # without the layer's knowledge
    with pytest.raises(ValueError, match="gamma must be float32 as X is, got float64"):
        layer(nd.ones((16, 6)))


@pytest.mark.fault("a compiled graph around BatchNorm")
def test_a_graph_in_float16_is_refused_with_the_way_out():
    net, X = nn.HybridSequential(), nd.ones((16, 6), dtype="float16")
    net.add(made())
    net.cast("float16")
    net.hybridize()
    with pytest.raises(ValueError, match="put it in an nn.Sequential.* float32 or float64"):
        net(X)
    assert net[0](X).dtype == numpy.float16  # alone it runs eagerly


def test_a_copy_of_a_used_layer_is_independent():
    layer, X = made(), nd.array(oracle.draw((16, 6))[0])
    with autograd.record():
        layer(X)
    other = copy.deepcopy(layer)
    before = parameters(layer)
    with autograd.record():
        other(X)
    assert equal(parameters(layer), before) and not equal(parameters(other), before)


class Allocated(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in "a b c d mapped f g used i j".split()]


def in_use():
    """The bytes that C and C++ have allocated, and the number of Python's own blocks."""
    nd.waitall()
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Allocated
    return mallinfo().used + mallinfo().mapped, sys.getallocatedblocks()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
@pytest.mark.parametrize(
    "fn, mode",
    [
        pytest.param(batch_norm, "eager", marks=pytest.mark.slow),
        *(pytest.param(fused_batch_norm, mode, marks=NATIVE) for mode in MODES),
    ],
)
def test_a_step_leaves_no_memory_behind(fn, mode):
    net = nn.HybridSequential()
    net.add(made(32, fn=fn), nn.Dense(32), made(32, fn=fn))
    net[1].initialize()
    hybridized(net, mode)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    X = nd.random.normal(shape=(64, 32))
    X.attach_grad()

    def train(times):
        for _ in range(times):
            with autograd.record():
                Y = net(X)
            Y.backward()
            trainer.step(64)
        return in_use()

    for _ in range(2):
        found = [train(500) for _ in range(4)]
        # 32 bytes or a Python object per step would add 16,000 bytes or 500 blocks each time
        assert (numpy.diff(found, axis=0).min(axis=0) < [8000, 250]).all(), found
        with pytest.raises(ValueError, match="must have 32 channels"):  # an error must not leak memory either
            made(32)(nd.ones((4, 5)))
