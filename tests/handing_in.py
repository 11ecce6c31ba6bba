"""Makes hand-ins for the tests: an assignment, a smaller one where possible, and what students do to it."""

from __future__ import annotations

import copy
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


# What may happen to a notebook; each function takes it and a source of random choices.


def tag(notebook, chance):
    for cell in notebook.cells:
        cell.metadata["tags"] = chance.sample(["skip-execution", "raises-exception", "remove-cell"], 2)


def unlock(notebook, chance):
    for cell in notebook.cells:
        for mark in [cell.metadata.get("nbgrader", {})] * bool(label(cell)):
            mark.update(grade=not mark["grade"], locked=not mark["locked"], solution=False, points=1000)
            mark["schema_version"] = chance.choice([1, 2, 3, "x"])


def retype(notebook, chance):
    for cell in notebook.cells:
        cell.cell_type = chance.choice(["code", "markdown", "raw"])


def shuffle(notebook, chance):
    chance.shuffle(notebook.cells)


def paste_a_copy(notebook, chance):
    for _ in range(3):
        notebook.cells.insert(chance.randrange(len(notebook.cells)), copy.deepcopy(chance.choice(notebook.cells)))


def spoil_the_outputs(notebook, chance):
    stream = {"output_type": "stream", "text": "cut \ud83d"}
    spoiled = [
        None,
        5,
        {},
        [{}],
        [stream],
        [{**stream, "name": "stdout"}],
        [{"output_type": "execute_result"}],
        "x" * 10**6,
    ]
    for cell in notebook.cells:
        cell["outputs"] = chance.choice(spoiled)


DAMAGES = [tag, unlock, retype, shuffle, paste_a_copy, spoil_the_outputs]
