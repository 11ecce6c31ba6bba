"""Correct ways to write batch normalization: the check finds no mistake in any of them."""

import numpy
import pytest
import students
from mxnet import autograd, nd
from oracle import axes_of
from students import mean_of, normalize, var_of, written

import gluon_bn
from gluon_bn import check


def rows(X):
    """(c, m): each channel as a row."""
    return X.swapaxes(0, 1).reshape((X.shape[1], -1))


def shaped(values, X):
    return values.reshape((1, -1) + (1,) * (X.ndim - 2))


def full(values, X):
    """Broadcast to X by hand."""
    return nd.broadcast_to(values, shape=X.shape)


def welford(X):
    """Mean and variance in one pass, row by row."""
    values = rows(X).asnumpy().astype("float64")
    mean, squares = numpy.zeros(len(values)), numpy.zeros(len(values))
    for i in range(values.shape[1]):
        delta = values[:, i] - mean
        mean += delta / (i + 1)
        squares += delta * (values[:, i] - mean)
    return mean, squares / values.shape[1]


def by_welford(X, mean):
    """The value comes from the running sums, the gradient from the formula."""
    value = shaped(nd.array(welford(X)[1]), X)
    var = var_of(X, mean)
    return var + (value - var).detach()


MEANS = {
    "a sum by a count": lambda X: X.sum(axis=axes_of(X), keepdims=True) / (X.size / X.shape[1]),
    "axis after axis": lambda X: (
        X.mean(axis=0, keepdims=True)
        if X.ndim == 2
        else X.mean(axis=3, keepdims=True).mean(axis=2, keepdims=True).mean(axis=0, keepdims=True)
    ),
    "all but the channel": lambda X: X.mean(axis=1, exclude=True, keepdims=True),
    "rows": lambda X: shaped(rows(X).mean(axis=1), X),
    "dot with ones": lambda X: shaped(nd.dot(rows(X), nd.ones(rows(X).shape[1])), X) / rows(X).shape[1],
    "moments": lambda X: nd.moments(X, axes=axes_of(X), keepdims=True)[0],
    "the negative of it": lambda X: -((-X).mean(axis=axes_of(X), keepdims=True)),
    "from the first value": lambda X: (
        X[:1].mean(axis=axes_of(X), keepdims=True)
        + (X - X[:1].mean(axis=axes_of(X), keepdims=True)).mean(axis=axes_of(X), keepdims=True)
    ),
    "without keepdims": lambda X: shaped(X.mean(axis=axes_of(X)), X),
    "in float64": lambda X: X.astype("float64").mean(axis=axes_of(X), keepdims=True).astype("float32"),
    "by transposing": lambda X: shaped(
        X.transpose((1, 0) if X.ndim == 2 else (1, 2, 3, 0)).reshape((X.shape[1], -1)).mean(axis=1), X
    ),
    "one by one": lambda X: shaped(nd.add_n(*rows(X).T) / rows(X).shape[1], X),
}
VARIANCES = {
    "a product": lambda X, mean: ((X - mean) * (X - mean)).mean(axis=axes_of(X), keepdims=True),
    "nd.square": lambda X, mean: nd.square(X - mean).mean(axis=axes_of(X), keepdims=True),
    "E[x^2] - E[x]^2 in float64": lambda X, mean: (
        (X.astype("float64") ** 2).mean(axis=axes_of(X), keepdims=True)
        - X.astype("float64").mean(axis=axes_of(X), keepdims=True) ** 2
    ).astype("float32"),
    "moments": lambda X, mean: nd.moments(X, axes=axes_of(X), keepdims=True)[1],
    "rows": lambda X, mean: shaped(((rows(X) - rows(mean)) ** 2).mean(axis=1), X),
    "Welford": by_welford,
    "the norm of rows": lambda X, mean: shaped(nd.sum(rows(X - mean) ** 2, axis=1), X) / rows(X).shape[1],
    "the unbiased, corrected": lambda X, mean: (
        (((X - mean) ** 2).sum(axis=axes_of(X), keepdims=True) / (X.size / X.shape[1] - 1))
        * ((X.size / X.shape[1] - 1) / (X.size / X.shape[1]))
    ),
    "the deviation squared": lambda X, mean: nd.sqrt(var_of(X, mean)) ** 2,
    "distances between all pairs": lambda X, mean: (
        shaped(((rows(X).expand_dims(1) - rows(X).expand_dims(2)) ** 2).mean(axis=(1, 2)), X) / 2
    ),
    "its own mean": lambda X, mean: var_of(X, mean_of(X)),
}
OUTPUTS = {
    "a power": lambda X, mean, var, gamma, beta, eps: gamma * (X - mean) * (var + eps) ** -0.5 + beta,
    "nd.rsqrt": lambda X, mean, var, gamma, beta, eps: (X - mean) * nd.rsqrt(var + eps) * gamma + beta,
    "gamma in the scale": lambda X, mean, var, gamma, beta, eps: (X - mean) * (gamma / nd.sqrt(var + eps)) + beta,
    "beta first": lambda X, mean, var, gamma, beta, eps: beta - (mean - X) / (var + eps).sqrt() * gamma,
    "broadcast by hand": lambda X, mean, var, gamma, beta, eps: (
        full(gamma, X) * (X - full(mean, X)) / full(nd.sqrt(var + eps), X) + full(beta, X)
    ),
    "broadcast operators": lambda X, mean, var, gamma, beta, eps: nd.broadcast_add(
        nd.broadcast_mul(nd.broadcast_div(nd.broadcast_sub(X, mean), nd.sqrt(var + eps)), gamma), beta
    ),
    "gamma and beta as vectors": lambda X, mean, var, gamma, beta, eps: normalize(
        X, mean, var, shaped(gamma.reshape((-1,)), X), shaped(beta.reshape((-1,)), X), eps
    ),
    "the channel last": lambda X, mean, var, gamma, beta, eps: nd.swapaxes(
        nd.swapaxes(gamma, 1, gamma.ndim - 1)
        * (nd.swapaxes(X, 1, X.ndim - 1) - nd.swapaxes(mean, 1, X.ndim - 1))
        / nd.sqrt(nd.swapaxes(var, 1, X.ndim - 1) + eps)
        + nd.swapaxes(beta, 1, X.ndim - 1),
        1,
        X.ndim - 1,
    ),
    "an exponential": lambda X, mean, var, gamma, beta, eps: (
        gamma * (X - mean) * nd.exp(-0.5 * nd.log(var + eps)) + beta
    ),
    "a and b of a line": lambda X, mean, var, gamma, beta, eps: (
        X * (gamma / nd.sqrt(var + eps)) + (beta - mean * gamma / nd.sqrt(var + eps))
    ),
    "float64 inside": lambda X, mean, var, gamma, beta, eps: normalize(
        *(array.astype("float64") for array in (X, mean, var, gamma, beta)), eps
    ).astype("float32"),
    "a loop over channels": lambda X, mean, var, gamma, beta, eps: nd.concat(
        *(
            normalize(*(array.slice_axis(axis=1, begin=i, end=i + 1) for array in (X, mean, var, gamma, beta)), eps)
            for i in range(X.shape[1])
        ),
        dim=1,
    ),
    "a loop over examples": lambda X, mean, var, gamma, beta, eps: nd.concat(
        *(normalize(X[i : i + 1], mean, var, gamma, beta, eps) for i in range(len(X))), dim=0
    ),
    "twice a half": lambda X, mean, var, gamma, beta, eps: 2 * (gamma / 2) * (X - mean) / nd.sqrt(var + eps) + beta,
}
BLENDS = {
    "a sum of three": lambda old, batch, momentum: nd.add_n(old, (1 - momentum) * batch, (momentum - 1) * old),
    "a step towards the batch": lambda old, batch, momentum: old + (1 - momentum) * (batch - old),
    "a step away from the old": lambda old, batch, momentum: batch + momentum * (old - batch),
    "1 - m inside": lambda old, batch, momentum: (1 - (1 - momentum)) * old + (1 - momentum) * batch,
    "old - old / n": lambda old, batch, momentum: old - old * (1 - momentum) + batch * (1 - momentum),
    "numpy": lambda old, batch, momentum: nd.array(momentum * old.asnumpy() + (1 - momentum) * batch.asnumpy()),
}


