"""The check of a layer: parameters, initial values, saving, devices, and the maths inside."""

import functools
import itertools
import re

import mxnet as mx
import pytest
import students
from mxnet import nd
from mxnet.gluon import nn
from students import names

import gluon_bn
from gluon_bn import check
from gluon_bn.check.mistakes import NOTES


def expected(*mistakes):
    """A layer with averages in plain arrays does not save them, and into Parameters MXNet lets nobody write."""
    told = set(mistakes) | ({"StatsNotSaved"} if set(mistakes) & set(students.PLAIN) else set())
    return {"WritesWhileRecording" if name == "MutatesInput" else name for name in told}


@students.A_FRONT_AT_A_TIME
@pytest.mark.parametrize("mistake", students.LAYER + students.FUNCTION)
def test_every_mistake_is_named_and_no_other(front, mistake):
    result = check.layer(students.layer(mistake))
    assert names(result) == expected(mistake), result
    assert result.ok == (mistake in NOTES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, marks=[pytest.mark.long] * (i % 3 > 0))
        for i, pair in enumerate(itertools.combinations(students.LAYER + students.FUNCTION, 2))
        if pair[0] in students.LAYER and not any(set(pair) <= group for group in students.LAYER_EXCLUSIVE)
    ],
    ids="+".join,
)
def test_of_two_mistakes_one_is_named_and_none_invented(pair):
    found = names(check.layer(students.layer(*pair)))
    assert found & expected(*pair) and found <= expected(*pair)


@pytest.mark.parametrize(
    "cls, notes",
    [
        (gluon_bn.BatchNorm, {"VarInitZero"}),
        (functools.partial(gluon_bn.BatchNorm, fn=gluon_bn.fused_batch_norm), {"VarInitZero"}),
        (students.ChapterLayer, {"VarInitZero", "StatsNotSaved", "StatsKeptInGraph"}),
        (students.LocalCopyLayer, {"VarInitZero", "StatsNotSaved"}),
        (students.InferringLayer, set()),
        (students.GluonLayer, set()),
        (lambda num_features, num_dims: nn.BatchNorm(), set()),
        (students.layer(), set()),
    ],
    ids=[
        "ours",
        "fused",
        "the chapter's",
        "copies for each call",
        "infers its size",
        "Gluon's",
        "Gluon's, size inferred",
        "with Parameters",
    ],
)
def test_right_layers_pass(front, cls, notes):
    result = check.layer(cls, seconds=60)
    assert result.mistakes == [] and set(result.notes) == notes, result


@pytest.mark.parametrize("array", ["batch_mean", "mean_of_batch", "variance", "beta_sum", "gamma_old"])
def test_an_array_more_is_not_taken_for_an_average(array):
    class Layer(students.ChapterLayer):
        def __setattr__(self, name, value):
            if name == "gamma":  # the first of all
                super().__setattr__(array, nd.zeros(value.shape))
            super().__setattr__(name, value)

    result = check.layer(Layer)
    assert result.mistakes == [] and names(result) == {"VarInitZero", "StatsNotSaved", "StatsKeptInGraph"}, result


@pytest.mark.parametrize("first", ["batch_mean", "mean_of_batch", "last_mean", "var_of_batch"])
@pytest.mark.parametrize("names", [("mean", "var"), ("_mean", "_var"), ("avg_mean", "avg_var")], ids="+".join)
def test_averages_are_found_beside_an_array_that_came_first(first, names):
    class Layer(nn.Block):
        def __init__(self, num_features, num_dims):
            super().__init__()
            shape = (1, num_features) + (1, 1) * (num_dims == 4)
            setattr(self, first, nd.zeros(shape))
            self.gamma = self.params.get("gamma", shape=shape, init="ones")
            self.beta = self.params.get("beta", shape=shape, init="zeros")
            setattr(self, names[0], nd.zeros(shape))
            setattr(self, names[1], nd.ones(shape))

        def forward(self, X):
            setattr(self, first, X.mean(axis=0))
            old = [getattr(self, name).as_in_context(X.context) for name in names]
            Y, *new = gluon_bn.batch_norm(X, self.gamma.data(), self.beta.data(), *old, 1e-5, 0.9)
            for name, value in zip(names, new):
                setattr(self, name, value)
            return Y

    result = check.layer(Layer)
    assert result.mistakes == [] and result.notes == ["StatsNotSaved"], result


