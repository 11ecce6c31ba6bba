"""fused_batch_norm: the native and the portable path compute what batch_norm does, however they are called."""

import threading

import mxnet as mx
import numpy
import oracle
import pytest
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm
from gluon_bn.bench import accuracy
from gluon_bn.norm import definition as maths
from gluon_bn.norm import fused, native_op, portable

EPS, MOMENTUM = 1e-5, 0.9
# float32 keeps 6e-8 of a number; a sum of products of three rounded numbers a few times that.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
LARGE = (64, 16, 24, 24)  # large enough to be shared among threads
HUGE = (65, 16, 63, 65)  # large enough to be written past the cache; its planes begin at odd addresses


def compiled(*arrays):
    if fused.choose()[0] != "native":
        pytest.skip(fused.status())
    return native_op.batch_norm_native(*arrays)


PATHS = pytest.mark.parametrize("fn", [compiled, portable.batch_norm_portable], ids=["native", "portable"])


def call(fn, X, gamma, beta, moving_mean, moving_var):
    return fn(X, gamma, beta, moving_mean, moving_var, EPS, MOMENTUM)


def ready(shape):
    """Arrays of the nd front with gradients attached, and dY."""
    *arrays, dY = (nd.array(array) for array in oracle.draw(shape))
    for array in arrays[:3]:
        array.attach_grad()
    return arrays, dY


def gradients(arrays):
    return [array.grad.asnumpy() for array in arrays[:3]]


def close(actual, expected, tolerance=1e-6):
    return all(oracle.relative_error(a, e) < tolerance for a, e in zip(actual, expected))


@PATHS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [*oracle.SHAPES, LARGE, HUGE, (16, 70, 1, 1), (9, 33), (3, 1, 5, 2)])
def test_training_agrees_with_float64(fn, front, shape, dtype):
    drawn = oracle.rounded(oracle.draw(shape), dtype)
    actual = oracle.run(fn, front, drawn[:-1], drawn[-1], dtype=dtype)
    assert close(actual, oracle.train(*drawn), TOLERANCE[dtype])


@PATHS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [*oracle.SHAPES, LARGE])
def test_prediction_agrees_with_float64(fn, front, shape, dtype):
    drawn = oracle.rounded(oracle.draw(shape), dtype)
    actual = oracle.run(fn, front, drawn[:-1], drawn[-1], dtype=dtype, train_mode=False)
    assert close(actual, oracle.predict(*drawn), TOLERANCE[dtype])


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("shape", oracle.SHAPES)
def test_the_fused_function_agrees_with_batch_norm(front, shape, train_mode):
    *arrays, dY = oracle.draw(shape)
    fast, reference = (
        oracle.run(fn, front, arrays, dY, train_mode=train_mode) for fn in (fused.fused_batch_norm, maths.batch_norm)
    )
    assert close(fast, reference)


@PATHS
@pytest.mark.parametrize("offset", [1e2, 1e4])
def test_a_large_mean_costs_no_accuracy(fn, offset):
    drawn = oracle.rounded(oracle.draw((64, 6, 12, 12), offset=offset), "float32")
    actual = oracle.run(fn, nd, drawn[:-1], drawn[-1])
    assert close(actual, oracle.train(*drawn))


@pytest.mark.parametrize("mean", [0, 100, 10000])
def test_the_native_error_is_that_of_one_rounding(mean):
    """As small as if all sums were in float64: PyTorch's error is 4e-8 at mean 0, and larger at the others."""
    drawn = accuracy.make_arrays((256, 6, 24, 24), mean)
    one = (1, 6, 1, 1)
    arrays = [nd.array(drawn.X), *(nd.array(array).reshape(one) for array in (drawn.gamma, drawn.beta))]
    for array in arrays:
        array.attach_grad()
    with autograd.record():
        Y = call(compiled, *arrays, nd.zeros(one), nd.ones(one))[0]
    Y.backward(nd.array(drawn.dY))
    found = accuracy.errors(drawn, Y.asnumpy(), *gradients(arrays))
    assert found["Y"] < 2**-24 and found["dX"] < 2**-24 and max(found.values()) < 2e-7, found


