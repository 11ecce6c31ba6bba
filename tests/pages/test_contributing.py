"""`make lint` enforces what docs/contributing.md says about the rooms."""

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[2]


def test_the_picture_of_the_rooms_is_the_order_of_imports():
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    rooms = re.findall(
        'y="([0-9]+)"><tspan class="room" font-weight="bold">([a-z]+)',
        (TOP / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8"),
    )
    rows = {}
    for y, name in rooms:
        rows.setdefault(int(y), set()).add(name)
    assert [rows[y] for y in sorted(rows)] == [set(layer.split(" | ")) for layer in contracts[0]["layers"]]


def test_at_most_six_modules_stand_beside_the_rooms():
    flat = {path.stem for path in (TOP / "gluon_bn").glob("*.py")} - {"__init__", "__main__"}
    assert len(flat) <= 6, flat
