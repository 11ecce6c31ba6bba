"""Grades one submission: builds its notebook, runs it, records it."""

from __future__ import annotations

import html
import shutil
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ...errors import InputError
from ...system.processes import Crashed, run_tasks
from ...system.store import DISK_FULL, store
from ..assignment import NAME, stamp_of
from .course import Course, Points, RecordTask, Result
from .hand_in import build
from .outputs import localized
from .sandbox import Limits, Stopped, run
from .submissions import Submission

PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{student}</title><h1>{student}</h1><p>{text}</p>\n"


@dataclass(frozen=True)
class Grader:
    """Grades submissions, several at a time. solution: the assignment with its tests; released: as handed out."""

    course: Course
    limits: Limits
    solution: NotebookNode
    released: NotebookNode
    stop: threading.Event = field(default_factory=threading.Event)
    recording_lock: threading.Lock = field(default_factory=threading.Lock)  # nbgrader's database allows one writer

    @property
    def stamp(self) -> str:
        """The release that this grader uses."""
        return stamp_of(cell.source for cell in self.released.cells)

    def grade(self, submission: Submission) -> Result:
        """Run and record a submission. Raises: Stopped if `stop` is set in the meantime."""
        notes, start = list(submission.notes), time.monotonic()
        points, found = Points(), []
        try:
            if submission.reason:
                raise InputError(submission.reason)
            theirs, ours = stamp_of(cell.source for cell in submission.cells), self.stamp
            if theirs not in ("", ours):
                raise InputError(
                    f"it belongs to release {theirs} of the assignment, but these grades to release {ours}; grade it "
                    f"with --release and the folder of release {theirs}, into another --out"
                )
            graded = build(submission.cells, self.solution, self.released)
            notes += graded.notes
            ran = run(graded.notebook, self.course.working, self.limits, self.stop)
            found = localized(ran)
            place = self.course.folder / "submitted" / submission.safe / NAME
            place.mkdir(parents=True, exist_ok=True)
            nbformat.write(ran, str(place / f"{NAME}.ipynb"))
            points, reason = self.record(submission.student, submission.safe, anew=True), ""
        except InputError as error:
            reason = str(error)
        except Stopped:
            raise
        except Exception as error:  # a bug of ours must not cost the other submissions their grades
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise
            log = self.course.folder / f"{submission.safe}.log"
            store(traceback.format_exc().encode("utf-8", "replace"), log)
            reason = f"the grader itself failed on it: {type(error).__name__}: {error} (traceback: {log})"
        if reason:
            remedy = "Fix this, choose Kernel, Restart and Run All, save, and hand it in again."
            self.write_page(submission.student, submission.safe, f"Not graded: {reason}. {remedy}")
        who = submission.student, submission.safe, submission.file, submission.digest
        seconds = time.monotonic() - start
        return Result(*who, reason, notes, seconds, self.limits.unconfined, **asdict(points), localized=found)

    def record(self, student: str, safe: str, anew: bool) -> Points:
        """Let nbgrader count the points of a notebook that has run, and write its feedback.

        anew: whether it was run again; otherwise only points given by hand have changed.

        Raises: InputError if nbgrader fails; Stopped if `stop` is set.
        """
        task = RecordTask(str(self.course.folder), self.course.course_id, safe, student, str(self.page(safe)), anew)
        with self.recording_lock:
            if self.stop.is_set():
                raise Stopped("stopped")
            if anew:  # remove what a killed process may have left half written
                for kind in ("autograded", "feedback"):
                    shutil.rmtree(self.course.folder / kind / safe, ignore_errors=True)
            said = [message for _, message in run_tasks("gluon_bn.classroom.grading.record", [asdict(task)], 1, {})]
        points = [Points(**message) for message in said if not isinstance(message, Crashed)]
        failed = [message.reason for message in said if isinstance(message, Crashed)]
        if not points:
            raise InputError(f"it ran, but nbgrader could not count its points: {failed[0]}")
        if failed:  # the points count all the same
            self.write_page(student, safe, f"Graded: {points[0].score} points. There is no feedback: {failed[0]}.")
        return points[0]

    def page(self, safe: str) -> Path:
        return self.course.out / "feedback" / f"{safe}.html"

    def write_page(self, student: str, safe: str, text: str) -> None:
        """Write the feedback for a submission without a page from nbgrader."""
        page = PAGE.format(student=html.escape(student), text=html.escape(text))
        store(page.encode("utf-8", "replace"), self.page(safe))
