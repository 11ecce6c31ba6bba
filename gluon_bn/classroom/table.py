"""The table of grades, and what it is made from: a file for each submission, written whole or not at all."""
from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from ..errors import InputError
from ..system.store import store

FIRST = ["student", "file", "status", "score", "max_score", "answers_to_grade_by_hand"]
LAST = ["seconds", "feedback", "notes", "reason"]
UNCONFINED = "graded with --unconfined: it could read and change files and reach the network"


@dataclasses.dataclass(frozen=True)
class Result:
    """What one submission came to. reason: why there are no points, "" if there are."""
    student: str
    safe: str
    file: str
    digest: str
    reason: str
    notes: Sequence[str]
    seconds: float
    unconfined: bool
    points: Mapping[str, str] = dataclasses.field(default_factory=dict)
    score: str = ""
    waiting: int = 0

    def keep(self, folder: Path) -> None:
        """Write it into a folder of results."""
        store(json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1).encode(), folder / f"{self.safe}.json")


def results_in(folder: Path) -> Dict[str, Result]:
    """{student: Result} of a folder of results. Raises: InputError if one is damaged."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = Result(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:  # not JSON, or with other fields
            raise InputError(f"{path} is damaged ({error}); remove it, and grade again with the same command") from None
        found[result.student] = result
    return found


def write(path: Path, results: Sequence[Result], most: Mapping[str, float], waiting: Sequence[str]) -> None:
    """Write the table: a line for each result, and for each student who waits for a grade.

    most: the points of each graded cell, in the order of the columns.
    """
    unconfined = [UNCONFINED] if any(result.unconfined for result in results) else []
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, FIRST + list(most) + LAST + unconfined)
    table.writeheader()
    rows: List[Dict[str, object]] = [{"student": _cell(student), "status": "not graded yet"} for student in waiting]
    for result in results:
        row = {"student": _cell(result.student), "file": _cell(result.file), "seconds": f"{result.seconds:.1f}",
               "status": "reported" if result.reason else "graded", "max_score": f"{sum(most.values()):g}",
               "feedback": f"feedback/{result.safe}.html", "notes": "; ".join(result.notes), "reason": result.reason}
        if not result.reason:
            row.update(result.points, score=result.score, answers_to_grade_by_hand=str(result.waiting))
        if unconfined:
            row[UNCONFINED] = "yes" if result.unconfined else "no"
        rows.append(dict(row))
    for line in sorted(rows, key=lambda line: str(line["student"])):
        table.writerow(line)
    store(text.getvalue().encode("utf-8"), path)


def _cell(text: str) -> str:
    """A name as a field that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in tuple("=+-@") else text


