"""The check of a function: it names every mistake, accepts what is correct, and invents no numbers."""

import itertools

import mxnet as mx
import numpy
import pytest
import students
from mxnet import autograd, npx
from students import names

import gluon_bn
from gluon_bn import check
from gluon_bn.check.mistakes import HINTS, NOTES


def combined(mistakes, exclusive):
    """All pairs of mistakes that one implementation can make; two thirds of them are tested only with --long."""
    pairs = [pair for pair in itertools.combinations(mistakes, 2) if not any(set(pair) <= group for group in exclusive)]
    return [pytest.param(pair, marks=[pytest.mark.long] * (i % 3 > 0)) for i, pair in enumerate(pairs)]


@students.A_FRONT_AT_A_TIME
@pytest.mark.parametrize("mistake", students.FUNCTION)
def test_every_mistake_is_named_and_no_other(front, mistake):
    result = check.batch_norm(students.batch_norm(mistake))
    assert names(result) == {mistake}
    assert result.ok == (mistake in NOTES)
    assert mistake in str(result) and HINTS[mistake].split()[0] in str(result)


@pytest.mark.slow
@pytest.mark.parametrize("pair", combined(students.FUNCTION, students.EXCLUSIVE), ids="+".join)
def test_of_two_mistakes_one_is_named_and_none_invented(pair):
    found = names(check.batch_norm(students.batch_norm(*pair)))
    if set(pair) == {"UnbiasedBatchVar", "TrainsOnMovingStats"}:  # the variance is then seen in the average alone
        pair += ("UnbiasedRunningVar",)
    assert found and found <= set(pair)


