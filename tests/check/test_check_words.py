"""Mistakes of students in a hurry: each is described correctly, and as nothing else."""

import linecache

import numpy as np
import pytest
import students
from mxnet import autograd, nd
from mxnet.gluon import nn

from gluon_bn import check

HEAD = "def f(X, gamma, beta, moving_mean, moving_var, eps, momentum):\n"


def written(body, head=HEAD):
    """The function that a student's cell defines."""
    names = {"nd": nd, "np": np, "autograd": autograd, "nn": nn}
    exec(compile(head + "".join(f"    {line}\n" for line in body.splitlines()), "cell", "exec"), names)
    return names["f"]


@pytest.mark.parametrize(
    "body",
    [
        "raise NotImplementedError('not written yet')\nreturn Y, moving_mean, moving_var",
        "pass",
        "...",
        "'a docstring alone'",
        "return Y, moving_mean, moving_var",
        "return",
    ],
)
def test_what_is_not_written_is_no_mistake_and_not_right(body):
    result = check.batch_norm(written(body))
    assert result.mistakes == ["NotWritten"] and not result.ok and result.verdict == "not written yet"
    text = str(result)
    assert "f contains none of your code yet" in text and "Nothing is wrong" in text and "NO" not in text.split()
    assert "<table>" not in result._repr_html_()


def test_the_exercise_before_is_told_if_it_is_that_which_is_not_written():
    def earlier(*args):
        raise NotImplementedError

    def later(*args):
        return earlier(*args)

    assert "earlier contains none of your code yet" in str(check.batch_norm(later))


@pytest.mark.parametrize(
    "body, name, words",
    [
        ("return X - np.mean(X, axis=0), moving_mean, moving_var", "NotInMXNet", "np.mean"),
        ("return X / np.sqrt(X + eps), moving_mean, moving_var", "NotInMXNet", "np.sqrt"),
        ("return nd.sqrt(np.square(X)), moving_mean, moving_var", "NotInMXNet", "np.square"),
        ("return np.subtract(X, X.mean(axis=0)), moving_mean, moving_var", "NotInMXNet", "NumPy cannot compute"),
        ("return np.exp(X), moving_mean, moving_var", "NotInMXNet", "NumPy cannot compute"),
        ("return X * np.dot(X, X), moving_mean, moving_var", "NotInMXNet", "np.dot"),
        ("return X * np.ones(2), moving_mean, moving_var", "NotInMXNet", "np.ones"),
        ("return X / X.std(axis=0), moving_mean, moving_var", "NotInMXNet", "has no attribute 'std'"),
        ("return X @ X, moving_mean, moving_var", "NotInMXNet", "unsupported operand"),
        ("return nd.std(X), moving_mean, moving_var", "NotInMXNet", "has no attribute 'std'"),
        (
            "Y = nd.zeros(X.shape)\nY[:, 0] = X[:, 0] - X[:, 0].mean()\nreturn Y, moving_mean, moving_var",
            "WritesWhileRecording",
            "Y[:, 0] =",
        ),
        ("X -= X.mean(axis=0)\nreturn X, moving_mean, moving_var", "MutatesInput", "X -="),
        ("return f(X, gamma, beta, moving_mean, moving_var, eps, momentum)", "CallsItself", "return f("),
        (
            "return nd.broadcast_subtract(X, X.mean(axis=0)), moving_mean, moving_var",
            "NotInMXNet",
            "broadcast_subtract",
        ),
        ("return X.broadcast_sub(X.mean(axis=0)), moving_mean, moving_var", "NotInMXNet", "'broadcast_sub'"),
        ("return broadcast_sub(X, X.mean(axis=0)), moving_mean, moving_var", "RaisesException", "'broadcast_sub'"),
        ("return nd.broadcast_axis(X, axis=0, size=9), moving_mean, moving_var", "WrongShape", "Broadcasting axis"),
        ("return nd.broadcast_sub(X, X.mean(axis=1)), moving_mean, moving_var", "WrongShape", "could not be broadcast"),
        ("return gamma * X + epsilon, moving_mean, moving_var", "RaisesException", "'epsilon' is not defined"),
        (
            "x = X.asnumpy()\nY = nd.array((x - x.mean(0)) / np.sqrt(x.var(0) + eps)) * gamma + beta\n"
            "return Y, moving_mean, moving_var",
            "WrongGradient",
            "dX[0, 1]",
        ),
        (
            "x = X.asnumpy()\nY = (x - x.mean(0)) / np.sqrt(x.var(0) + eps) * gamma.asnumpy() + beta.asnumpy()\n"
            "return nd.array(Y), moving_mean, moving_var",
            "NoGradient",
            "is not connected to X",
        ),
    ],
)
def test_habits_of_NumPy_and_of_haste_are_told(body, name, words, monkeypatch):
    lines = [line + "\n" for line in (HEAD + "".join(f"    {line}\n" for line in body.splitlines())).splitlines()]
    monkeypatch.setitem(linecache.cache, "cell", (0, None, lines, "cell"))  # as Jupyter does for its cells
    result = check.batch_norm(written(body), only=("dense", "gradients"))
    text = students.told(result)
    assert result.mistakes[0] == name and words in text and "Traceback" not in text, text


