"""Formulas that can be computed and read, and all formulas that are one change away from another.

`gamma * X_hat + beta` gives both the number and the text. `edits` changes one node, like a slip of the pen: another
operator or operand, or a part omitted, doubled, exchanged or inserted.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple, Union

import numpy

SUM, PRODUCT, POWER, CALL = 1, 2, 3, 4  # how tightly the outermost operator binds


class Formula:
    """An expression over names: its text, how to compute it, its parts, and how to rebuild it from other parts."""

    def __init__(
        self,
        text: str,
        compute: Callable[[Mapping[str, Any]], Any],
        binding: int = CALL,
        parts: Sequence[Formula] = (),
        make: Callable[..., Any] = lambda: None,
    ) -> None:
        self.text, self._compute, self.binding, self.parts, self.make = text, compute, binding, parts, make

    def compute(self, values: Mapping[str, Any]) -> Any:
        """The value; a `Memory` caches it for other formulas with the same part."""
        if not isinstance(values, Memory) or not self.parts:
            return self._compute(values)
        if self.text not in values:
            values[self.text] = self._compute(values)
        return values[self.text]

    def __str__(self) -> str:
        return self.text

    @property
    def number(self) -> Optional[float]:
        """The value of a constant; None for any other formula."""
        return float(self.text) if re.fullmatch(r'-?[\d.]+(e-?\d+)?', self.text) else None

    def __add__(self, other: Operand) -> Formula:
        return _binary(self, '+', other)

    def __sub__(self, other: Operand) -> Formula:
        return _binary(self, '-', other)

    def __mul__(self, other: Operand) -> Formula:
        return _binary(self, '*', other)

    def __truediv__(self, other: Operand) -> Formula:
        return _binary(self, '/', other)

    def __pow__(self, other: Operand) -> Formula:
        return _binary(self, '**', other)

    def __neg__(self) -> Formula:
        text = f'-{self}' if self.binding > SUM else f'-({self})'
        return Formula(text, lambda values: -self.compute(values), PRODUCT, (self,), operator.neg)

    def __rsub__(self, other: float) -> Formula:
        return _binary(_formula(other), '-', self)

    def __rmul__(self, other: float) -> Formula:
        return _binary(_formula(other), '*', self)

    def __rtruediv__(self, other: float) -> Formula:
        return _binary(_formula(other), '/', self)


class Memory(Dict[str, Any]):
    """Values by name, and a cache of the formulas computed from them, by their text.

    Numbers become NumPy's, which allow division by 0.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        numbers = {name: numpy.float64(one) for name, one in values.items() if isinstance(one, (int, float))}
        super().__init__({**values, **numbers})


Operand = Union[Formula, float]
# sign: (the function, how tightly it binds, how tightly its right side must)
SIGNS: Dict[str, Tuple[Callable[[Any, Any], Any], int, int]] = {
    '+': (operator.add, SUM, SUM),
    '-': (operator.sub, SUM, PRODUCT),
    '*': (operator.mul, PRODUCT, PRODUCT),
    '/': (operator.truediv, PRODUCT, POWER),
    '**': (operator.pow, POWER, CALL),
}


def variable(name: str) -> Formula:
    return Formula(name, lambda values: values[name])


def call(name: str, function: Callable[..., Any], *arguments: Operand) -> Formula:
    """The formula name(arguments), computed by `function`."""
    formulas = [_formula(argument) for argument in arguments]
    return Formula(
        f'{name}({", ".join(map(str, formulas))})',
        lambda values: function(*[formula.compute(values) for formula in formulas]),
        CALL,
        formulas,
        functools.partial(call, name, function),
    )


def sqrt(argument: Operand) -> Formula:
    return call('sqrt', numpy.sqrt, argument)


def total(argument: Formula, name: str = 'sum', function: Callable[..., Any] = numpy.sum) -> Formula:
    """The sum, or another reduction, over `axes`, which is among the values."""

    def compute(values: Mapping[str, Any]) -> Any:
        return function(argument.compute(values) + 0 * values['X'], axis=values['axes'], keepdims=True)

    again = functools.partial(total, name=name, function=function)
    return Formula(f'{name}({argument})', compute, CALL, (argument,), again)


def constant(value: float) -> Formula:
    return Formula(f'{value:g}', lambda values: numpy.float64(value))


def _formula(operand: Operand) -> Formula:
    return operand if isinstance(operand, Formula) else constant(operand)


def _binary(left: Formula, sign: str, other: Operand) -> Formula:
    right = _formula(other)
    function, binding, right_binding = SIGNS[sign]
    texts = [
        f'({side})' if side.binding < least else str(side)
        for side, least in ((left, binding + (sign == '**')), (right, right_binding))
    ]
    return Formula(
        f' {sign} '.join(texts) if sign != '**' else '**'.join(texts),
        lambda values: function(left.compute(values), right.compute(values)),
        binding,
        (left, right),
        SIGNS[sign][0],
    )


