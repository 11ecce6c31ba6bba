"""Slips other than the usual mistakes: a check says which quantity is wrong and what it equals instead."""

import pytest
from mxnet import autograd, nd
from oracle import axes_of
from students import ChapterLayer, blend, mean_of, normalize, told, var_of, written

from gluon_bn import check
from gluon_bn.check.explaining.explanation import candidates
from gluon_bn.check.explaining.formulas import call, sqrt, variable
from gluon_bn.check.explaining.variants import Variant, formula


def sum_over(count):
    return dict(
        mean=lambda X: X.sum(axis=axes_of(X), keepdims=True) / count(X),
        var=lambda X, mean: ((X - mean) ** 2).sum(axis=axes_of(X), keepdims=True) / count(X),
    )


OUTPUTS = {
    "Y = gamma * (X - mean) / sqrt(var) + eps + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / nd.sqrt(var) + eps + beta
    ),
    "Y = gamma * (X - mean) / var + eps + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / var + eps + beta
    ),
    "Y = gamma * (X - mean) / (sqrt(var) + sqrt(eps)) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / (nd.sqrt(var) + eps**0.5) + beta
    ),
    "Y = gamma * (X - mean) / sqrt(var - eps) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / nd.sqrt(var - eps) + beta
    ),
    "Y = gamma * (X - mean) / sqrt(maximum(var, eps)) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / nd.sqrt(nd.maximum(var, eps)) + beta
    ),
    "Y = gamma * (X - mean) / sqrt(var + eps) - beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) / nd.sqrt(var + eps) - beta
    ),
    "Y = (X - mean) / sqrt(var + eps) - beta": lambda X, mean, var, gamma, beta, eps: (
        (X - mean) / nd.sqrt(var + eps) - beta
    ),
    "Y = (X - mean) / sqrt(var + eps) / gamma + beta": lambda X, mean, var, gamma, beta, eps: (
        (X - mean) / nd.sqrt(var + eps) / gamma + beta
    ),
    "Y = (X - mean) / sqrt(var + eps) + gamma + beta": lambda X, mean, var, gamma, beta, eps: (
        (X - mean) / nd.sqrt(var + eps) + gamma + beta
    ),
    "Y = (gamma * X - mean) / sqrt(var + eps) + beta": lambda X, mean, var, gamma, beta, eps: (
        (gamma * X - mean) / nd.sqrt(var + eps) + beta
    ),
    "Y = gamma * (X - mean / sqrt(var + eps)) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean / nd.sqrt(var + eps)) + beta
    ),
    "Y = gamma * X - mean / sqrt(var + eps) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * X - mean / nd.sqrt(var + eps) + beta
    ),
    "Y = gamma * (mean - X) / sqrt(var + eps) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * (mean - X) / nd.sqrt(var + eps) + beta
    ),
    "Y = gamma * X / sqrt(var + eps) + beta": lambda X, mean, var, gamma, beta, eps: (
        gamma * X / nd.sqrt(var + eps) + beta
    ),
    "Y = gamma * (X - mean) + beta": lambda X, mean, var, gamma, beta, eps: gamma * (X - mean) + beta,
    "Y = (gamma * (X - mean) + beta) / sqrt(var + eps)": lambda X, mean, var, gamma, beta, eps: (
        (gamma * (X - mean) + beta) / nd.sqrt(var + eps)
    ),
    "Y = maximum(gamma * (X - mean) / sqrt(var + eps) + beta, 0)": lambda *arguments: nd.relu(normalize(*arguments)),
}


@pytest.mark.fault("a formula for Y that is another one")
@pytest.mark.parametrize("words", OUTPUTS)
def test_another_formula_for_Y_is_told_as_it_is(words):
    fn = written(training_output=OUTPUTS[words])
    result = check.batch_norm(fn)
    text = told(result)
    assert result.mistakes == ["WrongFormula"] and f"which is {words}." in text and "in training, for X = " in text


def test_another_formula_in_prediction_is_told_with_the_moving_averages():
    fn = written(output=OUTPUTS["Y = gamma * X / sqrt(var + eps) + beta"], training_output=normalize)
    text = told(check.batch_norm(fn, only=("prediction",)))
    assert "in prediction, " in text and "which is Y = gamma * X / sqrt(moving_var + eps) + beta." in text


