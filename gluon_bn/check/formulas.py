"""Formulas that can be computed and read, and the formulas that known slips in batch normalization lead to.

`gamma * X_hat + beta` makes both the number and the text. Each slip is written as the formula that results from it, so
that it can be tried on numbers and shown to whoever wrote it.
"""
from __future__ import annotations

import functools
import itertools
import operator
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple, Union

import numpy

SUM, PRODUCT, POWER, CALL = 1, 2, 3, 4  # how tightly the outermost operator binds


class Formula:
    """An expression over names: its text, and how to compute it from the names' values."""

    def __init__(self, text: str, compute: Callable[[Mapping[str, Any]], Any], binding: int = CALL) -> None:
        self.text, self.compute, self.binding = text, compute, binding

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Operand) -> Formula:
        return _binary(self, '+', operator.add, other, SUM, SUM)

    def __sub__(self, other: Operand) -> Formula:
        return _binary(self, '-', operator.sub, other, SUM, PRODUCT)

    def __mul__(self, other: Operand) -> Formula:
        return _binary(self, '*', operator.mul, other, PRODUCT, PRODUCT)

    def __truediv__(self, other: Operand) -> Formula:
        return _binary(self, '/', operator.truediv, other, PRODUCT, POWER)

    def __pow__(self, other: Operand) -> Formula:
        return _binary(self, '**', operator.pow, other, POWER, CALL)

    def __neg__(self) -> Formula:
        return Formula(f'-{self}' if self.binding > SUM else f'-({self})',
                       lambda values: -self.compute(values), PRODUCT)

    def __rsub__(self, other: float) -> Formula:
        return _formula(other) - self

    def __rtruediv__(self, other: float) -> Formula:
        return _formula(other) / self


Operand = Union[Formula, float]


def variable(name: str) -> Formula:
    return Formula(name, lambda values: values[name])


def call(name: str, function: Callable[..., Any], *arguments: Operand) -> Formula:
    """The formula name(arguments), computed by `function`."""
    formulas = [_formula(argument) for argument in arguments]
    return Formula(f'{name}({", ".join(map(str, formulas))})',
                   lambda values: function(*[formula.compute(values) for formula in formulas]))


def sqrt(argument: Operand) -> Formula:
    return call('sqrt', numpy.sqrt, argument)


def total(argument: Formula) -> Formula:
    """The sum over `axes`, which is among the values."""
    return Formula(f'sum({argument})', lambda values: argument.compute(values).sum(values['axes'], keepdims=True))


def _formula(operand: Operand) -> Formula:
    return operand if isinstance(operand, Formula) else Formula(f'{operand:g}', lambda values: operand)


def _binary(left: Formula, sign: str, function: Callable[..., Any], other: Operand, binding: int,
            right_binding: int) -> Formula:
    right = _formula(other)
    texts = [f'({side})' if side.binding < least else str(side)
             for side, least in ((left, binding + (sign == '**')), (right, right_binding))]
    return Formula(f' {sign} '.join(texts) if sign != '**' else '**'.join(texts),
                   lambda values: function(left.compute(values), right.compute(values)), binding)


# --- the forward pass

X, mean, var, gamma, beta, eps, moving_mean, moving_var, m, n, size = map(variable, (
    'X', 'mean', 'var', 'gamma', 'beta', 'eps', 'moving_mean', 'moving_var', 'm', 'n', 'size'))
momentum, new_mean, new_var, Y = map(variable, ('momentum', 'new_mean', 'new_var', 'Y'))

MEAN, VAR = total(X) / m, total((X - mean) ** 2) / m  # the right ones
ZERO = Formula('0', lambda values: 0 * values['X'].sum(values['axes'], keepdims=True))


class Slip(NamedTuple):
    """name: the mistake. steps: pairs of a step and what takes its place. description: how a sentence names it."""

    name: str
    steps: Tuple[Tuple[str, Any], ...]
    description: str = ''


