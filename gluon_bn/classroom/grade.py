"""Grade what students handed in:  python -m gluon_bn.classroom.grade SUBMISSIONS [--out FOLDER]

SUBMISSIONS is a folder or a zip archive: for each student one NAME.ipynb, one folder NAME or one NAME.zip with a
notebook in it, or a download from Moodle, Canvas or Blackboard. Each is run separately, with the hidden tests,
confined by bubblewrap. A submission that cannot be graded is reported, and the others are graded.

FOLDER (default runs/grades) gets
- grades.csv: a line for each student: the points for each graded cell, or the reason why there are none;
- feedback/NAME.html: the notebook with its points and the messages of the tests;
- results: the data behind the table;
- course: nbgrader's folder, for grading the written answers by hand. Afterwards
  `python -m gluon_bn.classroom.grade --again [--out FOLDER]` updates the table and the feedback, and runs nothing.

After an interruption, the same command continues: grades stay, and submissions that were reported or have changed are
run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence

from ..comparison.folder import locked
from ..data import DataUnavailable, find_files
from ..errors import InputError
from ..system.store import DISK_FULL
from ..system.terminal import terminated_as_interrupted
from ..system.threads import cores
from . import assignment
from .grading import sandbox
from .grading.course import OUT, Course, Result
from .grading.grader import Grader
from .grading.sandbox import Limits
from .grading.submissions import Submission, collect

ROOM = 100 * 2**20  # bytes that must be free: with less, a full disk may look like a submission's failure


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Grade, or update the table, and return the exit code: 0 done, 1 something is wrong, 130 stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="?", type=Path, metavar="SUBMISSIONS")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    release = "the folder that `make assignment` wrote (default: build/assignment, which is made again if missing)"
    parser.add_argument("--release", type=Path, metavar="FOLDER", help=release)
    parser.add_argument("--again", action="store_true", help="only update table and feedback, after grading by hand")
    unconfined = "run the submissions without bubblewrap: they can read and change your files"
    parser.add_argument("--unconfined", action="store_true", help=unconfined)
    parser.add_argument("--cell-seconds", type=int, default=120, help="time limit per cell (default 120)")
    parser.add_argument("--seconds", type=int, default=900, help="time limit per submission (default 900)")
    parser.add_argument("--gigabytes", type=float, default=4, help="memory limit per submission (default 4)")
    parser.add_argument("--jobs", type=int, default=1, help="number of submissions to run at a time (default 1)")
    arguments = parser.parse_args(argv)
    for name in ("cell_seconds", "seconds", "gigabytes", "jobs"):
        if not getattr(arguments, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0, got {getattr(arguments, name)}")
    if not arguments.again and arguments.submissions is None:
        parser.error("SUBMISSIONS is missing; name the folder or zip archive: make grade SUBMISSIONS=folder")
    if not arguments.again and not arguments.submissions.exists():
        parser.error(f"SUBMISSIONS must be an existing folder or zip archive, got {arguments.submissions}")
    if arguments.release and not (arguments.release / "course" / "release" / assignment.NAME).is_dir():
        parser.error(f"--release must be a folder that `make assignment` wrote, got {arguments.release}")
    try:
        with terminated_as_interrupted():
            return _update(arguments.out.resolve()) if arguments.again else _grade(arguments)
    except (InputError, DataUnavailable) as error:
        parser.error(str(error))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        print(f"grade: {error}; free some space, then continue with the same command", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("grade: stopped; continue with the same command", file=sys.stderr)
        return 130


def _grade(arguments: argparse.Namespace) -> int:
    """Run and record the submissions that have no grade yet."""
    why_not = None if arguments.unconfined else sandbox.why_unavailable()
    if why_not:
        print(
            f"grade: {why_not}. bubblewrap keeps submissions away from your files and the network. "
            "To grade without it: --unconfined",
            file=sys.stderr,
        )
        return 1
    data, course = find_files(), Course(arguments.out.resolve())
    _create_folder(course.out)
    with locked(course.out, "--out", wait=True):
        _check_room(course)
        course.begin(arguments.submissions, arguments.release)
        threads = max(1, cores() // arguments.jobs)
        limits = Limits(arguments.cell_seconds, arguments.seconds, arguments.gigabytes, threads, arguments.unconfined)
        grader = Grader(course, limits, course.solution(), course.released())
        print(f"release {grader.stamp} of the assignment")
        found, passed_over = collect(arguments.submissions, grader.released)
        for line in passed_over:
            print(f"ignored: {line}")
        known = course.known()
        graded = {student: result.digest for student, result in known.items() if not result.reason}
        to_do = [one for one in found if graded.get(one.student) != one.digest]
        if len(to_do) < len(found):
            print(f"{len(found) - len(to_do)} of {len(found)} are already graded")
        (course.working / "data").mkdir(parents=True, exist_ok=True)
        for name, file in data.items():
            (course.working / "data" / name).write_bytes(file.content)
        _run_all(grader, found, to_do, known, arguments.jobs)
        shutil.rmtree(course.working, ignore_errors=True)
    return _print_summary(course, known)


def _run_all(
    grader: Grader, found: Sequence[Submission], to_do: Sequence[Submission], known: Dict[str, Result], jobs: int
) -> None:
    """Grade submissions, `jobs` at a time, and add their results to `known`. The table is written after each."""
    course, students = grader.course, [submission.student for submission in found]
    most, width = course.most(), max(map(len, students))
    for submission in to_do:
        known.pop(submission.student, None)
    course.write_table(most, known, students)
    pool = ThreadPoolExecutor(jobs)
    tasks = [pool.submit(grader.grade, submission) for submission in to_do]
    try:
        for task in as_completed(tasks):
            result = task.result()
            if result.reason:
                _check_room(course)
            course.keep(result)
            known[result.student] = result
            course.write_table(most, known, students)
            points = f"{result.score} points, {result.waiting} answers to read" if not result.reason else result.reason
            print(f"{result.student:{width}} {result.seconds:6.1f} s   {points}", flush=True)
    finally:
        grader.stop.set()
        for task in tasks:
            task.cancel()
        pool.shutdown()


def _create_folder(out: Path) -> None:
    """Create the folder of the grades. Raises: InputError if it cannot be created or written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        why_not = "" if os.access(out, os.W_OK | os.X_OK) else "nothing can be written there"
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        why_not = error.strerror or str(error)
    if why_not:
        raise InputError(f"must be a writable folder, got {out} ({why_not}); name another", "--out")


