"""A Sphinx extension for offline pages: formulas are drawn as SVG when the book is built, the one script that would
load remote code is removed, and every figure gets an alternative text. See figures.py for narrow pages.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

from docutils import nodes
from figures import panels_of, stacked

from gluon_bn import drawing, experiments  # noqa: F401
from gluon_bn.classroom.grading.feedback import draw
from gluon_bn.experiments import figures, panel, training_figures

WIDE = 500  # pixels: on a phone, the labels of a wider figure would be too small to read


def visit_inline(translator, node):
    translator.body.append(f'<span class="formula">{draw(node.astext(), True)}</span>')
    raise nodes.SkipNode


def visit_block(translator, node):
    text = node.astext()
    formulas = re.split(r"\\q?quad\s", text) if r"\begin" not in text else [text]  # where a narrow page may break a row
    translator.body.append(f'<div class="formula">{" ".join(draw(part, False) for part in formulas)}</div>\n')
    raise nodes.SkipNode


def describe_figures(app, doctree, docname):
    """Give each figure an alternative text, and each figure of several panels a second form for narrow pages."""
    for node in list(doctree.findall(nodes.image)):
        path = Path(app.srcdir) / node["uri"]
        if node.get("alt", node["uri"]) == node["uri"]:
            node["alt"] = alternative_text(node)
        if path.suffix == ".png" or b"matplotlib" in path.read_bytes()[:2000]:
            size, pieces = panels_of(path)
            if size[0] > WIDE and len(pieces) > 1:
                node["classes"].append("stacked")
                source = "../" * docname.count("/") + f"_images/{path.name}"
                (node.parent if isinstance(node.parent, nodes.reference) else node).parent.append(
                    nodes.raw("", stacked(source, node["alt"], size, pieces), format="html")
                )


def alternative_text(image):
    """Return the cell's comment `# Figure: ...`, or else the docstring of the function that draws the figure."""
    cell = image.parent
    while cell and "cell" not in cell.get("classes", ()):
        cell = cell.parent
    source = next(iter(cell.findall(nodes.literal_block))).astext() if cell else ""
    said = re.search(r"# Figure: (.+)", source)
    if said:
        return said[1]
    for name in reversed(re.findall(r"\b(?:figures|panel)\.(\w+)\(", source)):
        for module in (figures, training_figures, panel):
            if hasattr(module, name):
                return " ".join(inspect.getdoc(getattr(module, name)).split("\n\n")[0].split())
    raise ValueError(f"this cell draws a figure; describe it in a comment `# Figure: ...`:\n{source}")


def finish(app, pagename, templatename, context, doctree):
    """Remove jupyter-book's scripts for a public server, and add notebook 01's controls.

    Numbers stay in one piece, and so do a formula and its punctuation. Names in code may break behind / and _.
    """
    context["script_files"] = [
        file for file in context["script_files"] if "thebe" not in f"{file} {getattr(file, 'attributes', {})}".lower()
    ]
    if "body" in context:  # a line may break at a hyphen, even in 1e-5
        number = re.compile(r"(?<![\w.])\d+(?:\.\d+)?e-\d+|&[lg]t;= [\d.]+|(?P<date>\b\d{4}-\d\d-\d\d\b)")
        context["body"] = re.sub(
            r">[^<>]+<",
            lambda text: number.sub(lambda n: f'<span class="{n.lastgroup or "number"}">{n[0]}</span>', text[0]),
            context["body"],
        )
        context["body"] = re.sub(
            r'<span class="pre">[^<]*', lambda code: re.sub("[/_]", r"\g<0><wbr>", code[0]), context["body"]
        )
        formula = r'\(?<span class="formula">(?:(?!</span>).)*</span>[).,:;?]+'
        context["body"] = re.sub(formula, r'<span class="number">\g<0></span>', context["body"], flags=re.DOTALL)
    if doctree and "panel.show()" in doctree.astext():
        colors = [drawing.COLORS["none"], drawing.COLORS["scratch"]]
        values = {"UNIT": panel.UNIT.tolist(), "DEFAULTS": panel.DEFAULTS, "RANGES": panel.RANGES, "COLORS": colors}
        context["body"] += f"<script>const PANEL = {json.dumps(values)};</script>"


def keep_texts(app, error):
    """Write the texts of all pages into a script for the search: a page opened from a folder cannot fetch others."""
    if error:  # Sphinx reports it
        return
    texts = {}
    for page in sorted(Path(app.outdir).rglob("*.html")):
        main = re.search(r"<article.*</article>", page.read_text(encoding="utf-8"), re.DOTALL)
        if main:
            text = re.sub(r"<(script|style|svg).*?</\1>|</?(span|wbr|a|em|code)\b[^>]*>", "", main[0], flags=re.DOTALL)
            text = re.sub("<[^>]+>", " ", text)
            texts[page.relative_to(app.outdir).as_posix()] = " ".join(text.split())
    (Path(app.outdir) / "_static" / "texts.js").write_text(f"const TEXTS = {json.dumps(texts)};", encoding="utf-8")


def setup(app):
    app.connect("doctree-resolved", describe_figures)
    app.connect("html-page-context", finish, priority=900)
    app.connect("build-finished", keep_texts)
    app.add_html_math_renderer("svg", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