STATISTICS = {
    "sums by examples": (
        sum_over(lambda X: X.shape[0]),
        ["WrongCount"],
        "mean = sum(X) / n and var = sum((X - mean)**2) / n, where n = X.shape[0]",
    ),
    "the variance alone": (
        dict(var=sum_over(lambda X: X.shape[0])["var"]),
        ["WrongCount"],
        "var = sum((X - mean)**2) / n, where n = X.shape[0]",
    ),
    "sums by all values": (
        sum_over(lambda X: X.size),
        ["WrongCount"],
        "mean = sum(X) / size and var = sum((X - mean)**2) / size, where size = X.size",
    ),
    "sums": (sum_over(lambda X: 1), ["WrongMean"], "mean = sum(X) and var = sum((X - mean)**2)"),
    "absolute distances": (
        dict(var=lambda X, mean: mean_of(nd.abs(X - mean))),
        ["WrongVariance"],
        "var = sum(abs(X - mean)) / m",
    ),
    "the root of the variance": (
        dict(var=lambda X, mean: nd.sqrt(var_of(X, mean))),
        ["WrongVariance"],
        "var = sqrt(sum((X - mean)**2) / m)",
    ),
    "distances from 0": (dict(var=lambda X, mean: mean_of(X**2)), ["WrongVariance"], "var = sum(X**2) / m"),
    "the variance of each pixel": (
        dict(var=lambda X, mean: ((X - mean) ** 2).mean(axis=0, keepdims=True)),
        ["WrongAxis"],
        "a variance over the axes (0,)",
    ),
}


@pytest.mark.fault("a mean or a variance that is another one")
@pytest.mark.parametrize("name", STATISTICS)
def test_another_statistic_of_the_batch_is_one_mistake_and_told_as_it_is(name):
    parts, expected, words = STATISTICS[name]
    result = check.batch_norm(written(**parts))
    assert result.mistakes == expected and f"which results from {words}" in told(result), result


@pytest.mark.fault("arguments exchanged in a call")
@pytest.mark.parametrize(
    "first, second", [("gamma", "beta"), ("eps", "momentum"), ("moving_mean", "moving_var"), ("gamma", "moving_var")]
)
def test_arguments_exchanged_in_a_call_are_told(first, second):
    names = ["X", "gamma", "beta", "moving_mean", "moving_var", "eps", "momentum"]
    i, j = names.index(first), names.index(second)

    def exchanged(*arguments):
        arguments = list(arguments)
        arguments[i], arguments[j] = arguments[j], arguments[i]
        return arguments

    result = check.batch_norm(written(call=exchanged))
    assert result.mistakes[0] == "ExchangedArguments"
    assert f"which results from exchanging {first} and {second}" in told(result)
    assert first == "gamma" != second == "moving_var" or result.mistakes == ["ExchangedArguments"]


AVERAGES = {
    "moving_var + (1 - momentum) * (var + eps)": dict(blended=lambda var, eps, **_: var + eps),
    "moving_var + (1 - momentum) * 1 / sqrt(var + eps)": dict(blended=lambda var, eps, **_: 1 / nd.sqrt(var + eps)),
    "moving_var + (1 - momentum) * mean": dict(blended=lambda mean, **_: mean),
    "moving_var + (1 - momentum) * sum((X - new_mean)**2) / m, where m = X.size / X.shape[1] and new_mean = the new "
    "moving_mean": dict(blended=lambda X, new_mean, **_: var_of(X, new_mean)),
    "moving_var + (1 - momentum) * sum((X - moving_mean)**2) / m": dict(
        blended=lambda X, old_mean, **_: var_of(X, old_mean)
    ),
    "moving_var + (1 - momentum) * sum(X**2) / m": dict(blended=lambda X, **_: mean_of(X**2)),
    "which is momentum * moving_mean.": dict(blend=lambda old, batch, momentum: momentum * old),
    "which is (1 - momentum) * mean.": dict(blend=lambda old, batch, momentum: (1 - momentum) * batch),
    "which is momentum * moving_mean + mean.": dict(blend=lambda old, batch, momentum: momentum * old + batch),
    "which is moving_mean + (1 - momentum) * mean.": dict(
        blend=lambda old, batch, momentum: old + (1 - momentum) * batch
    ),
    "which is moving_mean - (1 - momentum) * (mean - moving_mean).": dict(
        blend=lambda old, batch, momentum: old - (1 - momentum) * (batch - old)
    ),
}


@pytest.mark.fault("a moving average of another quantity, or by another rule")
@pytest.mark.parametrize("words", AVERAGES)
def test_another_average_is_told_as_it_is(words):
    result = check.batch_norm(written(**AVERAGES[words]))
    text = told(result)
    assert result.mistakes == ["WrongAverage"] and words in text, text
    assert ("moving_var[0, 0] should be" if "moving_var" in words else "moving_mean[0, 0] should be") in text


def test_a_Y_without_a_known_formula_is_told_as_a_line_if_it_is_one():
    result = check.batch_norm(written(output=lambda *arguments: 1.1 * normalize(*arguments) + 0.5), only=("dense",))
    text = told(result)
    # gamma = (1, 1) and beta = (0, 0) in the first trial
    assert result.mistakes == ["WrongOutput"]
    assert "which is a * X_hat + b with a = (1.1, 1.1) and b = (0.5, 0.5), channel by channel." in text
    squashed = check.batch_norm(written(output=lambda *arguments: nd.tanh(normalize(*arguments))), only=("dense",))
    assert squashed.mistakes == ["WrongOutput"] and "X_hat" not in str(squashed)