RIGHT = {
    "ours": gluon_bn.batch_norm,
    "the chapter's": students.batch_norm("StatsKeptInGraph"),
    "fused": gluon_bn.fused_batch_norm,
    "by reshape": students.by_reshape,
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_functions_pass(front, name):
    result = check.batch_norm(RIGHT[name], seconds=60)  # the fused one may be compiled first
    assert result.ok and result.mistakes == [] and result.verdict == "right", result
    assert set(result.notes) <= {"StatsKeptInGraph"}
    result.assert_ok()


def test_right_functions_of_one_front_pass():
    assert names(check.batch_norm(students.by_hand)) == set()
    npx.set_np()
    try:
        assert names(check.batch_norm(students.by_einsum)) <= {"StatsKeptInGraph"}
    finally:
        npx.reset_np()


def with_statistics(change):
    """The right function, with something done to what it returns."""

    def fn(*args):
        return change(*students.batch_norm()(*args))

    return fn


UNUSUAL = {
    "Y too large": (lambda Y, mean, var: (Y * 1.1, mean, var), {"WrongOutput"}),
    "Y squashed": (lambda Y, mean, var: (Y.tanh(), mean, var), {"WrongOutput"}),
    "the variance grows": (lambda Y, mean, var: (Y, mean, var + 1), {"WrongStatistics", "UpdatesAtPredict"}),
    "exchanged": (lambda Y, mean, var: (Y, var, mean), {"WrongReturn"}),
    "exchanged in prediction": (
        lambda Y, mean, var: (Y, mean, var) if autograd.is_training() else (Y, var, mean),
        {"WrongReturn"},
    ),
    "Y last": (lambda Y, mean, var: (mean, var, Y), {"WrongReturn"}),
    "NumPy averages": (lambda Y, mean, var: (Y, mean.asnumpy(), var.asnumpy()), {"WrongReturn"}),
    "the gradient doubled": (lambda Y, mean, var: (2 * Y - Y.detach(), mean, var), {"WrongGradient"}),
    "the gradient lost": (lambda Y, mean, var: (Y.detach(), mean, var), {"NoGradient"}),
    "a row too few": (lambda Y, mean, var: (Y[1:], mean, var), {"WrongShape"}),
    "no row, and a wrong variance": (
        lambda Y, mean, var: (Y[:0], mean, 2 * var),
        {"WrongShape", "WrongAverage", "UpdatesAtPredict"},
    ),
    "a column, and a wrong variance": (
        lambda Y, mean, var: (Y.mean(axis=1), mean, 2 * var),
        {"WrongShape", "WrongAverage", "UpdatesAtPredict"},
    ),
    "the averages flat": (lambda Y, mean, var: (Y, mean.reshape((-1,)), var.reshape((-1, 1))), {"WrongShape"}),
    "the averages flat in a convolution": (
        lambda Y, mean, var: (Y, mean.reshape((-1,)), var) if Y.ndim == 4 else (Y, mean, var),
        {"WrongShape"},
    ),
    "noise": (lambda Y, mean, var: (Y + mx.nd.random.normal(shape=Y.shape), mean, var), {"RemembersBetweenCalls"}),
    "NumPy arrays": (lambda Y, mean, var: (Y.asnumpy(), mean, var), {"WrongReturn"}),
    "two values": (lambda Y, mean, var: (Y, mean), {"WrongReturn"}),
    "one value": (lambda Y, mean, var: Y, {"WrongReturn"}),
    "None": (lambda Y, mean, var: None, {"ReturnsNone"}),
    "None among them": (lambda Y, mean, var: (Y, None, var), {"ReturnsNone"}),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_mistake_gets_no_usual_name(name):
    change, expected = UNUSUAL[name]
    assert names(check.batch_norm(with_statistics(change))) == expected


@pytest.mark.parametrize("only", [("prediction", "modes"), ("dense",)])
def test_averages_exchanged_on_their_way_through_are_named(only):
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        Y, *_ = students.batch_norm()(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        return Y, moving_var, moving_mean

    result = check.batch_norm(fn, only=only)
    assert result.mistakes == ["WrongReturn"] and "in the wrong order" in str(result)


def test_writing_into_X_is_named_with_and_without_a_record():
    def fn(X, *rest):
        X -= X.mean(axis=0, keepdims=True)
        return students.batch_norm()(X, *rest)

    result = check.batch_norm(fn)
    assert result.mistakes == ["MutatesInput"]
    assert "line" in str(result) and "AGInfo" not in str(result)


def test_the_counterexample_is_the_batch_by_numbers():
    text = students.told(check.batch_norm(students.batch_norm("MomentumSwapped")))
    assert (
        "after one batch, for X = [[1, 2], [3, 2], [5, 6], [7, 6]], moving_mean = 0, moving_var = 0, "
        "momentum = 0.9, moving_mean[0, 0] should be 0.4, yours is 3.6"
    ) in text
    text = students.told(check.batch_norm(students.batch_norm("EpsOutsideSqrt")))
    # 2 * (1 - 4) / 3 + 1 = -1, since the root of 5 + 4 is 3; with eps outside it is 2.236 + 4
    assert "gamma = (2, 3), beta = (1, 10), eps = 4, Y[0, 0] should be -1, yours is 0.03786" in text


def test_a_hint_is_a_question_or_an_advice_and_no_code():
    for hint in HINTS.values():
        assert hint.endswith(("?", ".")) and "=" not in hint.replace("train_mode=False", "") and len(hint) < 280


def test_a_part_of_the_properties_can_be_asked_for():
    dense_only = students.batch_norm("MomentumSwapped")
    assert check.batch_norm(dense_only, only=("dense", "modes")).ok
    assert not check.batch_norm(dense_only, only=("statistics",)).ok
    unbiased = students.batch_norm("UnbiasedBatchVar")
    assert check.batch_norm(unbiased, only=("statistics",)).mistakes == ["UnbiasedBatchVar"]
    with pytest.raises(ValueError, match=r"only must be a tuple of dense, .*got \['colour'\]"):
        check.batch_norm(dense_only, only=("colour",))
    for nothing in ("dense", ()):
        with pytest.raises(ValueError, match="only must be a tuple"):
            check.batch_norm(dense_only, only=nothing)
    assert len(check.batch_norm(dense_only, only=(key for key in ("dense", "modes"))).rows) == 2
    with pytest.raises(ValueError, match="must be a function or a class, got 3"):
        check.batch_norm(3)


def test_a_function_for_dense_layers_alone_passes_that_part():
    def fn(X, *rest):
        assert X.ndim == 2, "convolution comes later"
        return students.batch_norm()(X, *rest)

    result = check.batch_norm(fn)
    assert result.mistakes == ["RaisesException"] and "convolution comes later" in str(result)
    assert result.rows[0].status == "ok"


def test_the_result_is_a_table_in_html_that_escapes_what_came_in():
    def fn(*args):
        print("<script>")
        raise TypeError("<b>")

    html = check.batch_norm(fn)._repr_html_()
    assert "&lt;script&gt;" in html and "&lt;b&gt;" in html and "<script>" not in html and html.count("<tr>") == 10


def test_assert_ok_raises_the_table():
    with pytest.raises(AssertionError, match="MissingBeta"):
        check.batch_norm(students.batch_norm("MissingBeta")).assert_ok()


def test_the_caller_s_modes_front_and_random_numbers_stay(front):
    def fn(*args):
        autograd.set_training(True)
        autograd.set_recording(True)
        npx.set_np() if front is mx.nd else npx.reset_np()
        numpy.random.seed(0)
        return students.batch_norm()(*args)

    numpy.random.seed(7)
    expected = numpy.random.rand()
    numpy.random.seed(7)
    check.batch_norm(fn)
    assert numpy.random.rand() == expected
    assert not autograd.is_training() and not autograd.is_recording() and npx.is_np_array() == (front is mx.np)


def test_within_a_record_the_check_gives_the_same_answer():
    with autograd.record():
        assert check.batch_norm(students.batch_norm()).ok
        assert check.batch_norm(students.batch_norm("BatchStatsAtPredict")).mistakes == ["BatchStatsAtPredict"]
