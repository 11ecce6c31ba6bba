"""A check names the first wrong quantity, shows it on the worked example, and says what it equals instead."""

import pytest
import students
from mxnet import autograd, nd
from students import mean_of, normalize, told, var_of, written

from gluon_bn import check


def places(result):
    return [(place.quantity, place.mode, place.equals) for place in result.places]


@pytest.mark.parametrize(
    "mistake, quantity, mode, equals",
    [
        ("WrongAxis", "mean", "training", "the mean over the axes (1,)"),
        ("UnbiasedBatchVar", "variance", "training", "sum((X - mean)**2) / (m - 1)"),
        ("EpsOutsideSqrt", "denominator", "training", "sqrt(var) + eps"),
        ("NoEps", "denominator", "training", "sqrt(var)"),
        ("MissingSqrt", "denominator", "training", "var + eps"),
        ("MissingGamma", "scale and shift", "training", "X_hat + beta"),
        ("TrainsOnMovingStats", "mode", "training", "that of prediction"),
        ("BatchStatsAtPredict", "mode", "prediction", "that of training"),
        ("MomentumSwapped", "moving mean", "training", "momentum * mean + (1 - momentum) * moving_mean"),
        ("RunningStdNotVar", "moving variance", "training", "momentum * moving_var + (1 - momentum) * sqrt(var)"),
        ("UpdatesAtPredict", "moving mean", "prediction", "the average updated with the batch"),
        ("StatsDetachedInForward", "gradient", "training", "the gradient with mean and var held constant"),
        ("IsRecordingNotTraining", "mode", "recording", "that of training"),
    ],
)
def test_a_known_mistake_has_this_first_wrong_quantity(mistake, quantity, mode, equals):
    assert places(check.batch_norm(students.batch_norm(mistake)))[0] == (quantity, mode, equals)


def test_the_numbers_are_those_of_the_worked_example():
    text = told(check.batch_norm(students.batch_norm("EpsOutsideSqrt"), only=("dense",)))
    # the root of 4 is 2, and of 4 + 0.5 it is 2.1213
    assert (
        "The denominator is off in training: for variance 4 and eps 0.5 it is 2.5, expected 2.1213; "
        "it equals sqrt(var) + eps."
    ) in text


def test_without_a_unique_formula_only_the_quantity_is_named():
    fn = written(training_output=lambda *arguments: normalize(*arguments).tanh())
    found = check.batch_norm(fn, only=("dense",)).places
    assert [(place.quantity, place.equals) for place in found] == [("scale and shift", "")]


