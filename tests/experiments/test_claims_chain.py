"""The linear chain y = x w1 ... wl: the effect of a step on all weights, and how normalizing h(l-1) changes it."""

import itertools

import numpy
import pytest

from gluon_bn.experiments import chain

SEEDS = range(5)


def step_for(decrease, x, weights):
    """The step that lowers y by `decrease` to first order: decrease / g.g."""
    g = chain.gradient(x, weights)
    return decrease / float(g @ g)


def second_order_term(x, weights, step):
    """x step^2 g1 g2 w3 ... wl: one of the l (l - 1) / 2 terms of second order."""
    g = chain.gradient(x, weights)
    return float(step**2 * g[0] * g[1] * numpy.prod(weights[2:]) * x)


def loss_surface(lower, last, normalize):
    """The mean squared error against y = 2 x over one lower weight and the last one: (len(last), len(lower))."""
    x = chain.standardize(chain.draw_x(256, 0), eps=0)  # so that the best last weight is exactly SLOPE

    def loss(a, b):
        return ((chain.predict(x, chain.float64([a, b]), normalize) - chain.SLOPE * x) ** 2).mean().asscalar()

    return numpy.array([[loss(a, b) for a in lower] for b in last])


@pytest.mark.claim("C01")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_effects_of_every_order_sum_to_the_true_change(seed):
    random = numpy.random.RandomState(seed)
    for depth in (2, 5, 12, 20):
        x, w, step = random.randn(), 1 + 0.3 * random.randn(depth), 0.05
        effects = chain.effects_by_order(x, w, step)
        predicted, actual = chain.change(x, w, step)
        assert len(effects) == depth + 1
        # float64 carries 1e-16; terms of both signs cancel, so the error is measured by the largest
        assert abs(effects[1:].sum() + actual) <= 1e-13 * depth * max(1, numpy.abs(effects).max())
        assert effects[1] == pytest.approx(-predicted, rel=1e-12)


@pytest.mark.claim("C01")
def test_two_layers_by_hand():
    # (2 - 3 t)(3 - 2 t) = 6 - 13 t + 6 t^2
    numpy.testing.assert_array_equal(chain.effects_by_order(1.0, numpy.array([2.0, 3.0]), 1.0), [6, -13, 6])


@pytest.mark.claim("C01")
@pytest.mark.parametrize("seed", SEEDS)
def test_an_order_is_the_sum_over_all_sets_of_that_many_weights(seed):
    random = numpy.random.RandomState(seed)
    x, w, step = random.randn(), random.randn(6), 0.3
    g, effects = chain.gradient(x, w), chain.effects_by_order(x, w, step)
    for order in range(7):
        expected = sum(
            x * numpy.prod([-step * g[i] if i in moved else w[i] for i in range(6)])
            for moved in itertools.combinations(range(6), order)
        )
        assert effects[order] == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.claim("C01")
def test_what_first_order_leaves_out_grows_with_depth():
    missed = []
    for depth in (1, 5, 10, 20):
        predicted, actual = chain.change(1.0, numpy.full(depth, 1.1), 0.01)
        missed.append(abs(predicted - actual) / actual)
    assert missed[0] < 1e-12  # a single layer is linear in its weight
    assert missed == sorted(missed) and missed[-1] > 0.5


@pytest.mark.claim("C02")
@pytest.mark.parametrize("weight", [0.8, 0.9, 1.0, 1.1, 1.2])
def test_a_step_chosen_for_a_decrease_of_a_tenth_misses_it(weight):
    """The size of y decides by how much: y (1 - (1 - 0.1 / (l y))^l) comes, 5 % short at y = 1, hardly at a large y."""
    for depth in range(2, 21):
        w = numpy.full(depth, weight)
        predicted, actual = chain.change(1.0, w, step_for(0.1, 1.0, w))
        y = weight**depth
        assert predicted == pytest.approx(0.1, rel=1e-12)
        assert actual < 0.1 - 1e-5
        assert actual == pytest.approx(y * (1 - (1 - 0.1 / (depth * y)) ** depth), rel=1e-9)


@pytest.mark.claim("C02")
def test_unequal_weights_miss_it_by_any_amount():
    """With unequal weights the miss has no bound: of 20 chains of 20 layers some move y more than twice too far."""
    actual = []
    for seed in range(20):
        w = 1 + 0.5 * numpy.random.RandomState(seed).randn(20)
        actual.append(chain.change(1.0, w, step_for(0.1, 1.0, w))[1])
    assert max(actual) > 0.2 and min(actual) < 0.05
    assert sum(abs(a - 0.1) < 0.001 for a in actual) < 10


