"""The folder of the grades: nbgrader's course, the results, the feedback and the table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Mapping, Optional, Sequence

import nbformat
from nbformat import NotebookNode

from ...errors import InputError
from ...system.store import store
from .. import assignment, configuration
from ..assignment import NAME

OUT = assignment.TOP / "runs" / "grades"  # the default folder of grades
FIRST = ["student", "file", "status", "score", "max_score", "answers_to_grade_by_hand"]
LAST = ["localized", "seconds", "feedback", "notes", "reason"]
UNCONFINED = "graded with --unconfined: it could read and change files and reach the network"


@dataclass(frozen=True)
class RecordTask:
    """A submission for nbgrader to record, see `record`.

    course: nbgrader's folder; student: the student's folder there; anew: whether to count the points of the run.
    """

    course: str
    course_id: str
    student: str
    name: str
    page: str
    anew: bool


@dataclass(frozen=True)
class Points:
    """The points of each graded cell, or "" while it waits for manual grading; their sum; how many wait."""

    points: Mapping[str, str] = field(default_factory=dict)
    score: str = ""
    waiting: int = 0


@dataclass(frozen=True)
class Result:
    """The outcome of one submission. reason: why there are no points, or ""; localized: the first wrong quantities."""

    student: str
    safe: str
    file: str
    digest: str
    reason: str
    notes: Sequence[str]
    seconds: float
    unconfined: bool
    points: Mapping[str, str] = field(default_factory=dict)
    score: str = ""
    waiting: int = 0
    localized: Sequence[str] = ()


class Course:
    """The folder of the grades.

    folder: nbgrader's; results: a file for each submission; working: temporary files of a run.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.table = out, out / "grades.csv"
        self.folder, self.results, self.working = out / "course", out / "results", out / "working"

    def begin(self, submissions: Path, release: Optional[Path] = None) -> None:
        """Copy the release into a new folder, or continue in a folder of the same submissions.

        release: the folder that `make assignment` wrote, by default build/assignment; if it does not exist, the
        assignment is released again.

        Raises: InputError if the folder holds something else, or grades of another release.
        """
        handed_out = release or assignment.OUT
        begun, said = self.out / "grading.json", {"submissions": str(submissions.resolve())}
        shutil.rmtree(self.working, ignore_errors=True)  # left by a killed run
        if begun.exists():
            was = json.loads(begun.read_text(encoding="utf-8"))
            if was != said and any(self.results.glob("*.json")):
                raise InputError(
                    f"must be a new folder, or that of these submissions, got {self.out}, which has "
                    f"the grades of {was.get('submissions')}; name another",
                    "--out",
                )
            if release and _released(release / "course") != self.released():
                raise InputError(
                    f"must be the release that is graded in {self.out}, got another, {release}; choose a new --out",
                    "--release",
                )
            store(json.dumps(said).encode(), begun)  # no grades were recorded for the previous submissions
            return
        others = sorted(path.name for path in self.out.iterdir() if path.name != self.folder.name)
        if others:
            raise InputError(
                f"must be a new or empty folder, got {self.out}, which holds {others[0]}; name another", "--out"
            )
        new = self.working / "new" / "course"
        if (handed_out / "course").is_dir():
            shutil.copytree(handed_out / "course", new)
        else:
            assignment.release(new.parent)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(new, self.folder)
        store(json.dumps(said).encode(), begun)

    def solution(self) -> NotebookNode:
        """Return the assignment with its solutions and tests, as it was when this grading started."""
        return _released(self.folder, "source")

    def released(self) -> NotebookNode:
        """Return the assignment that the students received."""
        return _released(self.folder)

    @property
    def course_id(self) -> str:
        return configuration.read(self.folder / assignment.SETTINGS).course

    def most(self) -> Dict[str, float]:
        """Return the maximum points of each graded cell, in order."""
        marks = [cell.metadata.get("nbgrader", {}) for cell in self.solution().cells]
        return {mark["grade_id"]: mark["points"] for mark in marks if mark.get("grade")}

    def known(self) -> Dict[str, Result]:
        """Return {student: Result} for all stored results. Raises: InputError if one is damaged."""
        found = {}
        for path in sorted(self.results.glob("*.json")):
            try:
                result = Result(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:  # not JSON, or with other fields
                raise InputError(
                    f"{path} is damaged ({error}); remove it, and grade again with the same command"
                ) from None
            found[result.student] = result
        return found

    def keep(self, result: Result) -> None:
        """Store a result in the folder of results."""
        content = json.dumps(dataclasses.asdict(result), ensure_ascii=False, indent=1)
        store(content.encode(), self.results / f"{result.safe}.json")

    def write_table(self, most: Mapping[str, float], known: Mapping[str, Result], students: Iterable[str] = ()) -> None:
        """Write the table: a line for each result, and for each student without one. most: see `most`."""
        results = known.values()
        unconfined = [UNCONFINED] if any(result.unconfined for result in results) else []
        rows = [{"student": _cell(student), "status": "not graded yet"} for student in students if student not in known]
        for result in results:
            row = {
                "student": _cell(result.student),
                "file": _cell(result.file),
                "seconds": f"{result.seconds:.1f}",
                "status": "reported" if result.reason else "graded",
                "max_score": f"{sum(most.values()):g}",
                "feedback": f"feedback/{result.safe}.html",
                "localized": "; ".join(result.localized),
                "notes": "; ".join(result.notes),
                "reason": result.reason,
            }
            if not result.reason:
                row.update(result.points, score=result.score, answers_to_grade_by_hand=str(result.waiting))
            if unconfined:
                row[UNCONFINED] = "yes" if result.unconfined else "no"
            rows.append(row)
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, [*FIRST, *most, *LAST, *unconfined])
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: row["student"]))
        store(text.getvalue().encode("utf-8"), self.table)


def _released(course: Path, kind: str = "release") -> NotebookNode:
    return nbformat.read(str(course / kind / NAME / f"{NAME}.ipynb"), as_version=4)


def _cell(text: str) -> str:
    """Return a name as a field that no spreadsheet interprets as a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@") else text
