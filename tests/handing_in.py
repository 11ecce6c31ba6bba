"""Makes hand-ins for the tests: an assignment, a smaller one where possible, and what students do to it."""

from __future__ import annotations

import copy
import csv
import re

import nbformat

from gluon_bn.classroom import assignment

SMALL = ("setup", "dense", "convolution", "bias-answer")  # exercises 1 and 2, and an answer to be read


def small_source(path):
    """Write the source of an assignment with two exercises (3 points each) and a written answer (3 points)."""
    text = assignment.SOURCE.read_text(encoding="utf-8")
    cells = re.split(r"(?m)^(?=# %%)", text)
    kept = [cell for cell in cells[1:] if re.search(rf'"grade_id": "({"|".join(SMALL)})(-test)?"', cell)]
    path.write_text(cells[0] + "# %% [markdown]\n# # Two exercises\n\n" + "".join(kept), encoding="utf-8")
    return path


def label(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def solve(released, solution, only=None):
    """What a student hands in who has solved all exercises, or only some."""
    answers = {label(cell): cell.source for cell in solution.cells if cell.metadata.get("nbgrader", {}).get("solution")}
    notebook = copy.deepcopy(released)
    for cell in notebook.cells:
        if label(cell) in answers and (only is None or label(cell) in only):
            cell.source = re.sub(r".*### (BEGIN|END) .*\n", "", answers[label(cell)])
    return notebook


def named(notebook, grade_id):
    """The index of a cell, and the cell."""
    return next((i, cell) for i, cell in enumerate(notebook.cells) if label(cell) == grade_id)


def edit(notebook, grade_id, old, new):
    """Another notebook, in which a cell has `new` in place of `old`."""
    notebook = copy.deepcopy(notebook)
    _, cell = named(notebook, grade_id)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    return notebook


def save(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, str(path))
    return path


def table_of(out):
    """{student: row} of the table of grades."""
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}
