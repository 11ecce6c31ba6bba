"""A Sphinx extension for pages that need no network: formulas are drawn as SVG when the book is built, and the one
script that would load code from elsewhere is left out. Wide pictures are marked, for page.css to let them scroll.
"""
from __future__ import annotations

import re
from html import escape
from pathlib import Path

import imagesize
import ziamath
from docutils import nodes
from sphinx.errors import ExtensionError

SIZE = 17  # pixels an em, that of the text around
WIDE = 700  # pixels: shrunk to a phone, the labels of a wider picture could not be read
ziamath.config.svg2 = False  # glyphs are repeated, not shared by id: ids would clash on a page with many formulas


def draw(latex, inline):
    """A formula in LaTeX as an <svg> that stands on the line of the text around it."""
    source = re.sub(r"([(,=] ?)-", r"\1{-}", re.sub(r"\s+", " ", latex).strip())  # a sign, no difference: no space
    formula = ziamath.Latex(source, size=SIZE, inline=inline, color="currentColor")
    unknown = re.findall(r">(\\[a-zA-Z]+)<", formula.mathmlstr())
    if unknown:
        raise ExtensionError(f"{', '.join(unknown)} cannot be drawn in the formula {latex}")
    svg = formula.svg()
    width, height = (float(re.search(rf'{name}="([\d.]+)"', svg).group(1)) for name in ("width", "height"))
    top = float(re.search(r'viewBox="[-\d.]+ ([-\d.]+)', svg).group(1))
    below = height + top
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(latex, quote=True)}" '
                      f'style="width:{width / SIZE:.3f}em;height:{height / SIZE:.3f}em;'
                      f'vertical-align:{-below / SIZE:.3f}em" ', 1)


def visit_inline(translator, node):
    translator.body.append(f'<span class="formula">{draw(node.astext(), True)}</span>')
    raise nodes.SkipNode


def visit_block(translator, node):
    translator.body.append(f'<div class="formula">{draw(node.astext(), False)}</div>\n')
    raise nodes.SkipNode


def mark_wide(app, doctree, docname):
    for node in doctree.findall(nodes.image):
        if imagesize.get(Path(app.srcdir) / node["uri"])[0] > WIDE:
            node["classes"].append("wide")


def drop_thebe(app, pagename, templatename, context, doctree):
    """Leave out what would run cells on a public server: jupyter-book brings it along, and here it is never used."""
    context["script_files"] = [file for file in context["script_files"]
                               if "thebe" not in f"{file} {getattr(file, 'attributes', {})}".lower()]


def setup(app):
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.add_html_math_renderer("svg", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