class Counting(students.ChapterLayer):
    """Right, and it counts its calls in a Parameter."""

    def __init__(self, num_features, num_dims):
        super().__init__(num_features, num_dims)
        self.calls = self.params.get("calls", shape=(1,), init="zeros", grad_req="null")

    def forward(self, X):
        self.calls.set_data(self.calls.data() + 1)
        return super().forward(X)


class Around(nn.Block):
    """Right: Gluon's layer as its child."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        self.norm = nn.BatchNorm(in_channels=num_features)

    def forward(self, X):
        return self.norm(X)


class PerDevice(students.ChapterLayer):
    """Right: it keeps what it saw, by device."""

    def forward(self, X):
        self.seen = {**getattr(self, "seen", {}), X.context: X.mean(axis=0)}
        return super().forward(X)


@pytest.mark.parametrize("cls", [Counting, Around, PerDevice])
def test_right_layers_with_more_in_them_pass(cls):
    assert check.layer(cls).mistakes == []


def test_what_a_layer_raises_on_another_device_is_not_called_a_forgotten_copy():
    class Layer(students.ChapterLayer):
        def forward(self, X):
            if X.context != mx.cpu():
                return X / self.size_of(X)
            return super().forward(X)

        def size_of(self, X):
            return 1 / (X.size - 8)

    result = check.layer(Layer, only=("device",))
    assert result.mistakes == ["RaisesException"]
    assert "with X on cpu(1), ZeroDivisionError: division by zero (line" in students.told(result)


def test_parameters_asked_of_the_first_device_are_named():
    class Layer(students.ChapterLayer):
        def forward(self, X):
            return X * self.gamma.data(mx.cpu())

    assert check.layer(Layer, only=("device",)).mistakes == ["DeviceNotCopied"]


class Nothing(nn.Block):
    def forward(self, X):
        return X


class Forgetful(nn.Block):
    """A layer with no averages at all."""

    def __init__(self, num_features, num_dims):
        super().__init__()
        self.gamma = self.params.get("gamma", shape=(1, num_features), init="ones")
        self.beta = self.params.get("beta", shape=(1, num_features), init="zeros")

    def forward(self, X):
        return self.gamma.data() * X + self.beta.data()


class NoParameters(students.ChapterLayer):
    def __init__(self, num_features, num_dims):
        nn.Block.__init__(self)
        self.moving_mean, self.moving_var = nd.zeros((1, num_features)), nd.ones((1, num_features))

    def forward(self, X):
        return X


@pytest.mark.parametrize(
    "cls, name, words",
    [
        (Nothing, "RaisesException", r"when the layer is made by Nothing\(2, 2\)"),
        (lambda num_features, num_dims: 3, "NotABlock", "builtins.int"),
        (Forgetful, "NoMovingStats", "no attributes moving_mean and moving_var"),
        (NoParameters, "MissingGamma", "no Parameter named gamma"),
    ],
)
def test_what_is_no_batch_norm_is_told_so(cls, name, words):
    result = check.layer(cls)
    assert result.mistakes[0] == name and re.search(words, students.told(result)), result


def test_other_constants_can_be_asked_for():
    def sluggish(num_features, num_dims):
        return gluon_bn.BatchNorm(num_features, num_dims, eps=1e-3, momentum=0.99)

    assert names(check.layer(sluggish)) == {"OtherEps", "OtherMomentum", "VarInitZero"}
    assert check.layer(sluggish, eps=1e-3, momentum=0.99).ok


def test_a_part_of_the_properties_can_be_asked_for():
    assert check.layer(students.layer("StatsNotSaved", "MissingBeta"), only=("saving",)).notes == ["StatsNotSaved"]
    with pytest.raises(ValueError, match="parameters, start, saving, device"):
        check.layer(students.layer(), only=("colour",))


def test_a_layer_in_the_place_of_its_class_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="must be a function or a class, got .*; pass it by name, without"):
        check.layer(gluon_bn.BatchNorm(2, 2))


@pytest.mark.parametrize("name", ["gamma", "moving_mean"])
def test_an_array_that_does_not_hold_one_number_per_channel_is_named(name):
    class Layer(students.ChapterLayer):
        def __init__(self, num_features, num_dims):
            super().__init__(num_features, num_dims)
            if name == "gamma":
                self.gamma._shape = (1, 1)  # before it is initialized
            else:
                self.moving_mean = nd.zeros((1, 1))

    result = check.layer(Layer)
    assert result.mistakes == ["WrongShape"], result
    assert f"{name} should hold one number for each of 2 channels, yours has the shape (1, 1)" in students.told(result)