@PATHS
def test_an_outlier_in_the_first_place_costs_no_accuracy(fn):
    drawn = oracle.draw((64, 6, 12, 12))
    drawn[0][0, :, 0, 0] = 1e6  # the value from which native counts the others
    drawn = oracle.rounded(drawn, "float32")
    actual = oracle.run(fn, nd, drawn[:-1], drawn[-1])
    assert close(actual, oracle.train(*drawn), 1e-5)  # beside 1e6, float32 keeps of the others' gradient no more


@PATHS
@pytest.mark.parametrize("train_mode", [True, False])
def test_float16_is_as_good_as_its_own_rounding(fn, train_mode):
    if fn is compiled:
        fn = fused.fused_batch_norm  # which knows that float16 is not for native
    drawn = oracle.rounded(oracle.draw((64, 6, 12, 12), offset=10), "float16")
    actual = oracle.run(fn, nd, drawn[:-1], drawn[-1], dtype="float16", train_mode=train_mode)
    assert close(actual, (oracle.train if train_mode else oracle.predict)(*drawn), 1e-3)  # float16 keeps 5e-4


@PATHS
def test_a_constant_channel_gives_beta(fn):
    arrays, _ = ready((32, 6, 5, 5))
    arrays[0][:, 2] = 12345.678
    with autograd.train_mode():
        Y, _, _ = call(fn, *arrays)
    assert (Y[:, 2] == arrays[2][0, 2]).asnumpy().all()


@PATHS
@pytest.mark.parametrize("shape", [(64, 40), LARGE])
@pytest.mark.parametrize("poison", [numpy.nan, numpy.inf])
@pytest.mark.fault("NaN or infinity in a channel")
def test_a_nan_stays_in_its_channel(fn, shape, poison):
    arrays, dY = ready(shape)
    with autograd.record():
        clean = [call(fn, *arrays)[0]]
    clean[0].backward(dY)
    clean = [clean[0].asnumpy(), *gradients(arrays)]
    arrays[0][3, 5] = poison
    with autograd.record():
        Y, moving_mean, moving_var = call(fn, *arrays)
    Y.backward(dY)
    others = numpy.arange(shape[1]) != 5
    for dirty, before in zip([Y.asnumpy(), *gradients(arrays)], clean):
        assert numpy.array_equal(dirty[:, others], before[:, others])
    assert numpy.isnan(Y[:, 5].asnumpy()).all()
    assert not numpy.isfinite(moving_mean.asnumpy()[:, 5]).any() and numpy.isnan(moving_var.asnumpy()[:, 5]).all()


@PATHS
@pytest.mark.parametrize("shape", [(16, 6, 5, 5), LARGE])
@pytest.mark.parametrize("train_mode", [True, False])
def test_grad_req_add_adds(fn, train_mode, shape):
    arrays, dY = ready(shape)
    with autograd.record(train_mode=train_mode):
        Y = call(fn, *arrays)[0]
    Y.backward(dY)
    once = gradients(arrays)
    for array in arrays[:3]:
        array.attach_grad("add")
    for _ in range(3):
        with autograd.record(train_mode=train_mode):
            Y = call(fn, *arrays)[0]
        Y.backward(dY)
    assert close(gradients(arrays), [3 * gradient for gradient in once])


@PATHS
@pytest.mark.parametrize("shape", [(16, 6, 5, 5), LARGE])
def test_backward_may_be_repeated_on_a_kept_graph(fn, shape):
    arrays, dY = ready(shape)
    with autograd.record():
        Y = call(fn, *arrays)[0]
    Y.backward(dY, retain_graph=True)
    first = gradients(arrays)
    Y.backward(2 * dY, retain_graph=True)
    assert close(gradients(arrays), [2 * gradient for gradient in first])
    Y.backward(dY)
    assert close(gradients(arrays), first)


