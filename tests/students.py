"""Students' solutions: batch norms with requested mistakes, and correct ones of many kinds.

They are written from the descriptions of the mistakes, independently of the check's own predictions.
"""

import mxnet as mx
import numpy
import pytest
from mxnet import autograd, gluon, nd, npx
from mxnet.gluon import nn
from oracle import axes_of

from gluon_bn.norm.definition import sqrt

# for tests of every mistake: fast with nd, the chapter's front end; slow with np
A_FRONT_AT_A_TIME = pytest.mark.parametrize("front", ["nd", pytest.param("np", marks=pytest.mark.slow)], indirect=True)


def names(result):
    return set(result.mistakes + result.notes)


def told(result):
    """What a check says, with each mistake on a line of its own."""
    return str(result).replace("\n    ", " ")


def batch_norm(*mistakes):
    """A function with these mistakes; without any, it is right and as the chapter has it."""
    has = set(mistakes).__contains__

    def student(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        training = autograd.is_recording() if has("IsRecordingNotTraining") else autograd.is_training()
        axes = axes_of(X)
        wrong_axes = axes if not has("WrongAxis") else (1,) if X.ndim == 2 else (1, 2, 3)
        mean = X.mean(axis=wrong_axes, keepdims=True)
        if has("VarianceCancellation"):
            var = (X * X).mean(axis=wrong_axes, keepdims=True) - mean * mean
        else:
            var = ((X - mean) ** 2).mean(axis=wrong_axes, keepdims=True)
        m = X.size / mean.size
        if has("StatsDetachedInForward"):
            mean, var = mean.detach(), var.detach()
        biased, unbiased = var, var * (m / (m - 1))
        if has("UnbiasedBatchVar"):
            var = unbiased

        old_mean, old_var = moving_mean, moving_var
        if training or has("UpdatesAtPredict"):
            running = unbiased if has("UnbiasedRunningVar") else var if has("UnbiasedBatchVar") else biased
            running = sqrt(running) if has("RunningStdNotVar") else running
            if has("MomentumSwapped"):
                new_mean, new_var = (
                    momentum * batch + (1 - momentum) * old for old, batch in ((old_mean, mean), (old_var, running))
                )
            elif has("OverwritesRunning"):
                new_mean, new_var = mean, running
            elif has("NeverUpdates"):
                new_mean, new_var = old_mean, old_var
            else:
                weight = 0.99 if has("OtherMomentum") else momentum
                new_mean, new_var = (
                    weight * old + (1 - weight) * batch for old, batch in ((old_mean, mean), (old_var, running))
                )
            if not has("StatsKeptInGraph"):
                new_mean, new_var = new_mean.detach(), new_var.detach()
            if has("MutatesInput"):
                moving_mean[:], moving_var[:] = new_mean, new_var
            else:
                moving_mean, moving_var = new_mean, new_var

        if (training and not has("TrainsOnMovingStats")) or (not training and has("BatchStatsAtPredict")):
            used_mean, used_var = mean, var
        else:
            used_mean, used_var = (old_mean + 0, old_var + 0) if not has("MutatesInput") else (moving_mean, moving_var)
        root = (lambda x: x) if has("MissingSqrt") else sqrt
        if has("EpsOutsideSqrt"):
            X_hat = (X - used_mean) / (root(used_var) + eps)
        elif has("NoEps"):
            X_hat = (X - used_mean) / root(used_var)
        else:
            X_hat = (X - used_mean) / root(used_var + (1e-3 if has("OtherEps") else eps))
        if has("BetaScaledByGamma"):
            Y = gamma * (X_hat + beta)
        else:
            Y = X_hat if has("MissingGamma") else gamma * X_hat
            Y = Y if has("MissingBeta") else Y + beta
        return Y, moving_mean, moving_var

    return student


FUNCTION = [
    "UnbiasedBatchVar",
    "UnbiasedRunningVar",
    "EpsOutsideSqrt",
    "NoEps",
    "OtherEps",
    "MissingSqrt",
    "WrongAxis",
    "MissingGamma",
    "MissingBeta",
    "BetaScaledByGamma",
    "BatchStatsAtPredict",
    "MomentumSwapped",
    "OverwritesRunning",
    "NeverUpdates",
    "OtherMomentum",
    "UpdatesAtPredict",
    "RunningStdNotVar",
    "StatsDetachedInForward",
    "VarianceCancellation",
    "IsRecordingNotTraining",
    "TrainsOnMovingStats",
    "MutatesInput",
    "StatsKeptInGraph",
]
# one excludes the other: they answer the same question differently, or one leaves the other nothing to act on
EXCLUSIVE = [
    {"EpsOutsideSqrt", "NoEps", "OtherEps"},
    {"MissingSqrt", "EpsOutsideSqrt"},
    {"MissingBeta", "BetaScaledByGamma"},
    {"MissingGamma", "BetaScaledByGamma"},
    {"MomentumSwapped", "OverwritesRunning", "NeverUpdates", "OtherMomentum"},
    {"MutatesInput", "NeverUpdates"},
    {"MutatesInput", "WrongAxis"},
]


def mean_of(X):
    return X.mean(axis=axes_of(X), keepdims=True)


def var_of(X, mean):
    return mean_of((X - mean) ** 2)


def normalize(X, mean, var, gamma, beta, eps):
    return gamma * (X - mean) / nd.sqrt(var + eps) + beta


def blend(old, batch, momentum):
    return momentum * old + (1 - momentum) * batch


def written(
    mean=mean_of,
    var=var_of,
    output=normalize,
    blend=blend,
    training_output=None,
    blended=None,
    call=lambda *arguments: arguments,
):
    """A function whose parts may be written in another way; blended: what goes into moving_var instead of var."""

    def student(*arguments):
        X, gamma, beta, moving_mean, moving_var, eps, momentum = call(*arguments)
        if not autograd.is_training():
            return output(X, moving_mean, moving_var, gamma, beta, eps), moving_mean, moving_var
        batch_mean = mean(X)
        batch_var = var(X, batch_mean)
        Y = (training_output or output)(X, batch_mean, batch_var, gamma, beta, eps)
        with autograd.pause():
            new_mean = blend(moving_mean, batch_mean, momentum)
            if blended is not None:
                batch_var = blended(
                    X=X, var=batch_var, mean=batch_mean, new_mean=new_mean, old_mean=moving_mean, eps=eps
                )
            return Y, new_mean, blend(moving_var, batch_var, momentum)

    return student


def layer(*mistakes):
    """A class with these mistakes, of the layer or of the function in it; without any, the averages are Parameters."""
    has = set(mistakes).__contains__
    fn = batch_norm(*[name for name in mistakes if name in FUNCTION])
    plain = any(map(has, PLAIN))

    class Student(nn.Block):
        def __init__(self, num_features, num_dims, **kwargs):
            super().__init__(**kwargs)
            shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
            start = 0.0 if has("VarInitZero") else 1.0
            front = mx.np if npx.is_np_array() else nd
            self.gamma = self.params.get("gamma", shape=shape, init="zeros" if has("WrongStart") else "ones")
            self.beta = front.zeros(shape) if has("NotLearned") else self.params.get("beta", shape=shape, init="zeros")
            if plain:
                self.moving_mean, self.moving_var = front.zeros(shape), front.zeros(shape) + start
            else:
                kind = {} if has("StatsTrainable") else {"grad_req": "null"}
                self.moving_mean = self.params.get("moving_mean", shape=shape, init="zeros", **kind)
                self.moving_var = self.params.get("moving_var", shape=shape, init=mx.init.Constant(start), **kind)

        def forward(self, X):
            if plain and not has("DeviceNotCopied"):
                self.moving_mean = self.moving_mean.as_in_context(X.context)
                self.moving_var = self.moving_var.as_in_context(X.context)
            old = [a if plain else a.data() for a in (self.moving_mean, self.moving_var)]
            beta = self.beta.as_in_context(X.context) if has("NotLearned") else self.beta.data()
            Y, mean, var = fn(X, self.gamma.data(), beta, *old, 1e-5, 0.9)
            if plain:
                self.moving_mean, self.moving_var = mean, var
            else:
                self.moving_mean.set_data(mean.detach())
                self.moving_var.set_data(var.detach())
            return Y

    return Student


PLAIN = ["StatsNotSaved", "DeviceNotCopied", "StatsKeptInGraph", "WrongAxis"]  # these take averages in plain arrays
LAYER = ["VarInitZero", "StatsNotSaved", "StatsTrainable", "DeviceNotCopied", "NotLearned", "WrongStart"]
# averages in plain arrays are never saved, and cannot be Parameters
LAYER_EXCLUSIVE = [{"StatsTrainable", name} for name in PLAIN]


def backward(*mistakes):
    """A backward pass by hand, fn(dY, X, gamma, eps), with these mistakes."""
    has = set(mistakes).__contains__

    def student(dY, X, gamma, eps):
        axes = axes_of(X)

        def total(array):
            return array.sum(axis=axes, keepdims=True)

        m = X.shape[0] if has("WrongGradientFactorM") and X.ndim == 4 else X.size / X.shape[1]
        if has("WrongGradientFactorM") and X.ndim == 2:
            m = 1
        centred = X - X.mean(axis=axes, keepdims=True)
        inverse = 1 / sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
        X_hat = centred * inverse
        dX_hat = dY if has("WrongGradientScale") else dY * gamma
        # step by step, as the paper has it
        dvar = total(dX_hat * centred) * -0.5 * inverse**3
        dmean = -total(dX_hat) * inverse
        dX = dX_hat * inverse
        dX = dX if has("WrongGradientThroughVariance") else dX + dvar * 2 * centred / m
        dX = dX if has("WrongGradientThroughMean") else dX + dmean / m
        dX = dX**3 if has("WrongGradientX") else dX
        dgamma = total(dY * X) if has("WrongGradientGamma") else total(dY * X_hat)
        dbeta = dY.mean(axis=axes, keepdims=True) if has("WrongGradientBeta") else total(dY)
        return dX, dgamma, dbeta

    return student


GRADIENT = [
    "WrongGradientGamma",
    "WrongGradientBeta",
    "WrongGradientThroughMean",
    "WrongGradientThroughVariance",
    "WrongGradientFactorM",
    "WrongGradientScale",
    "WrongGradientX",
]


def by_reshape(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    """Right: every channel as one row."""
    shape = gamma.shape
    rows = (X.T if X.ndim == 2 else X.transpose((1, 0, 2, 3))).reshape((X.shape[1], -1))
    if autograd.is_training():
        mean, var = rows.mean(axis=1), ((rows - rows.mean(axis=1).reshape((-1, 1))) ** 2).mean(axis=1)
        moving_mean = momentum * moving_mean + (1 - momentum) * mean.reshape(shape)
        moving_var = momentum * moving_var + (1 - momentum) * var.reshape(shape)
        mean, var = mean.reshape(shape), var.reshape(shape)
    else:
        mean, var = moving_mean, moving_var
    return (X - mean) * (gamma * (var + eps) ** -0.5) + beta, moving_mean, moving_var


def by_einsum(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    """Right, with mx.np's einsum; for the NumPy front only."""
    np, shape = mx.np, gamma.shape
    if not autograd.is_training():
        return gamma * (X - moving_mean) / np.sqrt(moving_var + eps) + beta, moving_mean, moving_var
    indices, m = ("mc" if X.ndim == 2 else "mchw"), X.size // X.shape[1]
    mean = np.einsum(f"{indices}->c", X).reshape(shape) / m
    centred = X - mean
    var = np.einsum(f"{indices},{indices}->c", centred, centred).reshape(shape) / m
    Y = gamma * centred / np.sqrt(var + eps) + beta
    return Y, moving_mean + (1 - momentum) * (mean - moving_mean), moving_var + (1 - momentum) * (var - moving_var)


class ByHand(autograd.Function):
    """Standardizes in NumPy, with a gradient by hand."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, X):
        value = X.asnumpy()
        self.axes = axes_of(X)
        self.inverse = 1 / numpy.sqrt(value.var(self.axes, keepdims=True) + self.eps)
        self.X_hat = (value - value.mean(self.axes, keepdims=True)) * self.inverse
        return nd.array(self.X_hat)

    def backward(self, dY):
        dY = dY.asnumpy()
        dX = dY - dY.mean(self.axes, keepdims=True) - self.X_hat * (dY * self.X_hat).mean(self.axes, keepdims=True)
        return nd.array(dX * self.inverse)


def by_hand(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    """Right, with a hand-written autograd.Function; for mx.nd only."""
    if not autograd.is_training():
        return normalize(X, moving_mean, moving_var, gamma, beta, eps), moving_mean, moving_var
    value = X.asnumpy()
    mean, var = (nd.array(statistic(axes_of(X), keepdims=True)) for statistic in (value.mean, value.var))
    return gamma * ByHand(eps)(X) + beta, blend(moving_mean, mean, momentum), blend(moving_var, var, momentum)


class GluonLayer(nn.BatchNorm):
    """Gluon's own layer under the chapter's signature."""

    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(in_channels=num_features, **kwargs)


class ChapterLayer(nn.Block):
    """Right, as the chapter has it: the averages are plain arrays that start at 0."""

    function = staticmethod(batch_norm("StatsKeptInGraph"))

    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(**kwargs)
        shape = (1, num_features) + (1, 1) * (num_dims == 4)
        self.gamma = self.params.get("gamma", shape=shape, init=mx.init.One())
        self.beta = self.params.get("beta", shape=shape, init=mx.init.Zero())
        front = mx.np if npx.is_np_array() else nd
        self.moving_mean, self.moving_var = front.zeros(shape), front.zeros(shape)

    def forward(self, X):
        if self.moving_mean.context != X.context:
            self.moving_mean, self.moving_var = self.moving_mean.copyto(X.context), self.moving_var.copyto(X.context)
        Y, self.moving_mean, self.moving_var = self.function(
            X, self.gamma.data(), self.beta.data(), self.moving_mean, self.moving_var, 1e-5, 0.9
        )
        return Y


class LocalCopyLayer(ChapterLayer):
    """Right: it copies the averages for each call and keeps its own where they were."""

    def forward(self, X):
        mean, var = self.moving_mean.as_in_context(X.context), self.moving_var.as_in_context(X.context)
        Y, mean, var = batch_norm()(X, self.gamma.data(), self.beta.data(), mean, var, 1e-5, 0.9)
        self.moving_mean, self.moving_var = mean.as_in_context(mx.cpu()), var.as_in_context(mx.cpu())
        return Y


class InferringLayer(gluon.HybridBlock):
    """Right: a HybridBlock around MXNet's operator that infers its size, as Gluon's own do."""

    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(**kwargs)
        for name, start, kind in (
            ("gamma", "ones", "write"),
            ("beta", "zeros", "write"),
            ("running_mean", "zeros", "null"),
            ("running_var", "ones", "null"),
        ):
            setattr(self, name, self.params.get(name, shape=(0,), init=start, grad_req=kind, allow_deferred_init=True))

    def hybrid_forward(self, F, X, gamma, beta, running_mean, running_var):
        operator = F.npx.batch_norm if npx.is_np_array() else F.BatchNorm
        return operator(X, gamma, beta, running_mean, running_var, eps=1e-5, momentum=0.9, fix_gamma=False)
