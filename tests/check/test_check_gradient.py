"""The check of a backward pass by hand."""

import itertools

import numpy
import pytest
import students
from mxnet import autograd
from oracle import axes_of

from gluon_bn import check


@students.A_FRONT_AT_A_TIME
@pytest.mark.parametrize("mistake", students.GRADIENT)
def test_every_mistake_is_named_and_no_other(front, mistake):
    assert check.gradient(students.backward(mistake)).mistakes == [mistake]


@pytest.mark.parametrize("pair", list(itertools.combinations(students.GRADIENT, 2)), ids="+".join)
def test_of_two_mistakes_one_is_named_and_none_invented(pair):
    found = set(check.gradient(students.backward(*pair)).mistakes)
    assert found and found <= set(pair)


def closed_form(dY, X, gamma, eps):
    """Right, in NumPy, with dgamma and dbeta as plain vectors."""
    dY, X, gamma = (array.asnumpy() for array in (dY, X, gamma))
    axes = axes_of(X)
    m = X.size // X.shape[1]
    spread = numpy.sqrt(X.var(axes, keepdims=True) + eps)
    X_hat = (X - X.mean(axes, keepdims=True)) / spread
    dgamma, dbeta = (dY * X_hat).sum(axes, keepdims=True), dY.sum(axes, keepdims=True)
    return gamma / spread * (dY - dbeta / m - X_hat * dgamma / m), dgamma.ravel(), dbeta.ravel()


@pytest.mark.parametrize("fn", [students.backward(), closed_form], ids=["step by step", "closed form"])
def test_right_backward_passes_pass(front, fn):
    result = check.gradient(fn)
    assert result.ok and result.verdict == "right", result


def by_autograd(ask):
    def fn(dY, X, gamma, eps):
        beta = 0 * gamma
        for array in (X, gamma, beta):
            array.attach_grad()
        with autograd.record():
            Y, *_ = students.batch_norm()(X, gamma, beta, gamma, gamma, eps, 0.9)
        return ask(Y, dY, [X, gamma, beta])

    return fn


def by_method(Y, dY, variables):
    Y.backward(dY)
    return [variable.grad for variable in variables]


def by_function(Y, dY, variables):
    autograd.backward([Y], [dY])
    return [variable.grad for variable in variables]


@pytest.mark.parametrize(
    "ask",
    [by_method, by_function, lambda Y, dY, variables: autograd.grad(Y, variables, [dY])],
    ids=["method", "backward", "grad"],
)
def test_autograd_s_work_is_not_taken_for_the_student_s(front, ask):
    result = check.gradient(by_autograd(ask))
    assert result.mistakes == ["UsesAutograd"] and "by hand" in str(result)


def changed(change):
    def fn(dY, X, gamma, eps):
        return change(*closed_form(dY, X, gamma, eps))

    return fn


def without_eps(dY, X, gamma, eps):
    return closed_form(dY, X, gamma, 0)


@pytest.mark.parametrize(
    "fn, expected",
    [
        (without_eps, ["NoEps"]),
        (changed(lambda dX, dgamma, dbeta: (-dX, dgamma, dbeta)), ["WrongGradientScale"]),
        (changed(lambda dX, dgamma, dbeta: (0 * dX, dgamma, dbeta)), ["WrongGradientX"]),
        (changed(lambda dX, dgamma, dbeta: (dX, dbeta, dgamma)), ["WrongReturn"]),
        (changed(lambda dX, dgamma, dbeta: (dgamma, dbeta, dX)), ["WrongReturn"]),
        (changed(lambda dX, dgamma, dbeta: (dX[1:], dgamma, dbeta)), ["WrongShape"]),
        (changed(lambda dX, dgamma, dbeta: (dX, dgamma)), ["WrongReturn"]),
        (changed(lambda dX, dgamma, dbeta: (dX * numpy.nan, dgamma, dbeta)), ["WrongGradientX"]),
        (lambda dY, X, gamma, eps: None, ["NotWritten"]),
        (lambda dY, X, gamma, eps: print(end=""), ["ReturnsNone"]),
        (lambda dY, X, gamma, eps: 1 / 0, ["RaisesException"]),
    ],
    ids=[
        "no eps",
        "the sign",
        "nothing",
        "exchanged",
        "dX last",
        "shape",
        "two values",
        "NaN",
        "unwritten",
        "None",
        "raises",
    ],
)
def test_other_mistakes_are_told_apart(fn, expected):
    assert check.gradient(fn).mistakes == expected


