"""A Sphinx extension for offline pages: formulas are drawn as SVG when the book is built, and the one script that
would load remote code is removed. Wide pictures are marked, so that page.css can make them scroll.
"""

from __future__ import annotations

from pathlib import Path

import imagesize
from docutils import nodes

from gluon_bn.classroom.feedback import draw

WIDE = 700  # pixels: on a phone, the labels of a wider picture would be too small to read


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
    """Remove jupyter-book's scripts that run cells on a public server, which are never used here."""
    context["script_files"] = [
        file for file in context["script_files"] if "thebe" not in f"{file} {getattr(file, 'attributes', {})}".lower()
    ]


def setup(app):
    app.connect("doctree-resolved", mark_wide)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.add_html_math_renderer("svg", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
