"""The gradient by hand and by autograd, what it never proposes, and the place of batch normalization in a layer."""

import numpy
import pytest

from gluon_bn.experiments import gradient

SHAPES = [(64, 5), (4, 3, 5, 6)]
SEEDS = range(3)


def column(*values):
    return numpy.array(values, dtype="float64").reshape(-1, 1)


@pytest.mark.claim("C04")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_unit_gets_mean_0_and_variance_v_over_v_plus_eps(shape, seed):
    """The variance is 1 only in the limit of a small eps."""
    X, gamma, beta, dY = gradient.draw(shape, seed)
    axes, eps = gradient.axes_of(X), 0.1
    Y, _ = gradient.of_batch_norm(X, numpy.ones_like(gamma), 0 * beta, eps, dY)
    v = X.var(axes)
    numpy.testing.assert_allclose(Y.mean(axes), 0, atol=1e-14)
    numpy.testing.assert_allclose(Y.var(axes), v / (v + eps), rtol=1e-12)


@pytest.mark.claim("C04")
def test_every_row_is_treated_alike_and_every_element_alone():
    X, gamma, beta, dY = gradient.draw((16, 5))
    f = gradient.forward(X, gamma, beta, 1e-5)
    Y, _ = gradient.of_batch_norm(X, gamma, beta, 1e-5, dY)
    for i in range(16):
        for j in range(5):
            expected = gamma[0, j] * (X[i, j] - f["mean"][0, j]) / f["std"][0, j] + beta[0, j]
            assert Y[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.claim("C05")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_constant_unit_has_a_gradient_with_eps_and_none_without(seed):
    """Defined, not small: it is the centred dY times 1 / sqrt(eps), 316 for 1e-5 and 10,000 for 1e-8."""
    X, one, dY = numpy.full((8, 1), 3.0), numpy.ones((1, 1)), numpy.random.RandomState(seed).randn(8, 1)
    for eps in (1e-5, 1e-8):
        dX = gradient.of_batch_norm(X, one, 0 * one, eps, dY)[1]["X"]
        numpy.testing.assert_allclose(dX, (dY - dY.mean()) / eps**0.5, rtol=1e-9)
    assert not numpy.isfinite(gradient.of_batch_norm(X, one, 0 * one, 0.0, dY)[1]["X"]).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formulas_by_hand_agree_with_autograd_for_every_intermediate(shape, seed):
    errors = gradient.errors(shape, seed=seed)
    assert set(errors) == {*gradient.INTERMEDIATES, "gamma", "beta"}
    assert max(errors.values()) < 1e-12  # float64 carries 1e-16, sums of some hundred terms lose a little


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formulas_are_those_of_batch_norm(shape, seed):
    X, gamma, beta, dY = gradient.draw(shape, seed)
    Y, g = gradient.of_batch_norm(X, gamma, beta, 1e-5, dY)
    hand = gradient.by_hand(X, gamma, beta, 1e-5, dY)
    numpy.testing.assert_allclose(Y, gradient.forward(X, gamma, beta, 1e-5)["Y"], atol=1e-13)
    for name in g:
        numpy.testing.assert_allclose(g[name], hand[name], atol=1e-12)
    m, f = X.size // X.shape[1], gradient.forward(X, gamma, beta, 1e-5)
    closed_form = gamma / (m * f["std"]) * (m * dY - hand["beta"] - f["X_hat"] * hand["gamma"])
    numpy.testing.assert_allclose(g["X"], closed_form, atol=1e-13)


@pytest.mark.claim("C06")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_proposes_neither_a_shift_nor_a_stretch(shape, seed):
    """No shift for any eps; no stretch for eps = 0, and up to eps / (v + eps) otherwise."""
    X, gamma, beta, dY = gradient.draw(shape, seed)
    axes = gradient.axes_of(X)
    for eps in (0.0, 1e-2, 1.0):
        g = gradient.of_batch_norm(X, gamma, beta, eps, dY)[1]
        f = gradient.forward(X, gamma, beta, eps)
        shift, stretch = gradient.forbidden_components(X, g["X"])
        assert numpy.abs(shift).max() < 1e-14
        rest = (gamma / f["std"] * g["gamma"] * eps / (f["var"] + eps)).ravel()
        numpy.testing.assert_allclose((g["X"] * f["X_hat"]).sum(axes), rest, atol=1e-12)
        if eps == 0:
            assert numpy.abs(stretch).max() < 1e-14
    constant = gamma * dY / f["std"]  # mean and std taken for constants
    assert min(numpy.abs(part).max() for part in gradient.forbidden_components(X, constant)) > 0.05


@pytest.mark.claim("C06")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_along_the_gradient_keeps_the_mean_and_lets_the_variance_only_grow(seed):
    """The deviation is kept to first order; in second order the step's length adds to it, as in a right triangle."""
    X, gamma, beta, dY = gradient.draw((64, 5), seed)
    growth = []
    for lr in (0.1, 0.2):
        X_new = X - lr * gradient.by_hand(X, gamma, beta, 0.0, dY)["X"]
        numpy.testing.assert_allclose(X_new.mean(0), X.mean(0), atol=1e-14)
        growth.append(X_new.var(0) - X.var(0))
        assert (growth[-1] > 0).all()
    numpy.testing.assert_allclose(growth[1] / growth[0], 4, rtol=1e-6)


@pytest.mark.claim("C06")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_on_the_weights_may_move_the_mean_all_the_same(seed):
    """The claim is about dL/dH: a step on W of H = X W keeps H's mean only where X is centred."""
    random = numpy.random.RandomState(seed)
    centred, W, one, dY = random.randn(64, 8), random.randn(8, 5), numpy.ones((1, 5)), random.randn(64, 5)
    centred -= centred.mean(0)
    moved = {}
    for offset in (0.0, 1.0):
        X = centred + offset
        dW = X.T @ gradient.by_hand(X @ W, one, 0 * one, 0.0, dY)["X"]
        moved[offset] = numpy.abs((X @ (W - 0.1 * dW)).mean(0) - (X @ W).mean(0)).max()
    assert moved[0.0] < 1e-13 and moved[1.0] > 0.1


@pytest.mark.claim("C07")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_stretching_and_shifting_a_unit_changes_nothing(shape, seed):
    """Exact for eps = 0 and a > 0; with eps it is the eps / a^2 of the unstretched unit, and a < 0 flips the sign."""
    X, gamma, beta, dY = gradient.draw(shape, seed)

    def bn(X, eps):
        return gradient.of_batch_norm(X, numpy.ones_like(gamma), 0 * beta, eps, dY)[0]

    for a, b in ((0.01, -3.0), (7.0, 20.0)):
        # an offset of 300 times the spread costs three of the sixteen digits
        numpy.testing.assert_allclose(bn(a * X + b, 0.0), bn(X, 0.0), atol=1e-11)
        numpy.testing.assert_allclose(bn(a * X + b, 1e-3), bn(X, 1e-3 / a**2), atol=1e-11)
        numpy.testing.assert_allclose(bn(-a * X + b, 0.0), -bn(X, 0.0), atol=1e-11)


@pytest.mark.claim("C21")
@pytest.mark.parametrize("bias", [1.0, -30.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_bias_before_batch_norm_changes_nothing_and_gets_no_gradient(bias, seed):
    """In training mode; in prediction mode a bias that the moving mean does not know shifts the output."""
    Y, dbias, dW = gradient.with_bias(bias, seed=seed)
    Y_0, _, dW_0 = gradient.with_bias(0.0, seed=seed)
    numpy.testing.assert_allclose(Y, Y_0, atol=1e-12)
    numpy.testing.assert_allclose(dW, dW_0, atol=1e-11)
    assert numpy.abs(dbias).max() < 1e-13 < numpy.abs(dW).max()
    Y, dbias, _ = gradient.with_bias(bias, train_mode=False, seed=seed)
    Y_0, _, _ = gradient.with_bias(0.0, train_mode=False, seed=seed)
    assert numpy.abs(Y - Y_0).min() > 0.1 and numpy.abs(dbias).max() > 0.1


@pytest.mark.claim("C22")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_convolution_is_the_dense_case_with_every_location_an_example(seed):
    def as_rows(array):
        return array.transpose(0, 2, 3, 1).reshape(-1, 3)

    *batch, dY = gradient.draw((4, 3, 5, 6), seed)
    Y, g = gradient.of_batch_norm(*batch, 1e-5, dY)
    Y_rows, g_rows = gradient.of_batch_norm(*map(as_rows, batch), 1e-5, as_rows(dY))
    for maps, rows in ((Y, Y_rows), (g["X"], g_rows["X"])):
        assert rows.shape == (4 * 5 * 6, 3)
        numpy.testing.assert_allclose(as_rows(maps), rows, atol=1e-13)


@pytest.mark.claim("C22")
@pytest.mark.parametrize("seed", SEEDS)
def test_moving_the_locations_about_commutes_with_batch_norm(seed):
    """As long as no location is lost: a shift that brings zeros in has other statistics."""
    assert gradient.commutes(gradient.roll, seed=seed) < 1e-13
    assert gradient.commutes(gradient.permute, seed=seed) < 1e-13
    assert gradient.commutes(gradient.shift_in_zeros, seed=seed) > 0.1


@pytest.mark.claim("C22")
def test_statistics_by_location_do_not_keep_the_feature_maps():
    maps = gradient.blobs()
    one = numpy.ones((1, 1, 1, 1))
    Y, _ = gradient.of_batch_norm(maps, one, 0 * one, 1e-5, maps)
    by_location = (maps - maps.mean(axis=0)) / numpy.sqrt(maps.var(axis=0) + 1e-5)
    correlation = [numpy.corrcoef(maps[0].ravel(), Z[0].ravel())[0, 1] for Z in (Y, by_location)]
    assert correlation[0] == pytest.approx(1, abs=1e-12) and correlation[1] < 0.9


@pytest.mark.claim("C23")
def test_a_dense_layer_batch_norm_and_relu_by_hand():
    affine, normalized, output = gradient.dense_by_hand()
    s = 5**0.5
    numpy.testing.assert_array_equal(affine, gradient.ROWS)
    numpy.testing.assert_allclose(normalized, [[-3 / s, -1], [-1 / s, -1], [1 / s, 1], [3 / s, 1]], rtol=1e-6)
    numpy.testing.assert_allclose(output, [[0, 0], [0, 0], [1 / s, 1], [3 / s, 1]], rtol=1e-6)


@pytest.mark.claim("C23")
def test_the_gradient_of_four_rows_by_hand():
    one = numpy.ones((1, 2))
    dY = numpy.hstack([column(1, 2, 0, -1), column(0, 1, 0, 3)])
    g = gradient.of_batch_norm(gradient.ROWS, one, 0 * one, 0.0, dY)[1]
    s = 5**0.5
    expected = numpy.hstack([column(-0.7, 1.1, -0.1, -0.3) / s, column(-0.25, 0.25, -0.75, 0.75)])
    numpy.testing.assert_allclose(g["X"], expected, rtol=1e-12)
    numpy.testing.assert_allclose(g["gamma"], [[-8 / s, 2]], rtol=1e-12)
    numpy.testing.assert_allclose(g["beta"], [[2, 4]], rtol=1e-12)


@pytest.mark.claim("C24")
@pytest.mark.parametrize("channel", range(5))
def test_gamma_and_beta_of_one_channel_leave_the_others_untouched(channel):
    X, gamma, beta, dY = gradient.draw((8, 5, 4, 4))
    Y, g = gradient.of_batch_norm(X, gamma, beta, 1e-5, dY)
    for array in (gamma, beta):
        array[:, channel] += 1.5
    Y_new, g_new = gradient.of_batch_norm(X, gamma, beta, 1e-5, dY)
    Y_change, dX_change = (numpy.abs(new - old).max((0, 2, 3)) for new, old in ((Y_new, Y), (g_new["X"], g["X"])))
    others = numpy.arange(5) != channel
    assert (Y_change[others] == 0).all() and (dX_change[others] == 0).all()
    assert Y_change[channel] > 1 and dX_change[channel] > 0.1
