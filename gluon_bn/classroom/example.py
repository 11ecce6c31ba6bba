"""Make and grade a class of five hand-ins:  python -m gluon_bn.classroom.example [--out FOLDER]

FOLDER (default runs/grade-example) gets the release, the hand-ins, their grades and a summary. Each run replaces it.
`solve` and `edit` write hand-ins; the tests use them, too.
"""

from __future__ import annotations

import argparse
import copy
import re
import shutil
from pathlib import Path
from typing import Optional, Sequence, Tuple

import nbformat
from nbformat import NotebookNode

from ..errors import InputError
from . import assignment, grade, summary
from .grading.hand_in import label_of

OUT = assignment.TOP / "runs" / "grade-example"
MATHS = ("dense", "convolution", "modes", "averages", "layer", "backward")


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="(default runs/grade-example)")
    parser.add_argument("--unconfined", action="store_true", help="run them without bubblewrap, see `make grade`")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    if out.exists() and not (out / "release" / "course").is_dir() and (not out.is_dir() or any(out.iterdir())):
        parser.error(f"--out must be a new folder, or the folder of an earlier example, got {out}; name another")
    try:
        solution = assignment.solved()
    except InputError as error:
        parser.error(str(error))
    shutil.rmtree(out, ignore_errors=True)
    released = nbformat.read(str(assignment.release(out / "release")), as_version=4)
    hand_in(released, solution, out / "handed in")
    said = ["--unconfined"] * arguments.unconfined
    code = grade.main(
        [str(out / "handed in"), "--out", str(out / "grades"), "--release", str(out / "release"), "--jobs", "2", *said]
    )
    return code or summary.main(["--out", str(out / "grades")])


def hand_in(released: NotebookNode, solution: NotebookNode, folder: Path) -> None:
    """Write the hand-ins of five students: all right, two mistakes, half done, an endless loop, a wrong file."""
    folder.mkdir(parents=True)
    mistaken = solve(released, solution, (*MATHS, "bias", "bias-answer", "others", "fixed", "fixed-training"))
    endless = solve(released, solution, MATHS[:2])
    chosen = {label_of(cell) for cell in released.cells}  # course.toml may leave exercises out
    if "averages" in chosen:
        old, new = "momentum * moving_mean + (1 - momentum) *", "(1 - momentum) * moving_mean + momentum *"
        mistaken = edit(mistaken, "averages", old, new)
    if "fixed-training" in chosen:
        mistaken = edit(mistaken, "fixed-training", "for seed in seeds", "for seed in (0, 0, 0)")
    if "dense" in chosen:
        endless = edit(endless, "dense", "    mean =", "    while True:\n        pass\n    mean =")
    for name, notebook in (
        ("ada", solve(released, solution)),
        ("ben", mistaken),
        ("cem", solve(released, solution, MATHS[:4])),
        ("dana", endless),
    ):
        nbformat.write(notebook, str(folder / f"{name}.ipynb"))
    (folder / "eve.ipynb").write_bytes(b"%PDF-1.5")


def solve(released: NotebookNode, solution: NotebookNode, only: Optional[Sequence[str]] = None) -> NotebookNode:
    """Return the hand-in of a student who has solved all exercises, or those with these grade ids."""
    notebook = copy.deepcopy(released)
    for cell in notebook.cells:
        name = label_of(cell)
        if name and (only is None or name in only) and cell.metadata["nbgrader"]["solution"]:
            cell.source = re.sub(r".*### (BEGIN|END) .*\n", "", named(solution, name)[1].source)
    return notebook


def edit(notebook: NotebookNode, grade_id: str, old: str, new: str) -> NotebookNode:
    """Return a copy of the notebook in which `new` replaces `old` in a cell."""
    notebook = copy.deepcopy(notebook)
    _, cell = named(notebook, grade_id)
    assert old in cell.source, f"{grade_id} has no {old}"
    cell.source = cell.source.replace(old, new)
    return notebook


def named(notebook: NotebookNode, grade_id: str) -> Tuple[int, NotebookNode]:
    """Return the index of a cell, and the cell."""
    return next((i, cell) for i, cell in enumerate(notebook.cells) if label_of(cell) == grade_id)


if __name__ == "__main__":
    raise SystemExit(main())
