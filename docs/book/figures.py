"""Find the panels of a figure, in its pixels or its SVG, to stack them on pages that are too narrow for a row."""

from __future__ import annotations

import html
import re

import numpy
from matplotlib.image import imread


def panels_of(path):
    """Return a figure's size and pieces: its panels, and the entries of a legend below all of them.

    A piece is a list of boxes (left, top, width, height) to show side by side: a panel that shares its vertical axis
    gets the labels of the first.
    """
    if path.suffix == ".svg":
        return panels_of_svg(path.read_text(encoding="utf-8"))
    pixels = imread(path)
    ink = (pixels[..., :3] < 0.99).any(axis=-1)
    if pixels.shape[-1] == 4:
        ink &= pixels[..., 3] > 0
    height, width = ink.shape
    bottom, spans = frames(ink & (pixels[..., :3] < 0.5).all(axis=-1)) or pictures(ink)
    columns = divided(spans, numpy.flatnonzero(ink[:bottom].any(axis=0)), width)
    top = legend_top(ink, columns)
    pieces = [[(left, 0, right - left, top)] for left, right in columns]
    labels = [ink[:bottom, left : frame - width // 100].any() for (left, _), (frame, _) in zip(columns, spans)]
    for piece, labelled in zip(pieces, labels):
        if labels[0] and not labelled:
            piece.insert(0, (0, 0, spans[0][0] - 1, min(top, bottom + width // 150)))
    return (width, height), pieces + [[(left, top, right - left, height - top)] for left, right in words(ink[top:])]


def panels_of_svg(text):
    """Return the same for an SVG by matplotlib, in its own units."""
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())
    corners = r'<g id="axes_\d+">\s*<g id="patch_\d+">\s*<path d="M ([\d.]+) [\d.]+\s*L ([\d.]+)'
    spans = sorted({tuple(map(float, found)) for found in re.findall(corners, text)})
    # where a word begins, or its right edge if it is rotated; newer matplotlib also moves each letter, without a scale
    begin = r"translate\(([\d.]+) ([\d.]+)\)( rotate\(\S+\))? scale"
    words = [(float(x) - 10 * bool(turned), float(y)) for x, y, turned in re.findall(begin, text)]
    *_, legend = text.partition('\n  <g id="legend_1">')  # of the figure, not of a panel
    entries = [(float(x) - 30, float(y) - 12) for x, y, _ in re.findall(begin, legend)]
    top = min([y for _, y in entries], default=height)
    pieces = [[(left, 0, right - left, top)] for left, right in divided(spans, [x for x, _ in words], width)]
    ends = [x - 14 for x, _ in entries[1:]] + [width - x for x, _ in entries[:1]]  # the legend is centred
    return (width, height), pieces + [[(x, top, end - x, height - top)] for (x, _), end in zip(entries, ends)]


def divided(spans, ink, width):
    """Return where each panel begins and ends, with its labels. spans: the frames. ink: the columns with any."""
    cuts = []
    for (_, right), (left, _) in zip(spans, spans[1:]):
        first = min([x for x in ink if right + width / 200 < x < left - width / 100], default=left)
        cuts.append((right + first) // 2)
    return list(zip([0, *cuts], [*cuts, width]))


def frames(dark):
    """Return the lowest row of the panels' frames, which are long dark runs, and where each begins and ends in it."""
    count, (height, width) = dark.sum(axis=1), dark.shape
    top, *_, bottom = numpy.flatnonzero(count >= 0.9 * count.max()).tolist() * 2
    found = [(left, right) for left, right in runs(dark[bottom]) if right - left > width / 12]
    return (bottom, found) if found and bottom - top > height / 4 else None


def pictures(ink):
    """Return the same for panels without frames: wide runs of columns with ink."""
    return len(ink), [(left, right) for left, right in runs(ink.any(axis=0)) if right - left > ink.shape[1] / 24]


def legend_top(ink, columns):
    """Return where a legend below all panels begins: the last line, unless it labels each panel. Else the height."""
    lines = numpy.convolve(ink.any(axis=1), numpy.ones(9), "same") > 0  # an underscore belongs to its line
    first = runs(lines)[-1][0]
    last = ink[first:].any(axis=0)
    labels = all(last[left:right].any() for left, right in columns) and not any(last[left] for left, _ in columns[1:])
    return len(ink) if labels or first < 0.8 * len(ink) else first


def words(ink):
    """Return where each entry of a legend begins and ends."""
    return runs(numpy.convolve(ink.any(axis=0), numpy.ones(ink.shape[1] // 50), "same") > 0) if len(ink) else []


def runs(mask):
    """Return (first, end) of each run of True."""
    edges = numpy.flatnonzero(numpy.diff(numpy.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def stacked(source, alt, size, pieces):
    """Return the pieces as HTML: views of one picture."""
    scale = min(1, 900 / size[0])  # a picture of high resolution is shown smaller
    found = []
    for number, boxes in enumerate(pieces, 1):
        label = html.escape(f"{alt} (part {number} of {len(pieces)})", quote=True)
        views, across = "", 0
        for left, top, width, down in boxes:
            views += (
                f'<svg x="{across}" width="{width}" height="{down}" viewBox="{left} {top} {width} {down}">'
                f'<image href="{source}" width="{size[0]}" height="{size[1]}"/></svg>'
            )
            across += width
        found.append(
            f'<svg role="img" aria-label="{label}" viewBox="0 0 {across} {down}" '
            f'style="width:{across * scale:.0f}px;max-width:100%">{views}</svg>'
        )
    return f'<div class="panels">{"".join(found)}</div>'