maximum, absolute = functools.partial(call, 'maximum', numpy.maximum), functools.partial(call, 'abs', abs)


def named(formula: Formula) -> Formula:
    """The formula as a single name, whose inside is never changed."""
    return Formula(formula.text, formula.compute, formula.binding)


def edits(
    formula: Formula, names: Sequence[Formula], structure: bool = False, instead: Sequence[Formula] = ()
) -> Dict[str, Formula]:
    """The formulas that one change at one node gives, by their text; the simplest first.

    names: formulas that may be inserted or replace a name, in one place or everywhere. instead: those that may only
    replace one. structure: neither replace nor insert names.
    """
    others = (*names, *instead)
    made = itertools.chain(
        _changed(formula),
        _exchanged(formula),
        () if structure else (*others, *_put_in(formula, names), *_replaced(formula, others)),
    )
    return {one.text: one for one in sorted(made, key=lambda one: len(one.text)) if one.text != formula.text}


def everywhere(formula: Formula, change: Callable[[Formula], Iterator[Formula]]) -> Iterator[Formula]:
    yield from change(formula)
    for i, part in enumerate(formula.parts):
        for changed in everywhere(part, change):
            yield formula.make(*formula.parts[:i], changed, *formula.parts[i + 1 :])


def _changed(formula: Formula) -> Iterator[Formula]:
    """Another operator, parts exchanged, a part alone, or an operation on the whole node."""

    def change(node: Formula) -> Iterator[Formula]:
        yield from node.parts
        if len(node.parts) == 2:
            left, right = node.parts
            yield from (SIGNS[sign][0](left, right) for sign in '+-*/')
            yield from (SIGNS[sign][0](right, left) for sign in '-/')
            yield from (node.make(right, left), 1 / right, left**2 + right, left + right**2)
            # other parentheses
            if len(left.parts) == 2:
                yield left.make(left.parts[0], node.make(left.parts[1], right))
                yield left.make(node.make(left.parts[0], right), left.parts[1])
            if len(right.parts) == 2:
                yield right.make(node.make(left, right.parts[0]), right.parts[1])
        if len(node.parts) == 1 and len(node.parts[0].parts) == 2:
            yield node.parts[0].make(node.make(node.parts[0].parts[0]), node.parts[0].parts[1])
        if node.number is not None:
            yield from (_formula(value) for value in (node.number + 1, node.number - 1, 2 * node.number, -node.number))
        elif node.parts or node.text.isidentifier():  # not a quantity that stands for a formula of its own
            yield from (-node, absolute(node), sqrt(node), node**2, 1 / node)
            yield from (node - 1, node + 1, node - 2) if node.text in ('m', 'n', 'size') else ()
            yield 2 * node if node.parts else node * 2
            if node.parts and node.binding != PRODUCT:
                yield node / 2

    return everywhere(formula, change)


def renamed(node: Formula, new: Mapping[str, Formula]) -> Formula:
    made: Formula = node.make(*(renamed(part, new) for part in node.parts)) if node.parts else node
    return new.get(node.text, made)


def _exchanged(formula: Formula) -> Iterator[Formula]:
    """Two names exchanged."""
    names = {leaf.text: leaf for leaf in _leaves(formula) if leaf.number is None}
    pairs = itertools.combinations(names.values(), 2)
    yield from (renamed(formula, {one.text: other, other.text: one}) for one, other in pairs)


def _replaced(formula: Formula, others: Sequence[Formula]) -> Iterator[Formula]:
    """A name replaced, in one place or everywhere."""
    yield from everywhere(formula, lambda node: iter(() if node.parts else others))
    texts = [leaf.text for leaf in _leaves(formula) if leaf.number is None]
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        yield from (renamed(formula, {text: other}) for other in others)


def _leaves(formula: Formula) -> Iterator[Formula]:
    if not formula.parts:
        yield formula
    for part in formula.parts:
        yield from _leaves(part)


def _put_in(formula: Formula, leaves: Sequence[Formula]) -> Iterator[Formula]:
    """A name inserted at a node."""

    def change(node: Formula) -> Iterator[Formula]:
        for leaf in leaves if node.number is None else ():
            yield from (node + leaf, node - leaf, leaf * node, node / leaf, leaf - node, leaf / node)
            yield from (node + sqrt(leaf), node * sqrt(leaf))
            if leaf.text == 'eps':
                yield maximum(node, leaf)

    return everywhere(formula, change)
