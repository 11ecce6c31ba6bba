"""The settings of a course: course.toml, in the folder of the exercises' source."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

from nbformat import NotebookNode

from ..errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NEEDS = {3: (1, 2), 5: (4,), 7: (5,)}  # exercise: the exercises whose code its solution calls
WORKBENCH = {7, 9, 10, 11, 12, 13}  # the exercises that need the section "The workbench"
HEADING = re.compile(r"## (?:Exercise (\d+)|(The workbench))")


@dataclass(frozen=True)
class Configuration:
    """The settings of a course; course.toml explains them."""

    course: str
    exercises: Tuple[int, ...]
    seeds: Tuple[int, ...]
    learned: float
    points: Mapping[str, float]  # by the name of the graded cell


def read(path: Path) -> Configuration:
    """Read a course.toml. Raises: InputError for a mistake in it."""
    try:
        values: Dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _wrong(path, "", f"must be a readable file ({error.strerror or error})") from None
    except ValueError as error:  # from the decoder or the parser
        raise _wrong(path, "", f"must be TOML: {error}") from None
    names = {field.name for field in fields(Configuration)}
    for name in sorted(names ^ values.keys()):
        raise _wrong(
            path, name, "is missing" if name in names else f"is unknown; the names are {', '.join(sorted(names))}"
        )

    def whole(value: Any, least: int) -> bool:
        return type(value) is int and value >= least

    demands: Dict[str, Tuple[str, Callable[[Any], bool]]] = {
        "course": ("letters, digits, _ and -", lambda v: bool(isinstance(v, str) and re.fullmatch(r"[\w-]+", v, re.A))),
        "exercises": (
            "a list of whole numbers from 1, without duplicates",
            lambda v: _distinct(v) and all(whole(n, 1) for n in v),
        ),
        "seeds": (
            "a list of at least two whole numbers from 0 to 2**31 - 1, without duplicates",
            lambda v: _distinct(v) and len(v) > 1 and all(whole(n, 0) and n < 2**31 for n in v),
        ),
        "learned": ("a number between 0.1 and 1", lambda v: type(v) in (int, float) and 0.1 < v < 1),
        "points": (
            "a table of numbers of at least 0",
            lambda v: isinstance(v, dict) and all(type(n) in (int, float) and 0 <= n < 1000 for n in v.values()),
        ),
    }
    for name, (wanted, holds) in demands.items():
        if not holds(values[name]):
            raise _wrong(path, name, f"must be {wanted}, got {values[name]!r}")
    for exercise in values["exercises"]:
        lacking = [str(needed) for needed in NEEDS.get(exercise, ()) if needed not in values["exercises"]]
        if lacking:
            raise _wrong(path, "exercises", f"must include {' and '.join(lacking)}, which {exercise} needs")
    lists = {name: tuple(values[name]) for name in ("exercises", "seeds")}
    return Configuration(**{**values, **lists})


def apply(settings: Configuration, cells: List[NotebookNode], path: Path) -> List[NotebookNode]:
    """Return the cells of the chosen exercises, with points and settings filled in. path: of course.toml."""
    graded = [_mark(cell)["grade_id"] for cell in cells if _mark(cell).get("grade")]
    for name in sorted(settings.points.keys() ^ set(graded)):
        said = "is missing" if name in graded else f"is not a graded cell; these are {', '.join(graded)}"
        raise _wrong(path, f"points.{name}", said)
    sections: Dict[int, List[NotebookNode]] = {}
    number = 0  # of the exercise; 0 for cells outside all exercises, -1 for the workbench
    for cell in cells:
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            number = int(heading[1] or -1)
        sections.setdefault(number, []).append(cell)
    unknown = sorted(set(settings.exercises) - sections.keys())
    if unknown and len(sections) > 1:
        raise _wrong(path, "exercises", f"must be from 1 to {max(sections)}, got {unknown}")
    wanted = {0, *settings.exercises, *([-1] if WORKBENCH & set(settings.exercises) else [])}
    chosen = [cell for number, section in sections.items() if number in wanted for cell in section]
    for number, section in sections.items():
        points = {kind: 0.0 for kind in ("code", "markdown")}
        for cell in section:
            known = {"seeds": repr(settings.seeds), "learned": f"{settings.learned:g}"}
            if _mark(cell).get("grade"):
                value = settings.points[_mark(cell)["grade_id"]]
                cell.metadata["nbgrader"]["points"] = value
                points[cell.cell_type] += value
                known["points"] = _points(value)
            for name, text in known.items():
                cell.source = cell.source.replace("{{" + name + "}}", text)
        if number > 0:
            title, *rest = section[0].source.split("\n", 1)
            parts = [f"{value:g}" for value in points.values() if value]
            of = _points(sum(points.values())) if len(parts) < 2 else f"{' + '.join(parts)} points"
            section[0].source = "\n".join([f"{title} ({of})", *rest])
    return chosen


def _mark(cell: NotebookNode) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cell.metadata.get("nbgrader", {})
    return found


def _points(value: float) -> str:
    return f"{value:g} point{'s' * (value != 1)}"


def _distinct(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and len({str(value) for value in values}) == len(values)


def _wrong(path: Path, name: str, text: str) -> InputError:
    return InputError(text, f"{path.name}: {name}".rstrip(": "))
