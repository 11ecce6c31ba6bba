"""Find the panels of a figure, in its pixels or its SVG, to stack them on pages that are too narrow for a row."""

from __future__ import annotations

import html
import re

import numpy
from matplotlib.image import imread


def panels_of(path):
    """Return a figure's size and pieces (left, top, width, height): its panels, and any legend below all of them."""
    if path.suffix == ".svg":
        return panels_of_svg(path.read_text(encoding="utf-8"))
    pixels = imread(path)
    ink = (pixels[..., :3] < 0.99).any(axis=-1)
    if pixels.shape[-1] == 4:
        ink &= pixels[..., 3] > 0
    height, width = ink.shape
    top = legend_top(ink)
    lefts = panel_columns(ink[:top])
    pieces = [(left, 0, right - left, top) for left, right in zip(lefts, [*lefts[1:], width])]
    if top < height:
        spans = runs(ink[top:].any(axis=0))
        pieces.append((spans[0][0], top, spans[-1][1] - spans[0][0], height - top))
    return (width, height), pieces


def panels_of_svg(text):
    """Return the same for an SVG by matplotlib, in its own units."""
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())
    corners = r'<g id="axes_\d+">\s*<g id="patch_\d+">\s*<path d="M ([\d.]+) [\d.]+\s*L ([\d.]+)'
    spans = sorted({tuple(map(float, found)) for found in re.findall(corners, text)})
    lefts = [0.0] + [right + min(8, (left - right) / 3) for (_, right), (left, _) in zip(spans, spans[1:])]
    _, found, legend = text.partition('\n  <g id="legend_1">')  # of the figure, not of a panel
    top = min(map(float, re.findall(r'd="M [\d.]+ ([\d.]+)', legend))) - 12 if found else height
    pieces = [(left, 0, right - left, top) for left, right in zip(lefts, [*lefts[1:], width])]
    return (width, height), pieces + [(0, top, width, height - top)] * bool(found)


def legend_top(ink):
    """Return where a legend centred below all panels begins; without one, the height."""
    height, width = ink.shape
    lines = numpy.convolve(ink.any(axis=1), numpy.ones(9), "same") > 0  # an underscore belongs to its line
    first = runs(lines)[-1][0]
    spans = runs(ink[first:].any(axis=0))
    together = all(right[0] - left[1] < width / 15 for left, right in zip(spans, spans[1:]))
    wide = spans[-1][1] - spans[0][0] > width / 4
    centred = spans[0][0] > width / 10 and spans[-1][1] < 0.9 * width
    return first if together and wide and centred and first > 0.8 * height else height


def panel_columns(ink):
    """Return where each panel begins. A panel ends with its axes: a wide run of columns with ink."""
    spans = runs(ink.any(axis=0))
    wide = [i for i, (left, right) in enumerate(spans) if right - left > ink.shape[1] / 12]
    return [0] + [(spans[i][1] + spans[i + 1][0]) // 2 for i in wide[:-1]]


def runs(mask):
    """Return (first, end) of each run of True."""
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def stacked(source, alt, size, pieces):
    """Return the pieces as HTML: views of one picture."""
    scale = min(1, 900 / size[0])  # a picture of high resolution is shown smaller
    found = []
    for number, (left, top, across, down) in enumerate(pieces, 1):
        label = html.escape(f"{alt} (part {number} of {len(pieces)})", quote=True)
        found.append(
            f'<svg role="img" aria-label="{label}" viewBox="{left} {top} {across} {down}" '
            f'style="width:{across * scale:.0f}px;max-width:100%">'
            f'<image href="{source}" width="{size[0]}" height="{size[1]}"/></svg>'
        )
    return f'<div class="panels">{"".join(found)}</div>'
