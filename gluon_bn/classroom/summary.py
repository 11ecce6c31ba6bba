"""What a class gets wrong most:  python -m gluon_bn.classroom.summary [--out FOLDER]

FOLDER (default runs/grades) holds the grades. This prints how many students lost points in each exercise, and how many
had each quantity as the first wrong one. It draws the quantities as a bar chart, in FOLDER/summary.svg and summary.png.
"""

from __future__ import annotations

import argparse
import collections
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from matplotlib.figure import Figure
from tabulate import tabulate

from ..drawing import bars, pictures
from ..errors import InputError
from ..system.store import store
from .grading.course import OUT, Course, Result


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    course = Course(parser.parse_args(argv).out.resolve())
    try:
        graded = [result for result in course.known().values() if not result.reason]
        if not graded:
            raise InputError(f"must be a folder of grades, got {course.out}, which has none; run `make grade`", "--out")
        most = course.most()
    except InputError as error:
        parser.error(str(error))
    quantities, exercises = by_quantity(graded), by_exercise(graded, most)
    for title, rows in (("first wrong quantity", quantities), ("points lost in", exercises)):
        shares = [(name, count, f"{count / len(graded):.0%}") for name, count in rows]
        headers = title, "students", f"of {len(graded)}"
        print(tabulate(shares, headers, colalign=("left", "right", "right")), end="\n\n")
    for extension, content in pictures(chart(quantities, len(graded))).items():
        store(content, course.out / f"summary.{extension}")
    print(f"bar chart: {course.out / 'summary.png'}")
    return 0


def by_quantity(results: Sequence[Result]) -> List[Tuple[str, int]]:
    """The localized quantities and the number of students for each, the most frequent first."""
    return _sorted(collections.Counter(quantity for result in results for quantity in set(result.localized)))


def by_exercise(results: Sequence[Result], most: Mapping[str, float]) -> List[Tuple[str, int]]:
    """The graded cells that lost points, and the number of students for each; unread answers do not count."""
    lost = [
        name
        for result in results
        for name, points in result.points.items()
        if points and float(points) < most.get(name, 0)  # 0: graded with other exercises
    ]
    return _sorted(collections.Counter(lost))


def chart(rows: Sequence[Tuple[str, int]], students: int) -> Figure:
    """A bar for each quantity, the longest at the top."""
    figure = bars([name for name, _ in rows], {f"students of {students}": {"": [count for _, count in rows]}})
    (ax,) = figure.axes
    ax.set(title="first wrong quantity", xlim=(0, students))
    ax.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _sorted(counts: Dict[str, int]) -> List[Tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


if __name__ == "__main__":
    sys.exit(main())
