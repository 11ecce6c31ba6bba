"""The result of a check: a table, and for each mistake a counterexample and a hint, as text and as HTML."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, replace
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from .mistakes import HINTS, NOTES
from .picture import picture

Array = Union['numpy.ndarray[Any, Any]']  # quoted, because Python 3.8 cannot subscript ndarray

# float32 in any order of summation, on a few dozen values, errs by 1e-6; two variants differ by 4e-4 and more
RTOL, ATOL = 1e-4, 1e-5
MARKS = {'ok': 'ok', 'mistake': 'NO', 'note': 'note', 'todo': 'todo', 'open': '?'}
COLOURS = {'ok': '#2a7d50', 'mistake': '#d03a2f', 'note': '#8f6800', 'todo': '#3a70b8', 'open': '#737373'}


@dataclass(frozen=True)
class Place:
    """The first wrong quantity in a mode; numbers: its value and the expected one; equals: what it equals instead."""

    quantity: str
    mode: str
    numbers: str
    equals: str = ''

    def __str__(self) -> str:
        numbers = f': {self.numbers}' if self.numbers else ''
        equals = f'; it equals {self.equals}' if self.equals else ''
        return f'the {self.quantity} is off in {self.mode}{numbers}{equals}'


class Finding(NamedTuple):
    """A mistake's name, the numbers that show it, and the first wrong quantity."""

    name: str
    text: str
    place: Optional[Place] = None

    @property
    def sentences(self) -> str:
        if self.place is None:
            return f'{self.text}.'
        numbers = self.place.numbers if self.place.numbers not in self.text else ''
        equals = self.place.equals if f' {self.place.equals}' not in self.text or len(self.place.equals) < 5 else ''
        return f'{self.text}. T{str(replace(self.place, numbers=numbers, equals=equals))[1:]}.'


class StudentError(Exception):
    """A mistake that ends a run of the code under test."""

    def __init__(self, name: str, text: str, place: Optional[Place] = None) -> None:
        super().__init__(f'{name}: {text}')
        self.finding = Finding(name, text, place)


class Row(NamedTuple):
    """One property: what was found, or why it could not be judged."""

    words: str
    findings: Tuple[Finding, ...] = ()
    open: str = ''

    @property
    def status(self) -> str:
        if any(finding.name not in (*NOTES, 'NotWritten') for finding in self.findings):
            return 'mistake'
        if any(finding.name == 'NotWritten' for finding in self.findings):
            return 'todo'
        return 'note' if self.findings else 'open' if self.open else 'ok'

    @property
    def remark(self) -> str:
        return ', '.join(dict.fromkeys(finding.name for finding in self.findings)) or self.open


class CheckFailed(AssertionError):
    """Raised by assert_ok. A notebook shows only its table: the traceback would not help a student."""

    def _render_traceback_(self) -> List[str]:
        return str(self).splitlines()


