"""The function `batch_norm`: what it computes, what it leaves unchanged, and what it refuses."""

import mxnet as mx
import numpy
import oracle
import pytest
import wrong
from mxnet import autograd, nd

from gluon_bn import batch_norm
from gluon_bn.norm.definition import check_constants

ROWS = [[1, 2], [3, 2], [5, 6], [7, 6]]  # means 4 and 4, variances 5 and 4


def by_hand(fn, front):
    """fn on the worked example, whose results fit on a line."""
    one, zero = front.ones((1, 2)), front.zeros((1, 2))
    with autograd.train_mode():
        return fn(front.array(ROWS), one, zero, zero, zero, 0.0, 0.9)


def test_four_rows_by_hand(front):
    Y, moving_mean, moving_var = by_hand(batch_norm, front)
    s = 5**0.5
    numpy.testing.assert_allclose(Y.asnumpy(), [[-3 / s, -1], [-1 / s, -1], [1 / s, 1], [3 / s, 1]], rtol=1e-6)
    numpy.testing.assert_allclose(moving_mean.asnumpy(), [[0.4, 0.4]], rtol=1e-6)
    numpy.testing.assert_allclose(moving_var.asnumpy(), [[0.5, 0.4]], rtol=1e-6)


def test_prediction_by_hand(front):
    one = front.ones((1, 2))
    Y, _, _ = batch_norm(front.array(ROWS), 2 * one, 3 * one, 4 * one, 4 * one, 0.0, 0.9)
    numpy.testing.assert_allclose(Y.asnumpy(), [[0, 1], [2, 1], [4, 5], [6, 5]], rtol=1e-6)


def check_against_oracle(fn, front, shape, dtype, tolerance):
    """Forward, the three gradients and the statistics of fn against NumPy in float64."""
    *arrays, dY = oracle.rounded(oracle.draw(shape), dtype)
    actual = oracle.run(fn, front, arrays, dY, 1e-3, 0.9, dtype)
    for name, a, e in zip(oracle.RESULTS, actual, oracle.train(*arrays, dY, 1e-3, 0.9)):
        assert oracle.relative_error(a, e) <= tolerance, name


# float32 carries 6e-8; the sums and the division leave a few times that
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("shape", oracle.SHAPES)
def test_agrees_with_the_oracle(front, shape, dtype, tolerance):
    check_against_oracle(batch_norm, front, shape, dtype, tolerance)


def test_the_right_version_of_the_wrong_ones_passes():
    check_against_oracle(wrong.changed({}), nd, (64, 7), "float32", 1e-6)


@pytest.mark.parametrize("mistake", wrong.WRONG)
def test_the_oracle_rejects_wrong_maths(mistake):
    with pytest.raises(AssertionError):
        check_against_oracle(wrong.WRONG[mistake], nd, (64, 7), "float32", 1e-6)


@pytest.mark.parametrize("shape", [(16, 3), (4, 3, 2, 2)])
def test_gradient_in_prediction_mode(front, shape):
    *arrays, dY = oracle.draw(shape)
    X, gamma, _, moving_mean, moving_var = arrays
    Y, new_mean, new_var, dX, dgamma, dbeta = oracle.run(
        batch_norm, front, arrays, dY, dtype="float64", train_mode=False
    )
    X_hat = (X - moving_mean) / numpy.sqrt(moving_var + 1e-5)
    numpy.testing.assert_allclose(dX, dY * gamma / numpy.sqrt(moving_var + 1e-5), rtol=1e-12)
    numpy.testing.assert_allclose(dgamma, (dY * X_hat).sum(oracle.axes_of(X), keepdims=True), rtol=1e-10)
    numpy.testing.assert_allclose(dbeta, dY.sum(oracle.axes_of(X), keepdims=True), rtol=1e-10)
    numpy.testing.assert_array_equal(new_mean, moving_mean)
    numpy.testing.assert_array_equal(new_var, moving_var)


def test_nothing_is_mutated(front):
    arrays = [front.array(array, dtype="float32") for array in oracle.draw((8, 3))[:5]]
    before = [array.asnumpy().copy() for array in arrays]
    with autograd.record():
        batch_norm(*arrays, 1e-5, 0.9)
    for array, old in zip(arrays, before):
        numpy.testing.assert_array_equal(array.asnumpy(), old)