@pytest.mark.parametrize("dX, name", [(None, "NotWritten"), (numpy.zeros(3), "WrongShape")])
def test_dgamma_and_dbeta_are_judged_without_dX(dX, name):
    result = check.gradient(changed(lambda _, dgamma, dbeta: (dX, dgamma, dbeta)))
    assert result.mistakes == [name]
    assert [row.words for row in result.rows if row.status != "ok"] == ["dense: dX", "convolution: dX"]


def test_a_wrong_spread_is_seen_through_another_mistake():
    """The long form, with NumPy's habit of m for the batch size, and no eps."""

    def fn(dY, X, gamma, eps):
        return students.backward("WrongGradientFactorM")(dY, X, gamma, 0)

    assert set(check.gradient(fn).mistakes) == {"NoEps", "WrongGradientFactorM"}


def test_a_dX_built_from_a_wrong_dgamma_is_one_mistake():
    def fn(dY, X, gamma, eps):
        dX, dgamma, dbeta = closed_form(dY, X, gamma, eps)
        axes, m = axes_of(X), X.size // X.shape[1]
        X = X.asnumpy()
        spread = numpy.sqrt(X.var(axes, keepdims=True) + eps)
        X_hat = (X - X.mean(axes, keepdims=True)) / spread
        right = dgamma.reshape(gamma.shape)
        return dX + gamma.asnumpy() / spread * X_hat * (right - right / m) / m, dgamma / m, dbeta

    assert check.gradient(fn).mistakes == ["WrongGradientGamma"]


def test_the_numbers_tell_the_three_ways_of_dX():
    result = check.gradient(students.backward("WrongGradientThroughVariance"), only=("dense",))
    text = students.told(result)
    assert "dY = [[1, -2], [0, 1], [3, 2], [-1, 4]], dX[0, 0] should be" in text
    assert "1 times the direct term, plus 1 times the term through the mean, plus 0 times the term through the" in text
    with pytest.raises(ValueError, match="dense, convolution"):
        check.gradient(closed_form, only=("colour",))


def by_hand(dX="gamma / spread * (dY - dbeta / m - X_hat * dgamma / m)", dgamma="total(dY * X_hat)", dbeta="total(dY)"):
    """A backward pass whose last three lines are these."""
    lines = "\n".join(
        f"    {line}"
        for line in (
            "dY, X, gamma = (array.asnumpy().astype('float64') for array in (dY, X, gamma))",
            "axes = (0,) if X.ndim == 2 else (0, 2, 3)",
            "m = X.size // X.shape[1]",
            "total = lambda array: array.sum(axes, keepdims=True)",
            "mean = total(X) / m",
            "spread = (total((X - mean) ** 2) / m + eps) ** 0.5",
            "X_hat = (X - mean) / spread",
            "dgamma, dbeta = total(dY * X_hat), total(dY)",
            f"return {dX}, {dgamma}, {dbeta}",
        )
    )
    names = {"numpy": numpy}
    exec(f"def fn(dY, X, gamma, eps):\n{lines}", names)
    return names["fn"]


