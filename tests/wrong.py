"""Batch norms with one error each; the tests must reject all of them."""

import oracle
from mxnet import autograd, nd

from gluon_bn import batch_norm


def changed(change):
    """The right maths with one change: `change` is a dict of pieces to replace."""

    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        if not autograd.is_training():
            return batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        axes = change.get("axes", oracle.axes_of)(X)
        mean = X.mean(axis=axes, keepdims=True)
        centred = X - change.get("cut_mean", lambda m: m)(mean)
        var = change.get("var", lambda c: (c**2).mean(axis=axes, keepdims=True))(centred)
        root = change.get("root", lambda v: (v + eps) ** 0.5)
        X_hat = centred / root(change.get("cut_var", lambda v: v)(var))
        Y = change.get("scale", lambda h: gamma * h + beta)(X_hat)
        old, new = change.get("weights", (momentum, 1 - momentum))
        kept = change.get("kept", lambda v: v)(var)
        return Y, old * moving_mean.detach() + new * mean.detach(), old * moving_var.detach() + new * kept.detach()

    return fn


WRONG = {
    "divides by m - 1": changed({"var": lambda c: (c**2).sum(axis=0, keepdims=True) / (len(c) - 1)}),
    "eps outside the root": changed({"root": lambda v: v**0.5 + 1e-3}),
    "no eps": changed({"root": lambda v: v**0.5}),
    "no root": changed({"root": lambda v: v + 1e-3}),
    "by example": changed({"axes": lambda X: (1,)}),
    "mean without gradient": changed({"cut_mean": lambda m: m.detach()}),
    "variance without gradient": changed({"cut_var": lambda v: v.detach()}),
    "no gamma and beta": changed({"scale": lambda h: h}),
    "momentum weighs the new value": changed({"weights": (0.1, 0.9)}),
    "forgets the old statistics": changed({"weights": (0, 1)}),
    "keeps the standard deviation": changed({"kept": lambda v: v**0.5}),
}


def overflowing(X, *others):
    """In float16 itself, where the squares of numbers from 256 on are infinite."""
    return changed({})(X, *others)


def cancelling(X, gamma, beta, *others):
    """var = E[X^2] - E[X]^2."""
    mean = X.mean(axis=oracle.axes_of(X), keepdims=True)
    return changed({"var": lambda c: (X**2).mean(axis=oracle.axes_of(X), keepdims=True) - mean**2})(
        X, gamma, beta, *others
    )


def on_the_graph(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    """Cuts the minibatch's statistics from the graph, but not the old ones."""
    Y, *new = batch_norm(X, gamma, beta, moving_mean.detach(), moving_var.detach(), eps, momentum)
    return (Y, *(array + 0 * old for array, old in zip(new, (moving_mean, moving_var))))


def spreading(X, *others):
    """Adds a sum over all channels times 0, which is 0 but for a NaN."""
    Y, *statistics = batch_norm(X, *others)
    return (Y + 0 * X.sum(), *statistics)


# what only a rare input shows, or only a second look at what was given
RARE = {
    "squares overflow in float16": overflowing,
    "E[X^2] - E[X]^2": cancelling,
    "the old statistics stay on the graph": on_the_graph,
    "a NaN spreads": spreading,
    "gamma without its sign": lambda X, gamma, *others: batch_norm(X, nd.abs(gamma), *others),
    "a variance of eps at least": changed({"kept": lambda v: nd.maximum(v, 1e-5)}),
}