def test_a_right_mean_is_not_blamed_if_another_value_is_used_instead():
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        Y, *averages = students.batch_norm()(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        if autograd.is_training():
            Y = normalize(X, moving_mean, var_of(X, mean_of(X)), gamma, beta, eps)
        return (Y, *averages)

    assert places(check.batch_norm(fn, only=("dense",))) == [
        ("X_hat", "training", "(X - moving_mean) / sqrt(var + eps)")
    ]


def test_a_mistake_takes_at_most_eight_lines():
    for mistake in ("MomentumSwapped", "StatsDetachedInForward", "UnbiasedRunningVar", "MissingGamma"):
        told = str(check.batch_norm(students.batch_norm(mistake))).split("\n\n")[1:]
        assert told and all(len(one.splitlines()) <= 8 for one in told), told


@pytest.mark.parametrize(
    "mistake, quantity",
    [
        ("WrongGradientGamma", "dgamma"),
        ("WrongGradientBeta", "dbeta"),
        ("WrongGradientThroughMean", "term through the mean"),
        ("WrongGradientThroughVariance", "term through the variance"),
        ("WrongGradientScale", "scale of dX"),
    ],
)
def test_a_wrong_backward_pass_has_this_first_wrong_term(mistake, quantity):
    assert places(check.gradient(students.backward(mistake)))[0][0] == quantity


def test_the_notebook_shows_the_chain_with_the_wrong_quantity_marked():
    html = check.batch_norm(students.batch_norm("EpsOutsideSqrt"), only=("dense",))._repr_html_()
    assert 'aria-label="first wrong: denominator"' in html and html.count("<svg") == 1
    assert html.count('font-weight="bold"') == 1 and 'font-weight="bold">denominator<' in html
    assert "<svg" not in check.batch_norm(students.batch_norm(), only=("dense",))._repr_html_()


def test_a_right_variance_is_not_blamed_for_a_wrong_denominator():
    """With the squared mean instead of eps, Y is that of a variance about 0; only the averages tell them apart."""
    fn = written(
        training_output=lambda X, mean, var, gamma, beta, eps: gamma * (X - mean) / nd.sqrt(var + mean**2) + beta
    )
    result = check.batch_norm(fn, only=("dense",))
    assert "WrongVariance" not in result.mistakes and [place.quantity for place in result.places] == ["denominator"]


@pytest.mark.parametrize(
    "mistake, quantity",
    [
        ("MomentumSwapped", "moving mean"),
        ("OtherMomentum", "moving mean"),
        ("OverwritesRunning", "moving mean"),
        ("RunningStdNotVar", "moving variance"),
        ("UnbiasedRunningVar", "moving variance"),
    ],
)
def test_a_wrong_average_is_named_beside_a_Y_that_is_wrong_in_one_trial(mistake, quantity):
    def fn(X, gamma, beta, moving_mean, moving_var, *rest):
        Y, *averages = students.batch_norm(mistake)(X, gamma, beta, moving_mean, moving_var, *rest)
        return (X if autograd.is_training() and not moving_var.asnumpy().any() else Y, *averages)

    result = check.batch_norm(fn, only=("dense", "statistics"))
    assert result.mistakes == ["WrongOutput", mistake] and places(result)[0][0] == quantity


@pytest.mark.parametrize("others", [lambda dY: (None, None), lambda dY: (nd.ones(3), dY.sum())])
def test_a_wrong_dgamma_is_told_before_the_others_are_written(others):
    def fn(dY, X, gamma, eps):
        dX, dbeta = others(dY)
        return dX, (dY * (X - X.mean(axis=0, keepdims=True))).sum(axis=0, keepdims=True), dbeta

    result = check.gradient(fn, only=("dense",))
    assert result.rows[0].findings[0].name == "WrongGradientGamma" and "dX" in str(result)


@pytest.mark.parametrize("change", [lambda Y: Y, lambda Y: Y**2])
@pytest.mark.parametrize("shape", [(5,), (-1,)])
def test_averages_of_another_shape_are_told(shape, change):
    def fn(X, gamma, beta, *rest):
        Y, *averages = students.batch_norm()(X, gamma, beta, *rest)
        return (change(Y), *(2 * one.reshape(shape) if shape == (-1,) else nd.ones(shape) for one in averages))

    result = check.batch_norm(fn)
    assert not result.ok and ("WrongFormula" in result.mistakes) == (change(3) == 9)
    places = [place.equals for place in result.places if place.quantity == "moving mean" and place.mode == "training"]
    assert places == ["2 * (momentum * moving_mean + (1 - momentum) * mean)"] * (shape == (-1,)), result


@pytest.mark.parametrize(
    "X_hat, equals",
    [
        (lambda D, var, eps: D / (-var - eps).sqrt(), ""),  # many formulas are NaN everywhere
        (lambda D, var, eps: D / (0 * var), "0"),
    ],
)
def test_infinity_is_not_taken_for_nan(X_hat, equals):
    fn = written(training_output=lambda X, mean, var, gamma, beta, eps: gamma * X_hat(X - mean, var, eps) + beta)
    result = check.batch_norm(fn, only=("dense",))
    assert result.mistakes == ["WrongOutput"] and [place.equals for place in result.places] == [equals]


def test_no_usual_mistake_explains_numbers_that_are_none():
    assert check.batch_norm(lambda X, *args: (X * float("nan"), *args[2:4]), only=("dense",)).mistakes == [
        "WrongOutput"
    ]


def test_a_number_that_is_none_is_told_with_the_right_one():
    def output(*arguments):
        Y = normalize(*arguments)
        return nd.where(Y > 1, Y * float("nan"), Y)

    fn = written(training_output=output)
    (place,) = check.batch_norm(fn, only=("dense",)).places
    assert "it is nan, expected -0.94281" in place.numbers and not place.equals


def rounded(array):
    return array.astype("float16").astype("float32")


ROUNDED = "the right one, rounded to three digits, as in float16"
OUTPUTS = {
    "rounded": lambda *arguments: rounded(normalize(*arguments)),
    "gamma in the root": lambda X, mean, var, gamma, *rest: normalize(X, mean, gamma * var, gamma, *rest),
    "X_hat constant": lambda X, mean, var, gamma, beta, eps: normalize(X, mean, var, 1, 0, eps).detach() * gamma + beta,
}


@pytest.mark.parametrize(
    "parts, name, quantity, equals",
    [
        (dict(mean=lambda X: rounded(mean_of(X))), "WrongMean", "mean", ROUNDED),
        (dict(training_output=OUTPUTS["rounded"]), "WrongOutput", "scale and shift", ROUNDED),
        (dict(training_output=OUTPUTS["gamma in the root"]), "WrongFormula", "denominator", "sqrt(gamma * var + eps)"),
        (
            dict(training_output=OUTPUTS["X_hat constant"]),
            "WrongGradient",
            "gradient",
            "the gradient with X_hat held constant",
        ),
    ],
)
def test_rounding_gamma_in_the_root_and_a_constant_X_hat_are_named(parts, name, quantity, equals):
    result = check.batch_norm(written(**parts))
    assert (result.mistakes[0], *places(result)[0]) == (name, quantity, "training", equals), result


def test_the_new_average_in_the_place_of_the_mean_is_named():
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        Y, new_mean, new_var = students.batch_norm()(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        if autograd.is_training():
            Y = normalize(X, new_mean, var_of(X, mean_of(X)), gamma, beta, eps)
        return Y, new_mean, new_var

    result = check.batch_norm(fn, only=("dense",))
    assert result.mistakes == ["WrongFormula"]
    assert places(result) == [("X_hat", "training", "(X - new_mean) / sqrt(var + eps)")]