@pytest.mark.claim("C03")
@pytest.mark.parametrize("weight", [0.9, 1.0, 1.1])
def test_a_second_order_term_is_exponential_in_the_depth(weight):
    """True for a fixed step: step^2 w^(3l - 4), as the gradient holds the other weights too."""
    for depth in range(2, 21):
        term = second_order_term(1.0, numpy.full(depth, weight), 0.01)
        assert term == pytest.approx(1e-4 * weight ** (3 * depth - 4), rel=1e-10)


@pytest.mark.claim("C03")
def test_a_step_chosen_by_first_order_turns_the_condition_round():
    """With the step 0.1 / g.g the term is 0.01 / (l^2 w^l): then it is the weights BELOW 1 that make it large."""
    terms = {}
    for weight in (0.9, 1.1):
        w = numpy.full(20, weight)
        terms[weight] = second_order_term(1.0, w, step_for(0.1, 1.0, w))
        assert terms[weight] == pytest.approx(0.01 / (400 * weight**20), rel=1e-10)
    assert terms[0.9] > 50 * terms[1.1]


@pytest.mark.claim("C03")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_second_order_is_the_sum_of_such_terms(seed):
    w, step = 1 + 0.3 * numpy.random.RandomState(seed).randn(7), 0.1
    pairs = itertools.combinations(range(7), 2)
    chains = [numpy.append(w[list(pair)], numpy.delete(w, pair)) for pair in pairs]
    total = sum(second_order_term(1.0, moved, step) for moved in chains)
    assert total == pytest.approx(chain.effects_by_order(1.0, w, step)[2], rel=1e-10)


@pytest.mark.claim("C12")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_lower_weight_of_zero_takes_the_input_away_and_a_change_of_sign_flips_it(seed):
    x, w = chain.draw_x(64, seed), 1 + 0.1 * numpy.random.RandomState(seed).randn(6)
    y = chain.predict(x, chain.float64(w), True).asnumpy()
    flipped, dead = w.copy(), w.copy()
    flipped[2], dead[2] = -w[2], 0
    numpy.testing.assert_allclose(chain.predict(x, chain.float64(flipped), True).asnumpy(), -y, atol=1e-14)
    numpy.testing.assert_array_equal(chain.predict(x, chain.float64(dead), True).asnumpy(), 0 * y)


@pytest.mark.claim("C13")
@pytest.mark.parametrize("seed", SEEDS)
def test_nearly_every_update_moves_the_variance_without_normalization(seed):
    """Of updates by a tenth of the weights nine in ten move it by more than 5 %, of those by a hundredth a third."""
    share = {}
    for size in (0.01, 0.1):
        before = chain.draw_x(1000, seed).asnumpy().var()  # the weights start at 1
        raw, _ = chain.moments_under_updates(size, num_updates=100, seed=seed)
        share[size] = numpy.mean([abs(unit.var / before - 1) > 0.05 for unit in raw])
    assert share[0.1] > 0.85 and share[0.01] < 0.5


@pytest.mark.claim("C11", "C13")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_normalized_unit_stays_a_unit_gaussian_while_the_raw_one_does_not(seed):
    """While the lower weights' product stays well above sqrt(eps), which updates of size 0.1 leave it."""
    raw, standardized = chain.moments_under_updates(0.1, num_updates=20, seed=seed)
    assert max(abs(unit.mean) for unit in standardized) < 1e-13
    assert max(abs(unit.var - 1) for unit in standardized) < 1e-3  # eps / v
    for name in ("skewness", "excess_kurtosis"):
        values = [getattr(unit, name) for unit in standardized]
        assert max(map(abs, values)) < 0.6  # 1000 examples: standard errors of 0.08 and 0.15
        assert max(values) - min(values) < 1e-9  # always the shape of x itself
    assert max(unit.var for unit in raw) > 3 * min(unit.var for unit in raw)


@pytest.mark.claim("C11")
@pytest.mark.parametrize("seed", SEEDS)
def test_with_a_normalized_unit_the_model_is_linear_in_the_last_weight_whatever_lies_below(seed):
    random = numpy.random.RandomState(seed)
    x, lower = chain.draw_x(64, seed), 1 + 0.1 * random.randn(5)
    a, b = random.randn(2)
    y_a, y_b, y_sum = (chain.predict(x, chain.float64(numpy.append(lower, w)), True).asnumpy() for w in (a, b, a + b))
    numpy.testing.assert_allclose(y_a + y_b, y_sum, atol=1e-14)
    other = chain.predict(x, chain.float64(numpy.append(3 * lower, a)), True, eps=0.0).asnumpy()
    same = chain.predict(x, chain.float64(numpy.append(lower, a)), True, eps=0.0).asnumpy()
    numpy.testing.assert_allclose(other, same, atol=1e-13)