class Result:
    """The outcome of a check; `print(result)` and Jupyter show it as a table.

    ok: True if every property holds, with a note or without.
    mistakes, notes: the names found, in the order of the table.
    assert_ok(): raises AssertionError with the whole table unless ok.
    """

    def __init__(self, title: str, rows: Sequence[Row], printed: str = '') -> None:
        self.title, self.rows, self.printed = title, rows, printed
        self.findings: List[Finding] = []
        for row in rows:
            for finding in row.findings:
                if finding.name not in [found.name for found in self.findings]:
                    self.findings.append(finding)

    @property
    def mistakes(self) -> List[str]:
        return [finding.name for finding in self.findings if finding.name not in NOTES]

    @property
    def notes(self) -> List[str]:
        return [finding.name for finding in self.findings if finding.name in NOTES]

    @property
    def places(self) -> List[Place]:
        """The first wrong quantity of each mistake for which one was found."""
        return list(dict.fromkeys(finding.place for finding in self.findings if finding.place is not None))

    @property
    def ok(self) -> bool:
        return all(row.status in ('ok', 'note') for row in self.rows)

    def assert_ok(self) -> None:
        if not self.ok:
            raise CheckFailed(f'\n{self}')

    @property
    def blank(self) -> bool:
        """Whether no code has been written yet."""
        return self.mistakes == ['NotWritten'] and all(row.status in ('todo', 'open') for row in self.rows)

    @property
    def verdict(self) -> str:
        passed = sum(row.status in ('ok', 'note') for row in self.rows)
        if self.blank:
            return 'not written yet'
        return 'right' if self.ok else f'{passed} of {len(self.rows)} properties hold'

    def __str__(self) -> str:
        lines = [f'{self.title}: {self.verdict}']
        width = max(len(row.words) for row in self.rows)
        if not self.blank:
            lines += [f'  {MARKS[row.status]:4}  {row.words:{width}}  {row.remark}'.rstrip() for row in self.rows]
        for finding in self.findings:
            head = finding.name + (' (a note, not a mistake)' if finding.name in NOTES else '')
            lines += ['', *_wrapped(f'{head}: {finding.sentences}', ''), *_wrapped(HINTS[finding.name], '    ')]
        if self.printed:
            lines += ['', 'Your code printed:', textwrap.indent(self.printed.rstrip(), '    ')]
        return '\n'.join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def mark(status: str) -> str:
            return f'<b style="color:{COLOURS[status]}">{MARKS[status]}</b>'

        cell = 'style="text-align:left;padding:2px 12px 2px 0"'
        parts = [f'<div style="max-width:56em"><p><b>{html.escape(self.title)}</b>: {self.verdict}</p>']
        if not self.blank:
            parts += [
                '<table>',
                *(
                    f'<tr><td {cell}>{mark(row.status)}</td><td {cell}>{html.escape(row.words)}</td>'
                    f'<td {cell}>{html.escape(row.remark)}</td></tr>'
                    for row in self.rows
                ),
                '</table>',
            ]
        for finding in self.findings:
            kind = 'note' if finding.name in NOTES else 'todo' if finding.name == 'NotWritten' else 'mistake'
            parts.append(
                f'<p style="border-left:4px solid {COLOURS[kind]};padding-left:10px">'
                f'<b>{finding.name}</b>{" (a note, not a mistake)" if kind == "note" else ""}: '
                f'{html.escape(finding.sentences)}{_picture(finding.place)}<br><i>{html.escape(HINTS[finding.name])}</i></p>'
            )
        if self.printed:
            parts.append(f'<p>Your code printed:</p><pre>{html.escape(self.printed.rstrip())}</pre>')
        return ''.join(parts) + '</div>'


def _picture(place: Optional[Place]) -> str:
    return '' if place is None else f'<br>{picture(place.quantity, COLOURS["mistake"])}'


def _wrapped(text: str, indent: str) -> List[str]:
    return textwrap.wrap(text, 98, initial_indent=indent, subsequent_indent='    ', break_long_words=False)


class Difference(str):
    """A sentence about the first number that is clearly off; numbers: its part 'Y[0, 1] should be 2, yours is 3'."""

    numbers: str

    def __new__(cls, description: str, numbers: str) -> Difference:
        sentence = super().__new__(cls, f'for {description}, {numbers}')
        sentence.numbers = numbers
        return sentence


def difference(description: str, quantity: str, expected: Array, actual: Array) -> Difference:
    """Show the first number that is clearly off on the inputs of the description."""
    if expected.size != actual.size:
        numbers = f'{quantity} should have the shape {expected.shape}, yours has {actual.shape}'
        return Difference(description, numbers)
    actual = actual.reshape(expected.shape)
    errors = numpy.nan_to_num(abs(actual - expected), nan=numpy.inf)
    index = tuple(int(i) for i in numpy.argwhere(errors >= 0.1 * errors.max())[0])
    right, yours = round(expected[index], 8) + 0.0, actual[index]  # not -2.8e-17, nor what a finite difference leaves
    digits = next((n for n in range(4, 9) if f'{right:.{n}g}' != f'{yours:.{n}g}'), 8)
    place = ', '.join(map(str, index))
    numbers = f'{quantity}[{place}] should be {right:.{digits}g}, yours is {yours:.{digits}g}'
    return Difference(description, numbers)


def same(actual: Array, expected: Array, rtol: float = RTOL, atol: float = ATOL, equal_nan: bool = False) -> bool:
    """Whether two arrays agree but for rounding, whatever axes of length 1 they have."""
    if actual.size != expected.size:
        return False
    actual, expected = actual.ravel(), expected.ravel()
    largest = abs(expected[numpy.isfinite(expected)]).max(initial=1)
    return bool(numpy.allclose(actual, expected, rtol=rtol, atol=atol * largest, equal_nan=equal_nan))


def close(actual: Array, expected: Array) -> bool:
    """Whether two arrays agree but for rounding, however small both are."""
    return same(actual, expected, atol=ATOL * min(1, abs(expected).max()))