def _maximum(left: Formula, right: Any) -> Formula:
    return call('maximum', numpy.maximum, left, right)


def _absolute(argument: Formula) -> Formula:
    return call('abs', abs, argument)


def _each(formulas: Callable[[Formula], List[Formula]]) -> List[Callable[[Formula], Formula]]:
    """One function for each of the formulas that are made from one part."""
    def make(i: int, part: Formula) -> Formula:
        return formulas(part)[i]

    return [functools.partial(make, i) for i in range(len(formulas(X)))]


# what a step may be replaced by; 'scaled' is made from X_hat, and Y from what is scaled
FORMULAS: Dict[str, List[Any]] = {
    'centred': [X, X + mean, mean - X, _absolute(X - mean)],
    'spread': [sqrt(var) + sqrt(eps), sqrt(var + eps) + eps, sqrt(var + eps ** 2), sqrt(var - eps),
               sqrt(_maximum(var, eps)), _maximum(sqrt(var), eps), sqrt(var + sqrt(eps)), var ** 2 + eps,
               (var + eps) ** 2, sqrt(var ** 2 + eps), sqrt(sqrt(var + eps)), sqrt(var * eps)],
    'X_hat': _each(lambda spread: [X - mean, (X - mean) * spread, X - mean / spread, X / spread - mean,
                                   ((X - mean) / spread) ** 2]),
    'scaled': _each(lambda X_hat: [X_hat / gamma, X_hat + gamma, gamma ** 2 * X_hat, (gamma + 1) * X_hat,
                                   sqrt(gamma) * X_hat, X_hat - gamma, beta * X_hat]),
    'Y': _each(lambda scaled: [scaled - beta, scaled + eps + beta, scaled + eps, beta * scaled, scaled + gamma,
                               scaled + beta + mean, scaled + beta ** 2, _maximum(scaled + beta, 0), scaled / beta]),
    'whole': _each(lambda spread: [
        gamma * (X - mean) / var + eps + beta, gamma * (X - mean) / var + eps,
        # gamma and beta before the normalization, which undoes them
        gamma * (X - mean) / sqrt(gamma ** 2 * var + eps) + beta, gamma * (X - mean) / sqrt(gamma ** 2 * var + eps),
        gamma * X - mean / spread + beta, (gamma * X - mean) / spread + beta, (gamma * (X - mean) + beta) / spread,
        (gamma * X + beta - mean) / spread, gamma * X / spread - mean + beta, gamma * (X - mean) / (spread + beta),
        gamma * (X - mean / spread + beta), X, gamma * X + beta, (gamma * X + beta) / spread, mean, spread]),
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


def rules(old: Formula, batch: Formula) -> List[Formula]:
    """What may replace momentum * old + (1 - momentum) * batch, `batch` being the batch's statistic."""
    return [
        momentum * batch + (1 - momentum) * old, batch, momentum * old, (1 - momentum) * batch, momentum * batch,
        (1 - momentum) * old, old + batch, momentum * old + batch, old + (1 - momentum) * batch, old + momentum * batch,
        (1 - momentum) * old + batch, momentum * (old + batch), (1 - momentum) * (old + batch),
        momentum * old - (1 - momentum) * batch, (1 - momentum) * batch - momentum * old,
        old - (1 - momentum) * (batch - old), old - momentum * (batch - old),
        momentum * (momentum * old + (1 - momentum) * batch) + (1 - momentum) * batch,
        momentum * old + (1 - momentum) * sqrt(batch), (old + batch) / 2, batch - old, ZERO]


# what may be blended instead of the batch's mean and variance; new_mean and new_var are the new averages
BLENDED = {
    'moving_mean': [var, new_var, gamma * mean, total(Y) / m, mean ** 2, sqrt(var + eps), total(X), total(X) / n,
                    *MEANS[1:4]],
    'moving_var': [var + eps, mean, new_mean, gamma ** 2 * var, gamma * var, 1 / sqrt(var + eps), 1 / sqrt(var),
                   1 / (var + eps), total((X - new_mean) ** 2) / m, total((X - moving_mean) ** 2) / m,
                   total((X - new_mean) * (X - moving_mean)) / m, total((X - new_mean) ** 2) / (m - 1),
                   total((X - moving_mean) ** 2) / (m - 1), total((Y - total(Y) / m) ** 2) / m,
                   total((X - mean) ** 2) / n, var * n / (n - 1), *VARS[:-2]],
}


# --- a backward pass by hand

dY, X_hat, dgamma, dbeta = map(variable, ('dY', 'X_hat', 'dgamma', 'dbeta'))
NONE = Formula('0', lambda values: 0)

# in each list the right term comes first, then what may replace it
SCALES = [gamma / sqrt(var + eps), 1 / sqrt(var + eps), gamma, gamma * sqrt(var + eps), gamma / (var + eps),
          gamma ** 2 / sqrt(var + eps)]
THROUGH_MEAN = [dbeta / m, NONE, X_hat * dbeta / m, dgamma / m, X_hat * dgamma / m, gamma * dbeta / m, dY / m,
                mean * dbeta / m]
THROUGH_VARIANCE = [X_hat * dgamma / m, NONE, dgamma / m, X * dgamma / m, (X - mean) * dgamma / m,
                    X_hat ** 2 * dgamma / m, X_hat * dbeta / m, dbeta / m, dY * dgamma / m, X_hat / m,
                    X_hat * total(dY * X) / m, X_hat * total(dY * (X - mean)) / m, X_hat * total(X_hat) / m,
                    (X - mean) * dgamma / (var + eps) / m, gamma * X_hat * dgamma / m, X_hat * dgamma / m ** 2,
                    X_hat * dgamma * 2 / m, X_hat * dgamma / (m * 2)]
DX_MISTAKES = ('WrongGradientScale', 'WrongGradientThroughMean', 'WrongGradientThroughVariance')
# of two terms at once
WHOLE = [(gamma * dY - dbeta / m - X_hat * dgamma / m) / sqrt(var + eps),
         gamma / sqrt(var + eps) * dY - dbeta / m - X_hat * dgamma / m,
         gamma * dY - (dbeta / m + X_hat * dgamma / m) / sqrt(var + eps)]
PARAMETERS = {
    'dgamma': [total(dY * X), total(dY * (X - mean)), total(dY * X_hat) / m, total(dY * X_hat) / n,
               gamma * total(dY * X_hat), total(X_hat), total(dY), total(X), total(dY) * total(X_hat),
               total(dY * (X - mean) / (var + eps)), -total(dY * X_hat), total(dY * X_hat) / gamma],
    'dbeta': [total(dY) / m, total(dY) / n, gamma * total(dY), total(dY * X_hat), -total(dY), m,
              total(dY) / sqrt(var + eps), total(dY) / gamma],
}


@functools.lru_cache(maxsize=None)
def dX_formulas() -> List[Tuple[List[str], Formula]]:
    """The names of what is wrong, and the formula that results: from the fewest names to the most."""
    made: List[Tuple[List[str], Formula]] = []
    means, variances = ([*((term, '-') for term in terms), (terms[0], '+')]
                        for terms in (THROUGH_MEAN, THROUGH_VARIANCE))
    for scale, mean_term, variance_term in itertools.product(SCALES, means, variances):
        wrong = scale != SCALES[0], mean_term != means[0], variance_term != variances[0]
        names = list(itertools.compress(DX_MISTAKES, wrong))
        inner = dY
        for term, sign in (mean_term, variance_term):
            if term is not NONE:
                inner = inner - term if sign == '-' else inner + term
        made.append((names, scale * inner))
    made += [(list(DX_MISTAKES[1:]), formula) for formula in WHOLE]
    return sorted((pair for pair in made if pair[0]), key=lambda pair: len(pair[0]))
