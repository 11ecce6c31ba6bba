"""The folder of the grades: nbgrader's course, the results, the feedback and the table."""
from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Dict

import nbformat
from nbformat import NotebookNode

from ..errors import InputError
from ..system.store import store
from . import assignment
from .assignment import NAME


@dataclass(frozen=True)
class Course:
    """The folder of the grades.

    folder: nbgrader's; results: a file for each submission; working: what a run needs only while it lasts.
    """
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / "course"

    @property
    def results(self) -> Path:
        return self.out / "results"

    @property
    def working(self) -> Path:
        return self.out / "working"

    def begin(self, submissions: Path) -> None:
        """Release the assignment into a new folder; go on in one of the same submissions.

        Raises: InputError if the folder holds something else.
        """
        begun, said = self.out / "grading.json", {"submissions": str(submissions.resolve())}
        shutil.rmtree(self.working, ignore_errors=True)  # of a run that was killed
        if begun.exists():
            was = json.loads(begun.read_text(encoding="utf-8"))
            if was != said and any(self.results.glob("*.json")):
                raise InputError(f"must be a new folder, or the one of these submissions, got {self.out}, which has "
                                 f"the grades of {was.get('submissions')}; name another", "--out")
            store(json.dumps(said).encode(), begun)  # nobody was graded for the folder that was named first
            return
        others = sorted(path.name for path in self.out.iterdir() if path.name != self.folder.name)
        if others:
            raise InputError(f"must be a new or empty folder, got {self.out}, which holds {others[0]}; name another",
                             "--out")
        assignment.release(self.working / "new")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.working / "new" / "course", self.folder)
        store(json.dumps(said).encode(), begun)

    def solution(self) -> NotebookNode:
        """The assignment with its solutions and tests, as it was when these grades were begun."""
        return self._notebook("source")

    def released(self) -> NotebookNode:
        """What the students got."""
        return self._notebook("release")

    def most(self) -> Dict[str, float]:
        """The points of each graded cell, in their order."""
        marks = [cell.metadata.get("nbgrader", {}) for cell in self.solution().cells]
        return {mark["grade_id"]: mark["points"] for mark in marks if mark.get("grade")}

    def _notebook(self, kind: str) -> NotebookNode:
        return nbformat.read(str(self.folder / kind / NAME / f"{NAME}.ipynb"), as_version=4)
