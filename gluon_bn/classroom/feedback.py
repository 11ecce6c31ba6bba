"""Feedback that can be read without a network, where nbgrader's page asks one for a script that draws formulas.

A submission's outputs are in it. It runs no script, loads nothing, and is drawn in bounded time.
"""
from __future__ import annotations

import html
import re
import signal
import time
from typing import Any

from .formula import draw

SCRIPT = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->\s*", re.DOTALL)
VERBATIM = re.compile(r"(<(script|style|pre|code)\b.*?</\2>)", re.DOTALL | re.IGNORECASE)
LISTED = re.compile(r'<a href="#([\w-]+)">(?:Test cell|Written response)</a>')
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)([^$\n]+?)(?<=\S)\$(?!\d)", re.DOTALL)
POLICY = ('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; '
          'img-src data:; font-src data:">')
LONGEST = 2000  # characters of a formula
EACH, ALL = 2.0, 20.0  # seconds for one formula, and for a page


class TooSlow(Exception):
    """A formula took too long."""


def offline(page: str, student: str) -> str:
    """nbgrader's page with the student's name, without scripts, its formulas drawn as SVG, its cells by their names.

    Formulas are drawn for 20 seconds at most, so this must run in the main thread.
    """
    page = LISTED.sub(r'<a href="#\1">\1</a>', SCRIPT.sub("", page)).replace("<head>", f"<head>{POLICY}", 1)
    page = re.sub(r"(<title>|<h4>)", lambda tag: f"{tag[0]}{html.escape(student)}: ", page, count=2)
    deadline = time.monotonic() + ALL
    parts = VERBATIM.split(page)
    # of three parts one is text; the others are a verbatim element and the name of its tag
    return "".join(FORMULA.sub(lambda match: _drawn(match, deadline), part) if i % 3 == 0 else part
                   for i, part in enumerate(parts) if i % 3 != 2)


def _drawn(match: re.Match[str], deadline: float) -> str:
    block, inline = match.groups()
    source = html.unescape(block or inline)
    try:
        if len(source) > LONGEST:
            raise TooSlow
        svg = _within(min(EACH, deadline - time.monotonic()), source, inline=block is None)
    except (TooSlow, RecursionError, MemoryError):
        return f"<code>{html.escape(match.group())}</code> <em>(a formula that takes too long to draw)</em>"
    except Exception:  # what a student wrote between two dollars need be no formula: it stays as it is
        return match.group()
    return f'<div style="text-align:center">{svg}</div>' if block else svg


def _within(seconds: float, source: str, inline: bool) -> str:
    """Draw a formula. Raises: TooSlow after so many seconds."""
    if seconds <= 0:
        raise TooSlow

    def give_up(signum: int, frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again, where it fell into a callback that swallows exceptions
    try:
        return draw(source, inline)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first: it must not fall into the next line
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
