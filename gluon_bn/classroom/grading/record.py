"""Records one submission that has run, with nbgrader:  python -m gluon_bn.classroom.grading.record

It is a process of its own; see `gluon_bn.system.processes` for how it gets its task. If nbgrader crashes, other
submissions keep their grades; if the page takes too long, the points still count.
"""

from __future__ import annotations

import os
import resource
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict

from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from ...system.processes import serve_task
from ...system.store import store
from .. import assignment
from ..assignment import NAME
from .course import Points, RecordTask
from .feedback import offline

CPU_SECONDS, MEMORY = 180, 2**33  # limits per submission


def record(content: Dict[str, Any], send: Callable[[Dict[str, Any]], None]) -> None:
    """Count a submission's points, send its `Points`, then write its feedback."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    task = RecordTask(**content)
    os.environ["PATH"] = assignment.environment()["PATH"]  # nbgrader calls alembic by name
    os.chdir(task.course)
    api = NbGraderAPI(coursedir=CourseDirectory(root=task.course, course_id=task.course_id))
    api.config.Execute.enabled = api.config.ClearOutput.enabled = False  # it has run already: keep its outputs
    if task.anew:
        _call(api.autograde, task)
    send(asdict(_points(task)))
    _call(api.generate_feedback, task)
    page = Path(task.course) / "feedback" / task.student / NAME / f"{NAME}.html"
    store(offline(page.read_text(encoding="utf-8"), task.name).encode(), Path(task.page))


def _call(step: Callable[[str, str], Dict[str, Any]], task: RecordTask) -> None:
    """Run a step of nbgrader for a student. Raises: SystemExit if it fails, after writing a log."""
    result = step(NAME, task.student)
    if not result["success"]:
        said = "\n".join(filter(None, (result.get("log"), result.get("error"))))
        log = Path(task.course) / f"{task.student}.log"
        store(said.encode("utf-8", "replace"), log)
        raise SystemExit(f"nbgrader failed on {task.name}: see {log}")


def _points(task: RecordTask) -> Points:
    with Gradebook(f"sqlite:///{task.course}/gradebook.db", task.course_id) as gradebook:
        grades = gradebook.find_submission_notebook(NAME, NAME, task.student).grades
        waiting = {grade.name for grade in grades if grade.needs_manual_grade}
        return Points(
            {grade.name: "" if grade.name in waiting else f"{grade.score:g}" for grade in grades},
            f"{sum(grade.score or 0 for grade in grades):g}",
            len(waiting),
        )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="nbgrader")  # about its use of SQLAlchemy
    serve_task(record)
