"""The results of one call, beside the right quantities, and what they show of code that is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy

from ..result import Array, same
from ..running.trials import Trial


@dataclass(frozen=True)
class View:
    """The results of one call; `right` holds all right quantities by name."""

    trial: Trial
    right: Dict[str, Any]
    Y: Array
    averages: Tuple[Array, Array]

    @property
    def X_hat(self) -> Array:
        """Y without gamma and beta."""
        X_hat: Array = (self.Y - self.trial.beta) / self.trial.gamma
        return X_hat

    @property
    def own(self) -> Tuple[Array, Array]:
        """The mean and variance that went into the averages, if these were blended by the right rule."""
        weight, (mean, var) = self.trial.momentum, self.averages
        return (
            (mean - weight * self.trial.moving_mean) / (1 - weight),
            (var - weight * self.trial.moving_var) / (1 - weight),
        )


def of_size(trial: Trial, m: int) -> Trial:
    """The trial with m random values in each channel."""
    shape = (m, *trial.X.shape[1:]) if trial.X.ndim == 2 else (m // 2, trial.X.shape[1], 1, 2)
    X, dY = numpy.random.RandomState(m).randn(2, *shape)
    return trial._replace(X=3 * X + 1, dY=dY)


def plain(trial: Trial) -> Trial:
    return trial._replace(gamma=numpy.ones_like(trial.gamma), beta=numpy.zeros_like(trial.beta))


def line_of(view: View) -> Optional[Tuple[Array, Array]]:
    """(centre, spread) of X_hat = (X - centre) / spread in each channel; None if X_hat is not such a line."""
    x, y = view.trial.X, view.X_hat
    if y.shape != x.shape or not numpy.isfinite(y).all():
        return None
    axes = view.right['axes']
    x_mean, y_mean = x.mean(axes, keepdims=True), y.mean(axes, keepdims=True)
    slope: Array = ((x - x_mean) * y).sum(axes, keepdims=True) / ((x - x_mean) ** 2).sum(axes, keepdims=True)
    if not slope.all() or not same(y, slope * (x - x_mean) + y_mean, rtol=2e-3, atol=2e-3):
        return None
    return x_mean - y_mean / slope, 1 / slope


def right_statistics(views: Sequence[View]) -> bool:
    """Whether the right mean and variance went into the averages; in prediction this cannot be known."""
    return all(near(view.own[i], view.right[name]) for view in views for i, name in enumerate(('mean', 'var')))


def centred(view: View, line: Tuple[Array, Array]) -> bool:
    return bool(numpy.allclose(line[0], view.right['mean'], atol=2e-3 * view.right['std'].max()))


def around(view: View, line: Tuple[Array, Array]) -> bool:
    """Whether the variance was computed about this centre, too."""
    expected = ((view.trial.X - line[0]) ** 2).mean(view.right['axes'], keepdims=True) + view.trial.eps
    return same(line[1] ** 2, expected, rtol=5e-3, atol=5e-3)


def ratio(actual: Array, expected: Array) -> Optional[float]:
    """The factor between two arrays; None if neither is a multiple of the other."""
    if actual.shape != expected.shape or not numpy.isfinite(actual).all():
        return None
    factor = float((actual * expected).sum() / (expected**2).sum())
    return factor if factor and same(actual, factor * expected, rtol=1e-3, atol=1e-3) else None


def follows(view: View) -> bool:
    """Whether X was normalized by the same mean and variance that went into the averages."""
    mean, var = view.own
    with numpy.errstate(all='ignore'):
        expected = (view.trial.X - mean) / numpy.sqrt(var + view.trial.eps) + 0 * view.trial.X
    return same(view.X_hat, expected, rtol=2e-3, atol=2e-3, equal_nan=True)


def centre_follows(view: View) -> bool:
    """Whether X is centred about the same mean that went into the averages."""
    line = line_of(view)
    return line is not None and same(view.own[0], line[0], rtol=2e-3, atol=2e-3 * float(view.right['std'].max()))


def near(actual: Any, expected: Array) -> bool:
    largest = float(abs(expected).max())
    return actual.size == expected.size and same(actual, expected, rtol=1e-3, atol=1e-3 * min(1, largest))
