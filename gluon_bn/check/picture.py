"""A picture of the way from X to Y, or to dX, with the first wrong quantity marked."""

from __future__ import annotations

import html
from typing import Dict, Tuple

# quantity: its column and row
FORWARD: Dict[str, Tuple[float, int]] = {
    'mode': (0, 0),
    'mean': (1, 0),
    'variance': (2, 0),
    'denominator': (3, 0),
    'X_hat': (4, 0),
    'scale and shift': (5, 0),
    'gradient': (6, 0),
    'moving mean': (1, 1),
    'moving variance': (2, 1),
}
BACKWARD: Dict[str, Tuple[float, int]] = {
    **{name: place for name, place in FORWARD.items() if name in ('mean', 'variance', 'denominator', 'X_hat')},
    'dbeta': (5, 0),
    'dgamma': (5, 1),
    'term through the mean': (6, 0),
    'term through the variance': (6, 1),
    'scale of dX': (7, 0),
    'dX': (8, 0),
}
INSTEAD = {'scaled X_hat': 'X_hat', 'count in dX': 'dX'}  # quantities without a box of their own
WIDTH, HEIGHT, STEP_X, STEP_Y = 104, 34, 122, 52


def picture(quantity: str, colour: str) -> str:
    """Return the chain as SVG, in the text's colour for any background; the wrong quantity is filled."""
    wrong = INSTEAD.get(quantity, quantity)
    links = FORWARD if wrong in FORWARD else BACKWARD
    first = min(column for column, _ in links.values())
    parts = []
    for name, (column, row) in links.items():
        x, y = (column - first) * STEP_X + 2, row * STEP_Y + 2
        before = [other for other, at in links.items() if at == (column - 1, row)]
        above = row == 1 and not before or name.startswith('moving')
        if above:
            parts.append(_line(x + WIDTH / 2, y - STEP_Y + HEIGHT, x + WIDTH / 2, y))
        elif before:
            parts.append(_line(x - STEP_X + WIDTH, y + HEIGHT / 2, x, y + HEIGHT / 2))
        fill = f'fill="{colour}"' if name == wrong else 'fill="none"'
        stroke = colour if name == wrong else 'currentColor'
        ink = 'white' if name == wrong else 'currentColor'
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" {fill} stroke="{stroke}"/>')
        lines = name.replace('the ', '').split(' through ')
        lines = [lines[0], f'through {lines[1]}'] if len(lines) > 1 else lines
        for i, line in enumerate(lines):
            height = y + HEIGHT / 2 + 4 + (i - (len(lines) - 1) / 2) * 13
            parts.append(
                f'<text x="{x + WIDTH / 2}" y="{height}" text-anchor="middle" fill="{ink}" stroke="none" '
                f'font-weight="{"bold" if name == wrong else "normal"}">{html.escape(line)}</text>'
            )
    columns, rows = zip(*links.values())
    width, height = (max(columns) - first) * STEP_X + WIDTH + 4, max(rows) * STEP_Y + HEIGHT + 4
    return (
        f'<svg role="img" aria-label="{html.escape(f"first wrong: {quantity}")}" viewBox="0 0 {width} {height}" '
        f'width="{width}" style="max-width:100%" font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor"/>'