@PATHS
@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("without", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2)])
def test_what_needs_no_gradient_is_left_out(fn, without, train_mode):
    arrays, dY = ready((16, 6, 5, 5))
    with autograd.record(train_mode=train_mode):
        Y = call(fn, *arrays)[0]
    Y.backward(dY)
    everything = gradients(arrays)
    arrays, dY = ready((16, 6, 5, 5))
    for i in without:
        arrays[i] = arrays[i].detach()
    with autograd.record(train_mode=train_mode):
        Y = call(fn, *arrays)[0]
    Y.backward(dY)
    for i in {0, 1, 2} - set(without):
        assert numpy.array_equal(arrays[i].grad.asnumpy(), everything[i])


@PATHS
def test_a_slice_is_as_good_as_a_copy(fn):
    arrays, dY = ready((16, 6, 5, 5))
    whole, part = arrays[0], arrays[0][3:7].copy()
    part.attach_grad()
    with autograd.record():
        Y = call(fn, whole[3:7], *arrays[1:])[0]
    Y.backward(dY[3:7])
    from_slice = gradients(arrays)
    with autograd.record():
        Y_copy = call(fn, part, *arrays[1:])[0]
    Y_copy.backward(dY[3:7])
    assert numpy.array_equal(Y.asnumpy(), Y_copy.asnumpy())
    assert numpy.array_equal(from_slice[0][3:7], part.grad.asnumpy())
    assert (from_slice[0][:3] == 0).all() and (from_slice[0][7:] == 0).all()


@PATHS
def test_a_view_made_without_autograd_is_as_good_as_a_copy(fn):
    arrays, dY = ready((16, 6, 5, 5))
    view = arrays[0][3:7]
    copy = view.copy()
    for array in (view, copy):
        array.attach_grad()
        with autograd.record():
            Y = call(fn, array, *arrays[1:])[0]
        Y.backward(dY[3:7])
    assert numpy.array_equal(view.grad.asnumpy(), copy.grad.asnumpy())


@PATHS
def test_an_X_that_is_used_twice_gets_both_gradients(fn):
    arrays, dY = ready((16, 6, 5, 5))
    with autograd.record():
        Y = call(fn, *arrays)[0]
    Y.backward(dY)
    alone = gradients(arrays)[0]
    with autograd.record():
        Y = call(fn, *arrays)[0] + 3 * arrays[0]
    Y.backward(dY)
    assert close([gradients(arrays)[0]], [alone + 3 * dY.asnumpy()])


@PATHS
@pytest.mark.parametrize("train_mode", [True, False])
def test_nothing_is_mutated_and_prediction_leaves_the_statistics_alone(fn, train_mode):
    arrays, dY = ready((16, 6, 5, 5))
    before = [array.asnumpy() for array in arrays]
    with autograd.record(train_mode=train_mode):
        Y, moving_mean, moving_var = call(fn, *arrays)
    Y.backward(dY)
    assert all(numpy.array_equal(array.asnumpy(), old) for array, old in zip(arrays, before))
    for new, old in ((moving_mean, before[3]), (moving_var, before[4])):
        assert numpy.array_equal(new.asnumpy(), old) == (not train_mode)


@PATHS
def test_the_statistics_carry_no_graph(fn):
    arrays, _ = ready((16, 6, 5, 5))
    with autograd.record():
        _, *statistics = call(fn, *arrays)
    for statistic in statistics:
        with pytest.raises(mx.MXNetError):
            statistic.backward()


@PATHS
def test_it_works_between_a_convolution_and_a_pooling(fn):
    """oneDNN's convolution hands on its own memory layout."""

    def train(fn):
        mx.random.seed(0)
        conv, pool = gluon.nn.Conv2D(16, 3), gluon.nn.AvgPool2D(2)  # a maximum would jump where rounding decides
        conv.initialize(mx.init.Xavier())
        image, dY = nd.random.normal(shape=(8, 8, 20, 20)), nd.random.normal(shape=(8, 16, 9, 9))
        one = (1, 16, 1, 1)
        arrays = [nd.ones(one), nd.zeros(one), nd.zeros(one), nd.ones(one)]
        with autograd.record():
            Y = pool(call(fn, conv(image), *arrays)[0])
        Y.backward(dY)
        return conv.weight.grad().asnumpy()

    assert oracle.relative_error(train(fn), train(maths.batch_norm)) < 1e-5  # sums of 2592 products in float32