def test_a_gradient_that_is_off_by_a_factor_is_told_with_what_is_right():
    def fn(X, *others):
        return written()(2 * X - X.detach(), *others)

    result = check.batch_norm(fn)
    assert result.mistakes == ["WrongGradient"]
    assert "; dX is 2 times what it should be, dgamma and dbeta are right." in told(result)


def test_statistics_of_two_places_are_told():
    def mixed(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        Y, new_mean, new_var = written()(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        if autograd.is_training():
            Y = normalize(X, mean_of(X), moving_var, gamma, beta, eps)
        return Y, new_mean, new_var

    result = check.batch_norm(mixed)
    assert result.mistakes == ["TrainsOnMovingStats"]
    assert "which results from mixing a batch mean with a moving variance" in told(result)


@pytest.mark.fault("averages that normalize while they take the batch in")
@pytest.mark.parametrize("detached", [False, True])
def test_averages_that_have_taken_in_the_batch_and_normalize_it_are_named(detached):
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        if autograd.is_training():
            mean, var = mean_of(X), var_of(X, mean_of(X))
            moving_mean, moving_var = blend(moving_mean, mean, momentum), blend(moving_var, var, momentum)
            if detached:
                moving_mean, moving_var = moving_mean.detach(), moving_var.detach()
        return normalize(X, moving_mean, moving_var, gamma, beta, eps), moving_mean, moving_var

    assert check.batch_norm(fn).mistakes == ["TrainsOnMovingStats"]


def test_gamma_before_the_normalization_is_told_in_Y_and_in_the_averages():
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        return written()(gamma * X, gamma / gamma, beta, moving_mean, moving_var, eps, momentum)

    result = check.batch_norm(fn)
    text = told(result)
    assert result.mistakes == ["WrongFormula", "WrongAverage"]
    assert "which is Y = gamma * (X - mean) / sqrt(gamma**2 * var + eps) + beta." in text
    assert "which is momentum * moving_mean + (1 - momentum) * gamma * mean." in text


@pytest.mark.parametrize(
    "order, constants, words",
    [
        ((0, 1, 2, 3), (0.9, 1e-5), "eps and momentum"),
        ((1, 0, 2, 3), (1e-5, 0.9), "gamma and beta"),
        ((0, 1, 3, 2), (1e-5, 0.9), "moving_mean and moving_var"),
    ],
)
def test_arguments_exchanged_in_a_layer_s_call_are_told(order, constants, words):
    class Layer(ChapterLayer):
        function = staticmethod(lambda X, *given: written()(X, *[given[i] for i in order], *constants))

    result = check.layer(Layer)
    assert result.mistakes == ["ExchangedArguments"]
    assert f"which results from exchanging {words}" in told(result)


def test_a_slip_is_told_of_a_layer_too():
    class Layer(ChapterLayer):
        function = staticmethod(written(blended=lambda var, eps, **_: var + eps))

    result = check.layer(Layer)
    assert result.mistakes == ["WrongAverage"] and "momentum * moving_var + (1 - momentum) * (var + eps)" in str(result)


def test_the_right_formula_is_the_chapter_s_and_no_candidate_is_right():
    assert str(formula(Variant())) == "gamma * (X - mean) / sqrt(var + eps) + beta"
    for rank in (2, 4):
        for source in ("batch", "moving"):
            for variant in candidates(rank, source, frozenset([1e-5, 4])):
                assert variant.names or variant == Variant(source=source)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda a, b, c: a - (b - c), "a - (b - c)"),
        (lambda a, b, c: a - b - c, "a - b - c"),
        (lambda a, b, c: a / (b * c), "a / (b * c)"),
        (lambda a, b, c: a * b / c, "a * b / c"),
        (lambda a, b, c: (a + b) ** 2, "(a + b)**2"),
        (lambda a, b, c: 1 / (a + 2), "1 / (a + 2)"),
        (lambda a, b, c: (1 - a) * b, "(1 - a) * b"),
        (lambda a, b, c: (a**2) ** b, "(a**2)**b"),
    ],
)
def test_a_formula_reads_as_it_is_written_and_gives_its_number(make, text):
    formula = make(*map(variable, "abc"))
    assert str(formula) == text and formula.compute({"a": 2.0, "b": 3.0, "c": 5.0}) == make(2.0, 3.0, 5.0)


def test_a_call_in_a_formula_reads_as_a_call():
    a, b = variable("a"), variable("b")
    made = call("maximum", max, sqrt(a + b), 1)
    assert str(made) == "maximum(sqrt(a + b), 1)" and made.compute({"a": 1.0, "b": 3.0}) == 2