def _check_room(course: Course) -> None:
    """Check that the disk has room. Raises: OSError if it is nearly full."""
    if shutil.disk_usage(course.out).free < ROOM:
        raise OSError(DISK_FULL[0], f"less than {ROOM >> 20} MB are free on this disk", str(course.out))


def _update(out: Path) -> int:
    """Update the table and the feedback with the points that were given by hand."""
    course = Course(out)
    if not course.folder.is_dir():
        raise InputError(f"must be a folder of grades, got {out}, which holds none; omit --again", "--out")
    with locked(out, "--out", wait=True):
        known = course.known()
        grader = Grader(course, Limits(), course.solution(), course.released())
        for student, result in known.items():
            if result.reason:
                continue
            try:
                points = grader.record(student, result.safe, anew=False)
            except InputError as error:
                print(f"grade: {student}: {error}; the line in the table is unchanged", file=sys.stderr)
                continue
            known[student] = dataclasses.replace(result, **dataclasses.asdict(points))
            course.keep(known[student])
        course.write_table(course.most(), known)
    return _print_summary(course, known)


def _print_summary(course: Course, known: Mapping[str, Result]) -> int:
    graded = sum(not result.reason for result in known.values())
    print(f"{graded} graded, {len(known) - graded} reported: {course.table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