@PATHS
def test_python_threads_may_share_it(fn):
    arrays, dY = ready(LARGE)
    with autograd.record():
        Y = call(fn, *arrays)[0]
    Y.backward(dY)
    expected, found = [Y.asnumpy(), *gradients(arrays)], []

    def work():
        mine, dY = ready(LARGE)
        for _ in range(20):
            with autograd.record():
                Y = call(fn, *mine)[0]
            Y.backward(dY)
        found.append([Y.asnumpy(), *gradients(mine)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4 and all(close(results, expected) for results in found)


@pytest.mark.parametrize("flags", [{}, {"static_alloc": True, "static_shape": True}])
def test_the_native_operator_serves_in_a_compiled_graph(flags):
    arrays, dY = ready(LARGE)
    with autograd.record():
        Y, moving_mean, moving_var = call(compiled, *arrays)
    Y.backward(dY)
    expected = [Y.asnumpy(), moving_mean.asnumpy(), moving_var.asnumpy(), *gradients(arrays)]
    names = [mx.sym.var(name) for name in ("X", "gamma", "beta", "moving_mean", "moving_var")]
    graph = nd.CachedOp(native_op.trace(*names, EPS, MOMENTUM), flags.items())
    for _ in range(3):
        moving = [array.copy() for array in arrays[3:]]
        with autograd.record():
            Y = graph(*arrays[:3], *moving)
        Y.backward(dY)
        found = [*(array.asnumpy() for array in (Y, *moving)), *gradients(arrays)]
        assert all(numpy.array_equal(one, other) for one, other in zip(found, expected))


@pytest.mark.fault("bad input to fused_batch_norm")
def test_bad_input_is_refused_as_batch_norm_refuses_it():
    arrays, _ = ready((16, 6))
    with pytest.raises(ValueError, match="add a batch axis"):
        call(fused.fused_batch_norm, arrays[0][0], *arrays[1:])


@PATHS
def test_layers_of_one_shape_keep_apart(fn):
    """They share a compiled graph, and its memory must not be one layer's alone."""
    results = []
    for maths_of_layer in (maths.batch_norm, fn):
        net = nn.Sequential()
        for _ in range(3):
            net.add(BatchNorm(6, 2, fn=maths_of_layer), nn.Activation("sigmoid"))
        net.initialize()
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
        random = numpy.random.RandomState(0)
        for _ in range(4):
            X, dY = (nd.array(random.randn(16, 6)) for _ in range(2))
            with autograd.record():
                Y = net(X)
            Y.backward(dY)
            trainer.step(16)
        results.append([p.data().asnumpy() for p in net.collect_params().values()] + [net(X).asnumpy()])
    for one, other in zip(*results):
        numpy.testing.assert_allclose(one, other, atol=1e-5)


@PATHS
def test_the_caller_may_write_to_its_statistics_while_recording(fn):
    arrays, dY = ready((16, 6))
    with autograd.record():
        Y, moving_mean, moving_var = call(fn, *arrays)
        arrays[3][:], arrays[4][:] = moving_mean, moving_var
    Y.backward(dY)
    assert close(gradients(arrays), oracle.backward(*(a.asnumpy() for a in arrays[:2]), EPS, dY.asnumpy()), 1e-5)


@pytest.mark.parametrize(
    "fn", [maths.batch_norm, compiled, portable.batch_norm_portable], ids=["batch_norm", "native", "portable"]
)
@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 2, 2)])
def test_there_is_no_gradient_of_a_gradient_as_the_docstring_says(fn, shape):
    arrays, _ = ready(shape)
    with autograd.record():
        Y = call(fn, *arrays)[0]
        with pytest.raises(mx.MXNetError, match="non-differentiable|higher order|gradient"):
            autograd.grad((Y**3).sum(), arrays[0], create_graph=True)[0].sum().backward()
