"""The alternatives that were tried before batch normalization, and the reparametrization of the same functions."""

import math

import numpy
import pytest
from mxnet import nd

from gluon_bn.experiments import alternatives, reparametrization
from gluon_bn.experiments.chain import float64, standardize

SEEDS = range(3)


def rms(values):
    return numpy.sqrt((numpy.asarray(values) ** 2).mean())


@pytest.mark.slow
@pytest.mark.claim("C08")
def test_a_penalty_leaves_part_of_the_mean_and_the_variance_at_every_weight():
    for seed in SEEDS:
        rests = [alternatives.train_with_penalty(weight, seed=seed) for weight in (0, 0.1, 1)]
        means, variances = [rms(rest.mean) for rest in rests], [rms(rest.var - 1) for rest in rests]
        assert means == sorted(means, reverse=True) and variances == sorted(variances, reverse=True)
        assert means[-1] > 0.01 and variances[-1] > 0.005
        exact = alternatives.batch_norm_leaves(seed)
        assert numpy.abs(exact.mean).max() < 1e-14  # rounding
        assert numpy.abs(exact.var - 1).max() < 1e-3  # eps / v


@pytest.mark.claim("C09")
@pytest.mark.parametrize("white", [True, False])
def test_without_back_propagation_each_step_proposes_what_is_then_undone(white):
    for seed in SEEDS:
        waste = alternatives.train_renormalizing("renormalize", num_steps=30, seed=seed, white=white)
        assert waste.proposed.min() > 1e-3 and waste.moved.min() > 0.01
        waste = alternatives.train_renormalizing("batch_norm", num_steps=30, seed=seed, white=white, eps=0.0)
        assert waste.proposed.max() < 1e-25  # cosines of 1e-16, squared


@pytest.mark.claim("C09")
def test_the_step_of_weights_moves_no_statistics_only_where_inputs_are_white():
    """dL/dH proposes no shift and no stretch, but the step on W reaches H through X: 0 for white inputs only."""
    for seed in SEEDS:
        white, plain = (
            alternatives.train_renormalizing("batch_norm", num_steps=20, seed=seed, white=white, eps=0.0)
            for white in (True, False)
        )
        assert white.moved.max() < 1e-20
        assert plain.moved.min() > 0.01


@pytest.mark.claim("C09")
def test_on_white_inputs_the_wasted_part_of_the_steps_costs_no_time():
    """What is undone is wasted, yet at this rate both reach the same loss in the same number of steps."""
    for seed in SEEDS:
        losses = [
            alternatives.train_renormalizing(method, num_steps=60, seed=seed, white=True).loss[-1]
            for method in ("renormalize", "batch_norm")
        ]
        assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_the_methods_are_checked():
    with pytest.raises(ValueError, match="method must be"):
        alternatives.train_renormalizing("penalty")


def test_renormalizing_makes_the_statistics_exact():
    (X, _), params = alternatives.regression(0), alternatives.initial(0)
    alternatives.renormalize(X, params)
    H = (nd.dot(X, params["W"]) + params["b"]).asnumpy()
    numpy.testing.assert_allclose(H.mean(0), 0, atol=1e-13)
    numpy.testing.assert_allclose(H.var(0), 1, rtol=1e-12)


@pytest.mark.claim("C16")
def test_how_many_times_more_whitening_costs_grows_with_the_width():
    """Counted: times would depend on the machine and on who wrote the other side."""
    count = alternatives.multiplications
    ratio = {d: count("whitening", 1024, d) / count("standardizing", 1024, d) for d in (32, 512)}
    assert ratio[32] > 10 and ratio[512] > 15 * ratio[32]


@pytest.mark.claim("C16")
@pytest.mark.parametrize("seed", SEEDS)
def test_whitening_takes_all_correlations_away_and_standardizing_none(seed):
    H = alternatives.correlated(512, 16, seed, "float64")
    before = alternatives.largest_correlation(H)
    assert before > 0.4
    assert alternatives.largest_correlation(standardize(H)) == pytest.approx(before, abs=1e-9)
    assert alternatives.largest_correlation(alternatives.whiten(H)) < 1e-4  # eps / v
    white = alternatives.whiten(H, eps=0.0).asnumpy()
    numpy.testing.assert_allclose(white.T @ white / 512, numpy.eye(16), atol=1e-12)


class Counted(float):
    """A number that counts its multiplications and divisions."""

    count = 0

    def __mul__(self, other):
        Counted.count += 1
        return Counted(float(self) * float(other))

    def __truediv__(self, other):
        Counted.count += 1
        return Counted(float(self) / float(other))

    def __sub__(self, other):
        return Counted(float(self) - float(other))


def mean(values):
    """Not counted: one division for many values."""
    values = list(values)
    return Counted(math.fsum(values) / len(values))


def centred_by_number(H):
    means = [mean(column) for column in zip(*H)]
    return [[x - mu for x, mu in zip(row, means)] for row in H]


def whiten_by_number(H, eps):
    """Cholesky's factor L of the covariance, then L Z_i = C_i by substitution for each row; lists of Counted."""
    C, d = centred_by_number(H), len(H[0])
    L = [[mean(row[i] * row[j] for row in C) for j in range(i + 1)] for i in range(d)]
    for i in range(d):
        L[i][i] = Counted(L[i][i] + eps)
        for j in range(i + 1):
            for k in range(j):
                L[i][j] = L[i][j] - L[i][k] * L[j][k]
            L[i][j] = Counted(math.sqrt(L[i][i])) if i == j else L[i][j] / L[j][j]
    Z = []
    for row in C:
        z = []
        for i, x in enumerate(row):
            for k in range(i):
                x = x - L[i][k] * z[k]
            z.append(x / L[i][i])
        Z.append(z)
    return Z


