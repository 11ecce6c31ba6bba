"""Formulas that can be computed and read: from names, `gamma * X_hat + beta` makes both the number and the words."""
from __future__ import annotations

import operator
from typing import Any, Callable, Mapping, Union

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