@pytest.mark.claim("C11")
def test_the_loss_surface_becomes_a_straight_valley():
    lower, last = numpy.array([0.5, 1.0, 2.0]), numpy.array([0.0, 1.0, 2.0, 3.0])
    with_bn, without = (loss_surface(lower, last, normalize) for normalize in (True, False))
    # eps / v at the smallest weight is 4e-5, and the loss is at most 4
    numpy.testing.assert_allclose(with_bn, numpy.repeat((last - 2)[:, None] ** 2, 3, axis=1), atol=3e-4)
    numpy.testing.assert_allclose(without, (numpy.outer(last, lower) - 2) ** 2, atol=1e-12)


@pytest.mark.claim("C11", "C12")
@pytest.mark.parametrize("product", [1.0, 1e-2, 1e-3, 1e-4])
def test_eps_ends_the_standardization_before_the_product_reaches_zero(product):
    """The corner case is wider than a weight of 0: from a product of about sqrt(eps) = 0.003 down the unit fades."""
    v = chain.draw_x(1000, 0).asnumpy().var() * product**2
    assert chain.var_after(product) == pytest.approx(v / (v + 1e-5), rel=1e-10)
    assert (chain.var_after(product) > 0.5) == (product > 0.0032)


@pytest.mark.claim("C12")
def test_flips_are_rare_while_updates_are_small():
    """Nine lower weights around 1: updates of 0.1 never flipped a sign here, updates of 0.5 in a fifth of the cases."""
    flips = {}
    for size in (0.1, 0.5):
        units = [u for seed in range(3) for u in chain.moments_under_updates(size, num_updates=100, m=50, seed=seed)[1]]
        flips[size] = numpy.mean([unit.correlation < 0 for unit in units])
    assert flips[0.1] == 0  # ten standard deviations away
    # a weight is negative with 2.3 %, an odd number of nine with 17 %; 300 draws: 2.2 % standard error
    assert 0.10 < flips[0.5] < 0.25


@pytest.mark.claim("C14")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_lower_weights_get_no_gradient(seed):
    """0 but for eps, which leaves about eps / v; where v is below eps the lower weights matter again, and a lot."""
    with_bn, without = chain.lower_gradient(1.0, eps=0.0, seed=seed)
    assert numpy.abs(with_bn[:-1]).max() < 1e-12 * numpy.abs(without[:-1]).max()
    with_bn, without = chain.lower_gradient(1.0, eps=1e-5, seed=seed)
    assert 0 < numpy.abs(with_bn[:-1]).max() < 1e-4 * numpy.abs(without[:-1]).max()
    with_bn, without = chain.lower_gradient(1e-3, eps=1e-5, seed=seed)
    assert numpy.abs(with_bn[:-1]).max() > numpy.abs(without[:-1]).max()


@pytest.mark.claim("C13")
def test_without_normalization_training_moves_the_variance_by_large_factors():
    """Whether "extreme" is the word depends on the rate: a step at 0.03 changes it more than twofold, at 0.003 not."""
    largest = {}
    for lr in (0.003, 0.03):
        runs = [chain.train_chain(False, lr, num_steps=40, seed=seed) for seed in SEEDS]
        largest[lr] = numpy.median([chain.largest_factor(run.seen_var) for run in runs])
    assert largest[0.03] > 2 > largest[0.003] > 1.02


@pytest.mark.claim("C11", "C13", "C14")
def test_with_normalization_the_chain_learns_at_rates_at_which_it_explodes_without():
    for seed in SEEDS:
        with_bn = chain.train_chain(True, 0.1, num_steps=60, seed=seed)
        assert numpy.abs(with_bn.seen_var - 1).max() < 1e-3
        assert numpy.median(with_bn.loss[-10:]) < 0.1 * with_bn.loss[0]
        assert numpy.ptp(with_bn.raw_var) < 1e-2 * with_bn.raw_var[0]  # the lower weights hardly move
    without = [chain.train_chain(False, 0.1, num_steps=60, seed=seed) for seed in SEEDS]
    assert sum(not run.loss[-1] < 1 for run in without) >= 4  # at or above the start, or no number any more
