"""Formulas drawn as SVG, for pages that need no network."""
from __future__ import annotations

import re
from html import escape

import ziamath
from latex2mathml.converter import convert

SIZE = 17  # pixels an em, that of the text around
ziamath.config.svg2 = False  # glyphs are repeated, not shared by id: ids would clash on a page with many formulas


def draw(latex: str, inline: bool) -> str:
    """A formula in LaTeX as an <svg> that stands on the line of the text around it.

    Raises: ValueError for a command that cannot be drawn.
    """
    source = re.sub(r"([(,=] ?)-", r"\1{-}", re.sub(r"\s+", " ", latex).strip())  # a sign, no difference: no space
    unknown = re.findall(r">(\\[a-zA-Z]+)<", convert(source))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot be drawn in the formula {latex}")
    svg = ziamath.Latex(source, size=SIZE, inline=inline, color="currentColor").svg()
    width, height = (float(re.findall(rf'{name}="([\d.]+)"', svg)[0]) for name in ("width", "height"))
    below = height + float(re.findall(r'viewBox="[-\d.]+ ([-\d.]+)', svg)[0])
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(latex, quote=True)}" '
                      f'style="width:{width / SIZE:.3f}em;height:{height / SIZE:.3f}em;'
                      f'vertical-align:{-below / SIZE:.3f}em" ', 1)
