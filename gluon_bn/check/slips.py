"""Slips that turn one step of batch normalization into another: arguments exchanged, other sums, other formulas.

Each is written as the formula that comes of it, so that it can be tried, and told to whoever wrote it.
"""
from __future__ import annotations

import itertools
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy

from .formulas import Formula, call, sqrt, total, variable

X, mean, var, gamma, beta, eps, moving_mean, moving_var, m, n, size = map(variable, (
    'X', 'mean', 'var', 'gamma', 'beta', 'eps', 'moving_mean', 'moving_var', 'm', 'n', 'size'))
momentum, new_mean, new_var, Y = map(variable, ('momentum', 'new_mean', 'new_var', 'Y'))

MEAN, VAR = total(X) / m, total((X - mean) ** 2) / m  # the right ones
ZERO = Formula('0', lambda values: 0 * values['X'].sum(values['axes'], keepdims=True))


class Slip(NamedTuple):
    """name: the mistake. steps: pairs of a step and what takes its place. words: how a sentence tells it."""

    name: str
    steps: Tuple[Tuple[str, Any], ...]
    words: str = ''


def _maximum(left: Formula, right: Any) -> Formula:
    return call('maximum', numpy.maximum, left, right)


def _absolute(argument: Formula) -> Formula:
    return call('abs', abs, argument)


# what may stand in the place of a step; 'scaled' follows X_hat, and Y follows what is scaled
FORMULAS: Dict[str, List[Any]] = {
    'centred': [X, X + mean, mean - X, _absolute(X - mean)],
    'spread': [sqrt(var) + sqrt(eps), sqrt(var + eps) + eps, sqrt(var + eps ** 2), sqrt(var - eps),
               sqrt(_maximum(var, eps)), _maximum(sqrt(var), eps), sqrt(var + sqrt(eps)), var ** 2 + eps,
               (var + eps) ** 2, sqrt(var ** 2 + eps), sqrt(sqrt(var + eps)), sqrt(var * eps)],
    'X_hat': [lambda spread: X - mean, lambda spread: (X - mean) * spread, lambda spread: X - mean / spread,
              lambda spread: X / spread - mean, lambda spread: ((X - mean) / spread) ** 2],
    'scaled': [lambda X_hat: X_hat / gamma, lambda X_hat: X_hat + gamma, lambda X_hat: gamma ** 2 * X_hat,
               lambda X_hat: (gamma + 1) * X_hat, lambda X_hat: sqrt(gamma) * X_hat, lambda X_hat: X_hat - gamma,
               lambda X_hat: beta * X_hat],
    'Y': [lambda scaled: scaled - beta, lambda scaled: scaled + eps + beta, lambda scaled: scaled + eps,
          lambda scaled: beta * scaled, lambda scaled: scaled + gamma, lambda scaled: scaled + beta + mean,
          lambda scaled: scaled + beta ** 2, lambda scaled: _maximum(scaled + beta, 0), lambda scaled: scaled / beta],
    'whole': [lambda spread: gamma * (X - mean) / var + eps + beta, lambda spread: gamma * (X - mean) / var + eps,
              # gamma and beta before the normalization, which undoes them
              lambda spread: gamma * (X - mean) / sqrt(gamma ** 2 * var + eps) + beta,
              lambda spread: gamma * (X - mean) / sqrt(gamma ** 2 * var + eps),
              lambda spread: gamma * X - mean / spread + beta, lambda spread: (gamma * X - mean) / spread + beta,
              lambda spread: (gamma * (X - mean) + beta) / spread, lambda spread: (gamma * X + beta - mean) / spread,
              lambda spread: gamma * X / spread - mean + beta, lambda spread: gamma * (X - mean) / (spread + beta),
              lambda spread: gamma * (X - mean / spread + beta), lambda spread: X, lambda spread: gamma * X + beta,
              lambda spread: (gamma * X + beta) / spread, lambda spread: mean, lambda spread: spread],
}
MEANS = [total(X), total(X) / (m - 1), total(X) / (n - 1), total(X) / size, ZERO, total(_absolute(X)) / m]
VARS = [total((X - mean) ** 2) / (n - 1), total((X - mean) ** 2), total((X - mean) ** 2) / size,
        total((X - mean) ** 2) / (m + 1), VAR * n / (n - 1), total(_absolute(X - mean)) / m, total(X - mean) / m,
        total(X ** 2) / m, total(X ** 2) / m + mean ** 2, total(X ** 2) / m - mean, mean ** 2 - total(X ** 2) / m,
        sqrt(VAR), VAR ** 2, total((X - moving_mean) ** 2) / m, VAR + eps, 1 / sqrt(VAR + eps)]