def in_place(old, batch, momentum):
    new = old.copy()
    new *= momentum
    new += (1 - momentum) * batch
    return new


def written_into(old, batch, momentum):
    new = nd.empty(old.shape)
    new[:] = momentum * old + (1 - momentum) * batch
    return new


BLENDS["in place, on a copy"], BLENDS["into an empty array"] = in_place, written_into


WAYS = {
    **{f"mean: {name}": dict(mean=part) for name, part in MEANS.items()},
    **{f"variance: {name}": dict(var=part) for name, part in VARIANCES.items()},
    **{f"Y: {name}": dict(output=part) for name, part in OUTPUTS.items()},
    **{f"averages: {name}": dict(blend=part) for name, part in BLENDS.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_right_way_of_writing_is_not_blamed(way):
    only = tuple(key for key in check.MATHS if key != "rounding" or "E[x^2]" not in way)
    result = check.batch_norm(written(**WAYS[way]), only)
    assert result.ok and result.findings == [] and result.places == [], result


class OtherNames(students.ChapterLayer):
    """Right: other attributes besides the averages, which are called running_mean and running_var."""

    def __init__(self, num_features, num_dims):
        super().__init__(num_features, num_dims)
        self.running_mean, self.running_var = self.moving_mean, self.moving_var + 1
        del self.moving_mean, self.moving_var
        self.steps, self.history, self.last_batch_mean = 0, [], None

    def forward(self, X):
        mean, var = self.running_mean.as_in_context(X.context), self.running_var.as_in_context(X.context)
        Y, self.running_mean, self.running_var = gluon_bn.batch_norm(
            X, self.gamma.data(), self.beta.data(), mean, var, 1e-5, 0.9
        )
        self.steps, self.last_batch_mean = self.steps + 1, mean_of(X)
        self.history.append(self.steps)
        return Y


class WeightOfTheNew(OtherNames):
    """Right: it stores eps and the weight of the new value, 0.1, as attributes."""

    weight, epsilon = 0.1, 1e-5

    def forward(self, X):
        mean, var = self.running_mean.as_in_context(X.context), self.running_var.as_in_context(X.context)
        if not autograd.is_training():
            return normalize(X, mean, var, self.gamma.data(), self.beta.data(), self.epsilon)
        batch_mean = mean_of(X)
        batch_var = var_of(X, batch_mean)
        self.running_mean = (mean + self.weight * (batch_mean - mean)).detach()
        self.running_var = (var + self.weight * (batch_var - var)).detach()
        return normalize(X, batch_mean, batch_var, self.gamma.data(), self.beta.data(), self.epsilon)


class Flattening(OtherNames):
    """Right: it normalizes a matrix with one row for each value of a channel."""

    def forward(self, X):
        if X.ndim == 2:
            return super().forward(X)
        flat = X.transpose((0, 2, 3, 1)).reshape((-1, X.shape[1]))
        old = [one.as_in_context(X.context).reshape((1, -1)) for one in (self.running_mean, self.running_var)]
        Y, *new = gluon_bn.batch_norm(
            flat, self.gamma.data().reshape((1, -1)), self.beta.data().reshape((1, -1)), *old, 1e-5, 0.9
        )
        self.running_mean, self.running_var = (one.reshape(self.running_mean.shape) for one in new)
        return Y.reshape((X.shape[0], X.shape[2], X.shape[3], X.shape[1])).transpose((0, 3, 1, 2))


@pytest.mark.parametrize("cls", [OtherNames, WeightOfTheNew, Flattening])
def test_a_right_layer_is_not_blamed(cls):
    result = check.layer(cls)
    assert result.mistakes == [] and result.places == [] and result.notes == ["StatsNotSaved"], result


def simplified(dY, X, gamma, eps):
    """Right: the three terms of dX over a common denominator, in place."""
    m, mean = X.size / X.shape[1], mean_of(X)
    std = nd.sqrt(var_of(X, mean) + eps)
    X_hat = (X - mean) / std
    dbeta, dgamma = dY.sum(axis=axes_of(X), keepdims=True), (dY * X_hat).sum(axis=axes_of(X), keepdims=True)
    dX = m * dY
    dX -= dbeta
    dX -= X_hat * dgamma
    dX *= gamma / (m * std)
    return dX, dgamma, dbeta


def projected(dY, X, gamma, eps):
    """Right: dY without its components along 1 and X_hat, written with means."""
    centred = X - mean_of(X)
    X_hat = centred * (mean_of(centred**2) + eps) ** -0.5
    dX_hat = gamma * dY
    dX = (dX_hat - mean_of(dX_hat) - X_hat * mean_of(dX_hat * X_hat)) * (mean_of(centred**2) + eps) ** -0.5
    m = X.size // X.shape[1]
    return dX, m * mean_of(dY * X_hat), m * mean_of(dY)


@pytest.mark.parametrize("fn", [simplified, projected, students.backward()])
def test_a_right_backward_pass_is_not_blamed(fn):
    result = check.gradient(fn)
    assert result.ok and result.findings == [], result
