"""Reads what a student handed in, and builds the notebook to grade.

The graded notebook is the released one with its hidden tests. From the hand-in it takes the source of each answer,
found by grade id, and the student's own cells. Metadata, tags, outputs and the order of cells have no effect.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from ...errors import InputError

LONGEST = 2**20  # characters per cell, far more than anybody writes
NEW = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}
MISSING = "# this cell was not handed in"
ELSEWHERE = "\n\n*(The answer may be in the cells next to this one.)*"


@dataclass(frozen=True)
class Cell:
    """A cell of a hand-in. kind: code, markdown or raw; grade_id, id: "" if it has none."""

    kind: str
    source: str
    grade_id: str = ""
    id: str = ""


@dataclass
class Graded:
    """The notebook to run, and what the teacher should know about it."""

    notebook: NotebookNode
    notes: List[str]


@dataclass
class _Place:
    """A cell of the released notebook, and what the hand-in has for it."""

    cell: NotebookNode
    stub: str
    copies: List[Cell] = field(default_factory=list)
    before: List[Cell] = field(default_factory=list)
    after: List[Cell] = field(default_factory=list)


def read_cells(content: bytes) -> List[Cell]:
    """Return the cells of a notebook, whatever program and nbformat version wrote it.

    Raises: InputError with the reason if the content is not a notebook.
    """
    try:
        notebook = json.loads(_text(content))
    except RecursionError:
        raise InputError("not a notebook: its JSON is nested too deeply") from None
    except ValueError as error:  # from json or the decoder: the content can be anything
        raise InputError(f"not a notebook: {f'not JSON ({error})' if content.strip() else 'empty'}") from None
    sheets = [notebook] if isinstance(notebook, dict) else []
    if sheets and isinstance(notebook.get("worksheets"), list):  # nbformat 2 and 3
        sheets = notebook["worksheets"]
    lists = [sheet["cells"] for sheet in sheets if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)]
    if not lists:
        raise InputError("not a notebook: JSON without a list of cells")
    return [_cell(cell) for cells in lists for cell in cells if isinstance(cell, dict)]


def build(cells: Sequence[Cell], solution: NotebookNode, released: NotebookNode) -> Graded:
    """Build the notebook that grades a hand-in.

    solution: the assignment with its hidden tests; released: the assignment that students received.
    """
    stubs = {label: cell.source for cell in released.cells if (label := label_of(cell))}
    places = [_Place(cell, stubs[label]) for cell in solution.cells if (label := label_of(cell)) in stubs]
    known = {label_of(place.cell): place for place in places}
    # In our release, each cell's id is its grade id, which survives in programs that drop the metadata.
    lost = known.keys() - {cell.grade_id for cell in cells}
    here: Optional[_Place] = None
    first: List[Cell] = []
    for cell in cells:
        place = known.get(cell.id if cell.id in lost and cell.grade_id not in known else cell.grade_id)
        if place is None:
            (here.after if here else first).append(cell)
        elif place.cell.metadata.nbgrader.solution:
            here = here if place.copies else place
            place.copies.append(cell)
        else:  # a test or the set-up: ours runs, and a changed one becomes one of the student's own cells
            here = place
            if not _same(cell.source, place.stub):
                (place.before if place.cell.metadata.nbgrader.grade else place.after).append(cell)
    given = {_plain(cell.source) for cell in released.cells}
    built: List[NotebookNode] = [_new_cell(cell) for cell in first]
    notes: List[str] = []
    for number, place in enumerate(places):
        around = place.after + [cell for cell in places[number - 1].after if number and cell.kind != "code"]
        written = any(cell.source.strip() and _plain(cell.source) not in given for cell in around)
        built += [*map(_new_cell, place.before), *_answer(place, written, notes), *map(_new_cell, place.after)]
    notebook = nbformat.v4.new_notebook(cells=built, metadata=copy.deepcopy(solution.metadata))
    for number, made in enumerate(built):
        made.id = label_of(made) or f"own-{number}"
    if any(len(cell.source) == LONGEST for cell in cells):
        notes.append(f"a cell of more than {LONGEST >> 20} MB was cut")
    return Graded(notebook, notes)


def of_this_assignment(cells: Sequence[Cell], released: NotebookNode) -> bool:
    """Return whether any of the cells belongs to the released notebook."""
    known = {label_of(cell) for cell in released.cells} - {""}
    return any(cell.grade_id in known or cell.id in known for cell in cells)


def label_of(cell: NotebookNode) -> str:
    """Return the grade id of one of our cells, or ""."""
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def without_surrogates(text: str) -> str:
    """Return the text with lone surrogates replaced, because UTF-8 cannot encode them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _answer(place: _Place, written_nearby: bool, notes: List[str]) -> List[NotebookNode]:
    """Return the cells that replace a released cell."""
    graded, label = copy.deepcopy(place.cell), label_of(place.cell)
    if not graded.metadata.nbgrader.solution:
        return [graded]
    if not place.copies:
        notes.append(f"the cell {label} is missing")
    answers: List[Cell] = []
    for cell in place.copies:
        written = cell.source.strip() and not _same(cell.source, place.stub)
        if written and not any(cell.source == answer.source for answer in answers):
            answers.append(cell)
    if len(answers) > 1:
        notes.append(f"{len(answers)} cells have the grade id {label}; all of them ran, in order")
    graded.source = answers[-1].source if answers else place.stub
    if graded.cell_type == "code" and not place.copies:  # the stub would override an answer in another cell
        graded.source = MISSING
    if any("](attachment:" in answer.source for answer in answers):
        notes.append(f"{label} holds a picture, which only the original file shows")
    if graded.cell_type == "markdown" and not answers and written_nearby:
        graded.source += ELSEWHERE  # changes it, so that it counts as an answer to read
        notes.append(f"{label} is empty, but the student wrote a cell next to it")
    return [*(_new_cell(Cell(graded.cell_type, cell.source)) for cell in answers[:-1]), graded]


def _cell(cell: Dict[str, Any]) -> Cell:
    kind, source = cell.get("cell_type"), cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    source = without_surrogates(source if isinstance(source, str) else "")[:LONGEST]
    if kind == "heading":  # from nbformat 3
        kind, source = "markdown", f"# {source}"
    metadata = cell.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    names = [
        name if isinstance(name, str) else ""
        for name in (marks.get("grade_id") if isinstance(marks, dict) else "", cell.get("id"))
    ]
    return Cell(kind if isinstance(kind, str) and kind in NEW else "raw", source, *names)


def _new_cell(cell: Cell) -> NotebookNode:
    return NEW[cell.kind](cell.source)


def _text(content: bytes) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:  # saved by a text editor
        return content.decode("cp1252", "replace")


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(source: str) -> str:
    return re.sub(r"\s+", " ", source).strip()