MEAN, VARIANCE, SCALE = "WrongGradientThroughMean", "WrongGradientThroughVariance", "WrongGradientScale"
ROOT = "sqrt(var + eps)"
OTHER_DX = {
    "gamma / spread * (dY - dbeta / m - dgamma / m)": [VARIANCE],  # X_hat left out
    "gamma / spread * (dY - dbeta / m - X * dgamma / m)": [VARIANCE],
    "gamma / spread * (dY - dbeta / m - (X - mean) * dgamma / m)": [VARIANCE],
    "gamma / spread * (dY - dbeta / m - X_hat**2 * dgamma / m)": [VARIANCE],
    "gamma / spread * (dY - dbeta / m - X_hat * dbeta / m)": [VARIANCE],
    "gamma / spread * (dY - dbeta / m + X_hat * dgamma / m)": [VARIANCE],
    "gamma / spread * (dY - dbeta / m - X_hat * dgamma / (m * 2))": [VARIANCE],
    "gamma / spread * (dY - X_hat * dbeta / m - X_hat * dgamma / m)": [MEAN],
    "gamma / spread * (dY - dgamma / m - X_hat * dgamma / m)": [MEAN],
    "gamma / spread * dY": [MEAN, VARIANCE],
    "1 / spread * (dY - dbeta / m - dgamma / m)": [SCALE, VARIANCE],
    "gamma * (dY - dbeta / m - X_hat * dgamma / m)": [SCALE],
    "(gamma * dY - dbeta / m - X_hat * dgamma / m) / spread": [MEAN, VARIANCE],
}


@pytest.mark.fault("another term in a backward pass by hand")
@pytest.mark.parametrize("dX", OTHER_DX)
def test_of_another_term_of_dX_only_what_is_wrong_is_named_and_told(dX):
    result = check.gradient(by_hand(dX))
    text = students.told(result)
    assert result.mistakes == OTHER_DX[dX] and f"dX = {dX}".replace("spread", ROOT) in text, text


@pytest.mark.parametrize(
    "name, formula, words",
    [
        ("dgamma", "total(dY * X)", "sum(dY * X)"),
        ("dgamma", "-total(dY * X_hat)", "-sum(dY * X_hat)"),
        ("dgamma", "total(dY * X_hat) / m", "sum(dY * X_hat) / m, where m = X.size / X.shape[1]"),
        ("dbeta", "total(dY) / m", "sum(dY) / m"),
        ("dbeta", "gamma * total(dY)", "gamma * sum(dY)"),
    ],
)
def test_another_dgamma_or_dbeta_is_told_as_it_is(name, formula, words):
    result = check.gradient(by_hand(**{name: formula}))
    assert result.mistakes == [f"WrongGradient{name[1:].title()}"]
    assert f"which is {name} = {words}" in students.told(result)


@pytest.mark.parametrize(
    "mean, square, mistake, quantity, equals",
    [
        ("total(X) / m", "abs", "WrongVariance", "variance", "sum(abs(X - mean)) / m"),
        ("total(dY) / m", "numpy.square", "WrongMean", "mean", "sum(dY) / m"),
    ],
)
def test_one_mistake_before_X_hat_is_named_once(mean, square, mistake, quantity, equals):
    spread = f"(total({square}(X - {mean})) / m + eps) ** 0.5"
    X_hat = f"((X - {mean}) / {spread})"
    dX = f"gamma / {spread} * (dY - dbeta / m - {X_hat} * total(dY * {X_hat}) / m)"
    result = check.gradient(by_hand(dX, dgamma=f"total(dY * {X_hat})"), only=("dense",))
    assert result.mistakes == [mistake], result
    assert [(place.quantity, place.equals) for place in result.places] == [(quantity, equals)]


def test_a_sum_over_wrong_axes_is_named():
    result = check.gradient(by_hand(dgamma="(dY * X_hat).sum(axes[1:] or 1, keepdims=True)"))
    found = [
        (row.words, finding.place.quantity, finding.place.equals) for row in result.rows for finding in row.findings
    ]
    assert found == [
        ("dense: dgamma", "dgamma", "a sum over the axes (1,)"),
        ("convolution: dgamma", "dgamma", "a sum over the axes (2, 3)"),
    ], result


def test_a_formula_for_all_of_dX_is_not_attributed_to_one_of_its_terms():
    places = check.gradient(by_hand("gamma / spread * dY"), only=("dense",)).places
    assert [(place.quantity, place.equals) for place in places] == [
        ("dX", "gamma / sqrt(var + eps) * dY"),
        ("term through the variance", ""),
    ]