def test_another_number_of_arguments_is_told():
    result = check.batch_norm(written("return X", "def f(X, gamma, beta, moving_mean, moving_var, eps):\n"))
    assert result.mistakes == ["WrongArguments"]


def test_averages_that_are_kept_elsewhere_are_told_and_no_other_mistake():
    kept = {}

    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        moving_mean, moving_var = kept.get(X.shape, (moving_mean, moving_var))
        Y, *kept[X.shape] = students.batch_norm()(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        return (Y, *kept[X.shape])

    assert check.batch_norm(fn).mistakes == ["RemembersBetweenCalls"]


def test_unused_modes_are_not_reported():
    result = check.batch_norm(students.batch_norm("BatchStatsAtPredict"), only=("modes",))
    assert result.mistakes == [] and not result.ok and "until training and prediction differ" in str(result)


def test_a_property_that_cannot_be_judged_gives_no_points():
    def fn(*args):
        Y, mean, var = students.batch_norm()(*args)
        return Y * 1.1, mean, var

    assert not check.batch_norm(fn, only=("gradients", "graph")).ok


class Base(nn.Block):
    """A layer of Parameters whose forward is still to come."""

    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(**kwargs)
        shape = (1, num_features) + (1, 1) * (num_dims == 4)
        for name, start, kind in (
            ("gamma", "ones", "write"),
            ("beta", "zeros", "write"),
            ("moving_mean", "zeros", "null"),
            ("moving_var", "ones", "null"),
        ):
            setattr(self, name, self.params.get(name, shape=shape, init=start, grad_req=kind))

    def data(self):
        return [parameter.data() for parameter in (self.gamma, self.beta, self.moving_mean, self.moving_var)]


class NoForward(Base):
    pass


class EmptyForward(Base):
    def forward(self, X):
        pass


class UnwrittenForward(Base):
    def forward(self, X):
        raise NotImplementedError


class Unwritten(nn.Block):
    def __init__(self, num_features, num_dims):
        raise NotImplementedError


class NoSuper(nn.Block):
    def __init__(self, num_features, num_dims):
        self.gamma = self.params.get("gamma", shape=(1, num_features))


class Boxes(Base):
    def forward(self, X):
        return students.batch_norm()(X, self.gamma, self.beta, self.moving_mean, self.moving_var, 1e-5, 0.9)[0]


class Replaces(Base):
    def forward(self, X):
        Y, self.moving_mean, self.moving_var = students.batch_norm()(X, *self.data(), 1e-5, 0.9)
        return Y


class ReturnsAll(Base):
    def forward(self, X):
        return students.batch_norm()(X, *self.data(), 1e-5, 0.9)


class Torch(nn.Block):
    """PyTorch's names for the learned two."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        shape = (1, num_features) + (1, 1) * (num_dims == 4)
        for name, start, kind in (
            ("weight", "ones", "write"),
            ("bias", "zeros", "write"),
            ("running_mean", "zeros", "null"),
            ("running_var", "ones", "null"),
        ):
            setattr(self, name, self.params.get(name, shape=shape, init=start, grad_req=kind))

    def forward(self, X):
        return students.batch_norm()(
            X, self.weight.data(), self.bias.data(), self.running_mean.data(), self.running_var.data(), 1e-5, 0.9
        )[0]


class Greek(students.ChapterLayer):
    """Letters for the averages."""

    def __init__(self, num_features, num_dims):
        super().__init__(num_features, num_dims)
        self.mu, self.sigma2 = self.moving_mean, self.moving_var
        del self.moving_mean, self.moving_var


class NoSelf(Base):
    def forward(X):
        return X


@pytest.mark.parametrize(
    "cls, expected, words",
    [
        (Unwritten, ["NotWritten"], "__init__ contains none of your code yet"),
        (UnwrittenForward, ["NotWritten"], "forward contains none of your code yet"),
        (EmptyForward, ["NotWritten"], "forward contains none of your code yet"),
        (NoForward, ["NotWritten"], "forward contains none of your code yet"),
        (NoSuper, ["NoSuperInit"], "has no attribute '_params'"),
        (Boxes, ["ParameterNotArray"], "Parameter"),
        (Replaces, ["ReplacesParameter"], "Changing attribute type for moving_mean"),
        (ReturnsAll, ["WrongReturn"], "yours is of type builtins.tuple"),
        (Torch, ["WrongName"], "no Parameter named gamma or beta, but one named weight and one named bias"),
        (Greek, ["WrongName"], "named moving_mean or moving_var, but one named mu and one named sigma2"),
        (NoSelf, ["WrongArguments"], "forward() takes 1 positional argument"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_slips_of_a_layer_are_told(cls, expected, words):
    result = check.layer(cls)
    assert result.mistakes == expected and words in students.told(result), result