def test_the_returned_statistics_carry_no_gradient(front):
    arrays = [front.array(array, dtype="float32") for array in oracle.draw((8, 3))[:5]]
    arrays[0].attach_grad()
    with autograd.record():
        _, moving_mean, moving_var = batch_norm(*arrays, 1e-5, 0.9)
    for statistic in (moving_mean, moving_var):
        with pytest.raises(mx.base.MXNetError, match="computational graph"):
            statistic.backward()


def test_an_offset_of_1e4_is_harmless():
    *arrays, dY = oracle.rounded(oracle.draw((64, 6, 8, 8), offset=1e4), "float32")
    Y = oracle.run(batch_norm, nd, arrays, dY)[0]
    # float32 holds 1e4 to 1e-3 / 2 and its mean no better; E[X^2] - E[X]^2 would be off by more than 1
    assert oracle.relative_error(Y, oracle.forward(*arrays[:3], 1e-5)[0]) < 1e-3


def test_a_constant_channel_gives_beta(front):
    X, gamma, beta, moving_mean, moving_var, dY = oracle.draw((16, 3))
    X[:, 1] = 7
    Y, *_, dX, _, _ = oracle.run(batch_norm, front, (X, gamma, beta, moving_mean, moving_var), dY, dtype="float64")
    numpy.testing.assert_allclose(Y[:, 1], beta[0, 1])
    assert numpy.isfinite(dX).all()


@pytest.mark.fault("NaN or infinity in a channel")
def test_a_nan_stays_in_its_channel():
    X, gamma, beta, moving_mean, moving_var, dY = oracle.draw((16, 3))
    X[5, 1] = numpy.nan
    for result in oracle.run(batch_norm, nd, (X, gamma, beta, moving_mean, moving_var), dY):
        assert numpy.isnan(result[:, 1]).any() or result.shape[0] == 1
        assert numpy.isfinite(result[:, [0, 2]]).all()


ONE, ZERO = nd.ones((1, 2)), nd.zeros((1, 2))
REFUSED = {
    r"\(m, d\) or \(m, c, h, w\), got \(2,\); add a batch axis": dict(X=nd.ones((2,))),
    r"got \(2, 2, 2\); flatten sequences": dict(X=nd.ones((2, 2, 2))),
    r"floats, got int32; convert it by X.astype": dict(X=nd.ones((4, 2), dtype="int32")),
    r"MXNet array, got numpy.ndarray; wrap it": dict(X=numpy.ones((4, 2), "float32")),
    r"more than one value per channel in training, got \(1, 2\)": dict(X=nd.ones((1, 2))),
    r"gamma must be \(1, 2\) for X \(4, 2\), got \(1, 3\)": dict(gamma=nd.ones((1, 3))),
    r"beta must be \(1, 2\) for X \(4, 2\), got \(2,\)": dict(beta=nd.ones((2,))),
    r"moving_var must be \(1, 2\)": dict(moving_var=nd.ones((1, 2, 1, 1))),
    r"moving_mean must be float32 as X is, got float64": dict(moving_mean=ZERO.astype("float64")),
    r"gamma must be an mx.nd array as X is, got mx.np": dict(gamma=ONE.as_np_ndarray()),
    r"eps must be a finite number >= 0, got -1": dict(eps=-1),
    r"eps must be a finite number >= 0, got nan": dict(eps=float("nan")),
    r"momentum must be between 0 and 1, got 1.5": dict(momentum=1.5),
    r"momentum must be a number, got '0.9'": dict(momentum="0.9"),
}


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.fault("bad input to batch_norm")
def test_bad_input_is_refused_by_name(message):
    good = dict(X=nd.array(ROWS), gamma=ONE, beta=ZERO, moving_mean=ZERO, moving_var=ZERO, eps=1e-5, momentum=0.9)
    with autograd.train_mode(), pytest.raises(ValueError, match=message):
        batch_norm(**{**good, **REFUSED[message]})


@pytest.mark.fault("bad input to batch_norm")
def test_an_empty_batch_is_refused():
    with mx.util.np_shape(True), pytest.raises(ValueError, match=r"at least one example.*\(0, 2\)"):
        batch_norm(mx.np.zeros((0, 2)), *[array.as_np_ndarray() for array in (ONE, ZERO, ZERO, ONE)], 1e-5, 0.9)


def test_one_example_is_welcome_in_prediction():
    assert batch_norm(nd.ones((1, 2)), ONE, ZERO, ZERO, ONE, 1e-5, 0.9)[0].shape == (1, 2)


def test_the_ends_of_the_ranges_are_accepted():
    for eps, momentum in ((0, 0), (1e-8, 1), (1.0, 0.5)):
        check_constants(eps, momentum)
