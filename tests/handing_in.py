"""Makes hand-ins for the tests: an assignment, a smaller one where possible, and what students do to it."""

from __future__ import annotations

import csv
import re

import nbformat

from gluon_bn.classroom import assignment
from gluon_bn.classroom.example import edit, named, solve  # noqa: F401

SMALL = ("setup", "dense", "convolution", "bias-answer")  # exercises 1 and 2, and an answer to be read


def small_source(path):
    """Write the source of an assignment with two exercises (3 points each) and a written answer (3 points)."""
    text = assignment.SOURCE.read_text(encoding="utf-8")
    cells = re.split(r"(?m)^(?=# %%)", text)
    kept = [cell for cell in cells[1:] if re.search(rf'"grade_id": "({"|".join(SMALL)})(-test)?"', cell)]
    path.write_text(cells[0] + "# %% [markdown]\n# # Two exercises\n\n" + "".join(kept), encoding="utf-8")
    settings = assignment.SOURCE.with_name(assignment.SETTINGS).read_text(encoding="utf-8")
    path.with_name(assignment.SETTINGS).write_text(
        settings.split("[points]")[0]
        + "[points]\n"
        + "".join(re.findall(rf"(?m)^(?:{'|'.join(SMALL)})(?:-test)? = \d+\n", settings)),
        encoding="utf-8",
    )
    return path


def label(cell):
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def save(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, str(path))
    return path


def table_of(out):
    """{student: row} of the table of grades."""
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}
