"""What was handed in: one notebook for each student, or the reason why there is none."""
from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Optional

import nbformat

from .assignment import NAME


class Submission(NamedTuple):
    student: str
    notebook: Optional[Path]
    reason: str = ""  # why it cannot be graded


def collect(folder):
    """The submissions of a folder, sorted by name; each with its one notebook, or the reason why it has none."""
    found = {}
    for path in sorted(folder.resolve().iterdir()):
        if path.name.startswith("."):
            continue
        # a name becomes a folder's name, a pattern of nbgrader's and a field of a table: only plain characters
        student = re.sub(r"[^\w.@-]", "_", path.stem if path.is_file() else path.name, flags=re.ASCII)
        student = re.sub(r"^[^A-Za-z0-9]+", "", student) or "unnamed"
        while student in found:
            student += "_again"
        found[student] = Submission(student, *notebook_of(path))
    if not found:
        raise SystemExit(f"{folder} holds no submission; put one NAME.ipynb or one folder NAME for each student there")
    return list(found.values())


def notebook_of(path):
    """(the notebook, "") or (None, why not) of a student's file or folder. Links are not followed."""
    if path.is_symlink():
        return None, "a link, not a file"
    if path.is_file():
        notebooks = [path] if path.suffix == ".ipynb" else []
    else:
        notebooks = [file for file in sorted(path.rglob("*.ipynb"))
                     if ".ipynb_checkpoints" not in file.parts and file.is_file() and not file.is_symlink()]
    named = [file for file in notebooks if file.name == f"{NAME}.ipynb"]
    if not notebooks:
        return None, "no notebook handed in"
    if len(named or notebooks) > 1:
        return None, f"{len(notebooks)} notebooks, and it is not clear which"
    notebook = (named or notebooks)[0]
    try:
        cells = nbformat.read(str(notebook), as_version=4).cells
    except Exception as error:  # any text may be in it
        return None, f"not a notebook: {type(error).__name__}"
    if not any(cell.get("metadata", {}).get("nbgrader") for cell in cells):
        return None, "a notebook, but not of this assignment: no cell of it is there"
    return notebook, ""