COUNTS = [n, n - 1, size]


def _all() -> Tuple[Slip, ...]:
    slips = [Slip('ExchangedArguments', ((first, second), (second, first)), f'{first} and {second} exchanged')
             for first, second in [('eps', 'momentum'), *itertools.combinations(
                 ('gamma', 'beta', 'moving_mean', 'moving_var'), 2)]]
    for step, formulas in FORMULAS.items():
        slips += [Slip('WrongFormula', ((step, formula),)) for formula in formulas]
    about_mean = total((X - MEAN) ** 2) / m  # as X.var() has it, whatever `mean` is
    for count in COUNTS:
        squares = total((X - mean) ** 2) / count
        slips += [Slip('WrongCount', (('mean', total(X) / count), ('var', squares))),
                  Slip('WrongCount', (('mean', total(X) / count),)), Slip('WrongCount', (('var', squares),)),
                  Slip('WrongCount', (('mean', total(X) / count), ('var', about_mean)))]
    for wrong in MEANS:
        slips += [Slip('WrongMean', (('mean', wrong),)), Slip('WrongMean', (('mean', wrong), ('var', about_mean)))]
    slips.append(Slip('WrongMean', (('mean', total(X)), ('var', total((X - mean) ** 2)))))
    slips += [Slip('WrongVariance', (('var', wrong),)) for wrong in VARS]
    return tuple(slips)


SLIPS = _all()


def axis_slips(axes: Tuple[int, ...]) -> Tuple[Slip, Slip]:
    """The mean, or the variance, alone taken over wrong axes."""
    return (Slip('WrongAxis', (('axes of mean', axes),), f'a mean over the axes {axes}'),
            Slip('WrongAxis', (('axes of var', axes),), f'a variance over the axes {axes}'))


# the new average of an old one and the batch's statistic
RULES = [
    lambda old, batch: momentum * old, lambda old, batch: (1 - momentum) * batch, lambda old, batch: momentum * batch,
    lambda old, batch: (1 - momentum) * old, lambda old, batch: old + batch,
    lambda old, batch: momentum * old + batch, lambda old, batch: old + (1 - momentum) * batch,
    lambda old, batch: old + momentum * batch, lambda old, batch: (1 - momentum) * old + batch,
    lambda old, batch: momentum * (old + batch), lambda old, batch: (1 - momentum) * (old + batch),
    lambda old, batch: momentum * old - (1 - momentum) * batch,
    lambda old, batch: (1 - momentum) * batch - momentum * old,
    lambda old, batch: old - (1 - momentum) * (batch - old), lambda old, batch: old - momentum * (batch - old),
    lambda old, batch: momentum * (momentum * old + (1 - momentum) * batch) + (1 - momentum) * batch,
    lambda old, batch: momentum * old + (1 - momentum) * sqrt(batch), lambda old, batch: (old + batch) / 2,
    lambda old, batch: batch - old, lambda old, batch: ZERO,
]
# what may be blended in the place of the batch's mean and variance; new_mean and new_var are the new averages
BLENDED = {
    'moving_mean': [var, new_var, gamma * mean, total(Y) / m, mean ** 2, sqrt(var + eps), total(X), total(X) / n,
                    *MEANS[1:4]],
    'moving_var': [var + eps, mean, new_mean, gamma ** 2 * var, gamma * var, 1 / sqrt(var + eps), 1 / sqrt(var),
                   1 / (var + eps), total((X - new_mean) ** 2) / m, total((X - moving_mean) ** 2) / m,
                   total((X - new_mean) * (X - moving_mean)) / m, total((X - new_mean) ** 2) / (m - 1),
                   total((X - moving_mean) ** 2) / (m - 1), total((Y - total(Y) / m) ** 2) / m,
                   total((X - mean) ** 2) / n, var * n / (n - 1), *VARS[:-2]],
}