def standardize_by_number(H, eps):
    C = centred_by_number(H)
    stds = [Counted(math.sqrt(mean(c * c for c in column) + eps)) for column in zip(*C)]
    return [[Counted(1) * (c / std) for c, std in zip(row, stds)] for row in C]  # gamma = 1


@pytest.mark.claim("C16")
@pytest.mark.parametrize("m, d", [(5, 1), (7, 2), (9, 3), (20, 8)])
@pytest.mark.parametrize(
    "method, by_number, function",
    [("whitening", whiten_by_number, alternatives.whiten), ("standardizing", standardize_by_number, standardize)],
)
def test_the_multiplications_are_those_that_are_done_number_by_number(method, by_number, function, m, d):
    H = alternatives.correlated(m, d, dtype="float64")
    Counted.count = 0
    result = by_number([[Counted(x) for x in row] for row in H.asnumpy()], 1e-5)
    assert Counted.count == alternatives.multiplications(method, m, d)
    numpy.testing.assert_allclose(numpy.array(result, dtype="float64"), function(H).asnumpy(), atol=1e-9)


def test_times_are_taken_at_every_width():
    times = alternatives.milliseconds([8, 16], m=32, rounds=1)
    assert list(times) == ["whitening", "batch_norm", "gluon.nn.BatchNorm"]
    assert all(len(values) == 2 and min(values) > 0 for values in times.values())


@pytest.mark.claim("C17")
@pytest.mark.parametrize("seed", SEEDS)
def test_gamma_sigma_and_beta_mu_give_the_input_back(seed):
    """For the minibatch whose statistics they are; another one is not given back."""
    random = numpy.random.RandomState(seed)
    H, other = float64(3 + 2 * random.randn(32, 5)), float64(1 + random.randn(32, 5))
    mean, std = reparametrization.statistics(H)
    same, changed = (reparametrization.normalize(batch, std, mean).asnumpy() for batch in (H, other))
    numpy.testing.assert_allclose(same, H.asnumpy(), rtol=1e-12)
    assert numpy.abs(changed - other.asnumpy()).max() > 0.5


@pytest.mark.slow
@pytest.mark.claim("C19")
def test_from_the_same_function_the_two_parametrizations_learn_differently():
    """Easier to learn: at large steps and for inputs with an offset. At small steps there is no advantage."""
    for seed in SEEDS:
        old, new = (
            reparametrization.train_parametrization(new, lr=0.1, offset=3.0, num_steps=60, seed=seed)[0]
            for new in (False, True)
        )
        assert old[0] == pytest.approx(new[0], rel=1e-9)  # one and the same function
        assert new[-1] < 0.1 and not old[-1] < 4 * new[-1]  # the old one may be no number any more
        slow_old, slow_new = (
            reparametrization.train_parametrization(new, 0.01, 3.0, 60, seed)[0][-1] for new in (False, True)
        )
        assert slow_new > slow_old


def to_new(X, params):
    """The same function of the minibatch X in the new parametrization: gamma = sigma and beta = mu + b."""
    new, last = dict(params), len(reparametrization.WIDTHS) - 2
    for i in range(last):
        H = nd.dot(X, params[f"W{i}"])
        mean, new[f"gamma{i}"] = reparametrization.statistics(H)
        new[f"beta{i}"] = mean + new.pop(f"b{i}")
        X = nd.relu(H + params[f"b{i}"])
    return new


@pytest.mark.claim("C17", "C19")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_goes_over_into_the_other_parametrization_and_back_as_the_same_function(seed):
    X, _ = alternatives.regression(seed)
    _, new = reparametrization.train_parametrization(True, num_steps=5, seed=seed)
    old = reparametrization.to_old(X, new)
    assert not any("gamma" in name for name in old)
    Y = reparametrization.outputs(float64(X.asnumpy()), new).asnumpy()
    numpy.testing.assert_allclose(reparametrization.outputs(X, old).asnumpy(), Y, atol=1e-11)
    again = to_new(X, old)
    assert "gamma0" in again and "b0" not in again
    numpy.testing.assert_allclose(reparametrization.outputs(X, again).asnumpy(), Y, atol=1e-11)


@pytest.mark.claim("C18")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_mean_is_beta_and_the_standard_deviation_gamma_whatever_lies_below(seed):
    """In training mode, and before the activation; the deviation up to eps."""
    raw, normalized = reparametrization.output_statistics(beta=0.7, gamma=1.5, seed=seed)
    assert numpy.ptp(raw[:, 0]) > 10 and raw[:, 1].max() > 10 * raw[:, 1].min()
    numpy.testing.assert_allclose(normalized[:, 0], 0.7, atol=1e-12)
    expected = 1.5 * raw[:, 1] / numpy.sqrt(raw[:, 1] ** 2 + 1e-5)
    # the input's offset is up to 100 times its spread, which costs digits
    numpy.testing.assert_allclose(normalized[:, 1], expected, rtol=1e-9)


@pytest.mark.claim("C19")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_new_parametrization_does_not_feel_the_offset_of_the_inputs(seed):
    centred, shifted = (
        reparametrization.train_parametrization(True, 0.1, offset, 30, seed)[0] for offset in (0.0, 3.0)
    )
    numpy.testing.assert_allclose(centred, shifted, rtol=1e-6)  # rounding, amplified over 30 steps
