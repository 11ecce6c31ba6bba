"""Feedback that works offline: nbgrader's page without the script that it loads, with formulas drawn as SVG.

The page holds a submission's outputs, so it runs no script and loads nothing, and formulas are drawn in bounded time.
"""

from __future__ import annotations

import html
import re
import signal
import time
from typing import Any, Iterator, Set, Tuple

import ziamath
from latex2mathml.converter import convert

SCRIPT = "<!-- Load mathjax -->", "<!-- End of mathjax configuration -->"  # begins and ends it
VERBATIM = re.compile(r"<(script|style|pre|code)\b", re.IGNORECASE)
LISTED = re.compile(r'<a href="#([\w-]+)">(?:Test cell|Written response)</a>')
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)([^$\n]+?)(?<=\S)\$(?!\d)", re.DOTALL)
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'; '
    'img-src data:; font-src data:">'
)
LONGEST = 2000  # characters of a formula
EACH, ALL = 2.0, 20.0  # seconds for one formula, and for a page
SIZE = 17  # pixels per em, as in the surrounding text
ziamath.config.svg2 = False  # glyphs are repeated, not shared by id: ids would clash on a page with many formulas


class TooSlow(Exception):
    """A formula took too long."""


def offline(page: str, student: str) -> str:
    """Return nbgrader's page with the student's name, without scripts, with formulas as SVG and cells listed by name.

    Drawing the formulas is limited to 20 seconds by a signal, so this must run in the main thread.
    """
    before, _, rest = page.partition(SCRIPT[0])
    page = LISTED.sub(r'<a href="#\1">\1</a>', before + (rest.partition(SCRIPT[1])[2] or rest))
    page = page.replace("<head>", f"<head>{POLICY}", 1)
    page = re.sub(r"(<title>|<h4>)", lambda tag: f"{tag[0]}{html.escape(student)}: ", page, count=2)
    deadline = time.monotonic() + ALL
    return "".join(
        part if verbatim else FORMULA.sub(lambda match: _drawn(match, deadline), part)
        for part, verbatim in _parts(page)
    )


def _parts(page: str) -> Iterator[Tuple[str, bool]]:
    """Yield the page in parts: each part's text, and whether it is an element to leave unchanged."""
    done, at = 0, 0
    unclosed: Set[str] = set()
    while True:
        tag = VERBATIM.search(page, at)
        if not tag:
            break
        name, at = tag[1].lower(), tag.end()
        end = None if name in unclosed else re.compile(f"</{name}>", re.IGNORECASE).search(page, at)
        if not end:
            unclosed.add(name)  # searched only once, because a page may hold thousands
            continue
        at = end.end()
        yield page[done : tag.start()], False
        yield page[tag.start() : at], True
        done = at
    yield page[done:], False


def _drawn(match: re.Match[str], deadline: float) -> str:
    block, inline = match.groups()
    source = html.unescape(block or inline)
    try:
        if len(source) > LONGEST:
            raise TooSlow
        svg = _within(min(EACH, deadline - time.monotonic()), source, inline=block is None)
    except (TooSlow, RecursionError, MemoryError):
        return f"<code>{html.escape(match.group())}</code> <em>(a formula that takes too long to draw)</em>"
    except Exception:  # text between two dollars need not be a formula: leave it unchanged
        return match.group()
    return f'<div style="text-align:center">{svg}</div>' if block else svg


def _within(seconds: float, source: str, inline: bool) -> str:
    """Draw a formula. Raises: TooSlow after so many seconds."""
    if seconds <= 0:
        raise TooSlow

    def give_up(signum: int, frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # repeats, because a callback may swallow the exception
    try:
        return draw(source, inline)
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first, so that it cannot interrupt the next line
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def draw(latex: str, inline: bool) -> str:
    """Return a LaTeX formula as an <svg> aligned with the baseline of the text around it.

    Raises: ValueError for a command that cannot be drawn.
    """
    source = re.sub(r"\s+", " ", latex).strip().replace(r"\mathtt", r"\texttt")  # \mathtt would be drawn as italic
    source = re.sub(r"([(,=] ?)-", r"\1{-}", source)  # a sign, not an operator: no space
    unknown = re.findall(r">(\\[a-zA-Z]+)<", convert(source))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot be drawn in the formula {latex}")
    svg: str = ziamath.Latex(source, size=SIZE, inline=inline, color="currentColor").svg()
    width, height = (float(re.findall(rf'{name}="([\d.]+)"', svg)[0]) for name in ("width", "height"))
    below = height + float(re.findall(r'viewBox="[-\d.]+ ([-\d.]+)', svg)[0])
    return svg.replace(
        "<svg ",
        f'<svg role="img" aria-label="{html.escape(latex, quote=True)}" '
        f'style="width:{width / SIZE:.3f}em;height:{height / SIZE:.3f}em;'
        f'vertical-align:{-below / SIZE:.3f}em" ',
        1,
    )
