"""Grade a folder of submissions:  python -m gluon_bn.classroom.grade SUBMISSIONS [--out FOLDER]

SUBMISSIONS holds one NAME.ipynb, or one folder NAME with a notebook in it, for each student. nbgrader runs each one
with the hidden tests, in a process, a working folder, a home and a copy of the data of its own. Whatever one does to
these, the others are graded. What cannot be graded is reported.

FOLDER (default runs/grades) gets
- grades.csv: a line for each student: points for each graded cell, or the reason why there are none;
- feedback/NAME.html: the notebook with its points and what the tests said;
- course: nbgrader's folder, for grading the written answers by hand. Afterwards
  `python -m gluon_bn.classroom.grade --again [--out FOLDER]` writes the table and the feedback anew; nothing is run.
"""
from __future__ import annotations

import argparse
import csv
import html
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..data import DataUnavailable, find_files
from . import assignment, confined
from .assignment import NAME
from .feedback import offline
from .isolated import Outcome, run
from .submissions import collect

OUT = assignment.TOP / "runs" / "grades"
FIRST = ["student", "status", "score", "max_score", "answers_to_grade_by_hand"]
LAST = ["seconds", "reason"]
NOT_GRADED = """<!doctype html><meta charset=utf-8><title>{student}</title><h1>{student}: not graded</h1>
<p>{reason}.</p><p>Mend this, choose <i>Kernel, Restart and Run All</i>, save, and hand it in again.</p>
"""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="?", type=Path, metavar="SUBMISSIONS")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--again", action="store_true", help="only the table and the feedback, after grading by hand")
    parser.add_argument("--cell-seconds", type=int, default=120, help="the most for one cell (default 120)")
    parser.add_argument("--seconds", type=int, default=900, help="the most for one submission (default 900)")
    parser.add_argument("--gigabytes", type=float, default=4, help="the most memory for one submission (default 4)")
    parser.add_argument("--jobs", type=int, default=1, help="submissions at a time (default 1)")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    if arguments.again:
        if not (out / "course").is_dir():
            parser.error(f"{out} holds no grades yet")
        outcomes = read_outcomes(out)
    else:
        if arguments.submissions is None or not arguments.submissions.is_dir():
            parser.error(f"SUBMISSIONS must be a folder of notebooks, got {arguments.submissions}")
        if out.exists() and any(out.iterdir()):
            parser.error(f"{out} holds grades already; name another folder by --out, or write them anew by --again")
        outcomes = grade(collect(arguments.submissions), out, arguments)
    report(out, outcomes)
    graded = sum(not outcome.reason for outcome in outcomes.values())
    print(f"{graded} graded, {len(outcomes) - graded} reported: {out / 'grades.csv'}")


def grade(submissions, out, limits):
    """Run all submissions and record their grades in out/course; returns {student: Outcome}."""
    try:
        data = find_files()
    except DataUnavailable as error:
        raise SystemExit(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    if not confined.works():
        print("without bubblewrap, a submission can reach what you can: see notebooks/exercises/README.md")
    course, width = out / "course", max(len(submission.student) for submission in submissions)
    with tempfile.TemporaryDirectory() as folder:
        assignment.release(Path(folder) / "new")
        shutil.copytree(Path(folder) / "new" / "course", course)

    def one(submission):
        if submission.reason:
            outcome = Outcome(submission.reason, 0.0)
        else:
            outcome = run(submission, course, data, limits)
        print(f"{submission.student:{width}} {outcome.seconds:6.1f} s   {outcome.reason or 'ran'}", flush=True)
        return outcome

    with ThreadPoolExecutor(limits.jobs) as pool:
        outcomes = dict(zip((submission.student for submission in submissions), pool.map(one, submissions)))
    if any(not outcome.reason for outcome in outcomes.values()):
        # They ran, and their outputs are there: this restores the tests' text once more and counts.
        nbgrader(course, "autograde", NAME, "--no-execute")
    for student, outcome in outcomes.items():
        if not outcome.reason and not (course / "autograded" / student / NAME / f"{NAME}.ipynb").is_file():
            outcomes[student] = Outcome("it ran, but nbgrader could not read what came of it", outcome.seconds)
    return outcomes


def nbgrader(course, *arguments):
    """Run nbgrader for all students. It may fail for one of them: what counts are the files that it writes."""
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=course, env=assignment.environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    (course / f"{arguments[0]}.log").write_text(done.stdout, encoding="utf-8")


def report(out, outcomes):
    """Write grades.csv and feedback/NAME.html from the gradebook and the outcomes."""
    course, feedback = out / "course", out / "feedback"
    shutil.rmtree(feedback, ignore_errors=True)
    feedback.mkdir()
    if any(not outcome.reason for outcome in outcomes.values()):
        nbgrader(course, "generate_feedback", NAME, "--force")
    cells, points = read_gradebook(course, [student for student, outcome in outcomes.items() if not outcome.reason])
    with open(out / "grades.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, FIRST + list(cells) + LAST)
        table.writeheader()
        for student, outcome in sorted(outcomes.items()):
            row = {"student": student, "status": "reported" if outcome.reason else "graded", "reason": outcome.reason,
                   "max_score": f"{sum(cells.values()):g}", "seconds": f"{outcome.seconds:.1f}"}
            row.update(points.get(student, {}))
            table.writerow(row)
            made, page = course / "feedback" / student / NAME / f"{NAME}.html", feedback / f"{student}.html"
            if outcome.reason:
                page.write_text(NOT_GRADED.format(student=student, reason=html.escape(outcome.reason)),
                                encoding="utf-8")
            elif made.is_file():
                page.write_text(offline(made.read_text(encoding="utf-8")), encoding="utf-8")


def read_gradebook(course, students):
    """({cell: its points at most}, {student: what goes into the table}); a cell to be graded by hand is empty."""
    from nbgrader.api import Gradebook
    os.environ["PATH"] = assignment.environment()["PATH"]  # nbgrader calls alembic by name
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", NAME) as gradebook:
        notebook = gradebook.find_notebook(NAME, NAME)
        most = {cell.name: cell.max_score for cell in notebook.grade_cells}
        cells = {cell.name: most[cell.name] for cell in notebook.source_cells if cell.name in most}  # in their order
        points = {}
        for student in students:
            grades = gradebook.find_submission_notebook(NAME, NAME, student).grades
            waiting = [grade for grade in grades if grade.needs_manual_grade]
            points[student] = {grade.name: "" if grade.needs_manual_grade else f"{grade.score:g}" for grade in grades}
            points[student].update(score=f"{sum(grade.score or 0 for grade in grades):g}",
                                   answers_to_grade_by_hand=len(waiting))
    return cells, points


def read_outcomes(out):
    with open(out / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["student"]: Outcome(row["reason"], float(row["seconds"])) for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
