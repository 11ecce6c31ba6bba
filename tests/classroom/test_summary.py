"""What a class gets wrong most: it is read from the tests' messages, kept in the table, and counted."""

import csv

import nbformat
import pytest
import students
from nbformat.v4 import new_code_cell, new_notebook, new_output

from gluon_bn import check
from gluon_bn.classroom import summary
from gluon_bn.classroom.grading.course import Course, Result
from gluon_bn.classroom.grading.outputs import localized


def cell(name, points, mistake=""):
    """A graded cell, with the output of a test that failed because of a mistake."""
    outputs = []
    if mistake:
        with pytest.raises(check.result.CheckFailed) as failed:
            check.batch_norm(students.batch_norm(mistake), only=("dense", "statistics")).assert_ok()
        traceback = failed.value._render_traceback_()
        outputs = [new_output("error", ename="CheckFailed", evalue="", traceback=traceback)]
    mark = {"grade": True, "grade_id": name, "points": points}
    return new_code_cell("", metadata={"nbgrader": mark}, outputs=outputs)


def test_the_first_wrong_quantity_is_read_from_a_test_s_message():
    cells = [cell("dense", 3, "EpsOutsideSqrt"), cell("convolution", 3), cell("averages", 4, "MomentumSwapped")]
    forged = new_code_cell("", outputs=[new_output("error", traceback=["The mean is off in training"])])
    found = localized(new_notebook(cells=[*cells, forged]))
    assert found == ["denominator in training", "moving mean in training"]


def course_of(tmp_path, results):
    course = Course(tmp_path)
    source = course.folder / "source" / "batch_norm"
    source.mkdir(parents=True)
    nbformat.write(new_notebook(cells=[cell("dense", 3), cell("averages", 4)]), str(source / "batch_norm.ipynb"))
    for name, points, quantities in results:
        course.keep(Result(name, name, f"{name}.ipynb", "", "", [], 1.0, False, points, "0", 0, quantities))
    return course


CLASS = [
    ("ada", {"dense": "3", "averages": "0"}, ["moving mean in training"]),
    ("ben", {"dense": "0", "averages": "0"}, ["denominator in training", "moving mean in training"]),
    ("cyd", {"dense": "3", "averages": ""}, []),
]


def test_the_table_of_grades_holds_the_localized_quantities(tmp_path):
    course = course_of(tmp_path, CLASS)
    course.write_table(course.most(), course.known())
    rows = list(csv.DictReader(course.table.read_text(encoding="utf-8").splitlines()))
    assert [row["localized"] for row in rows] == [
        "moving mean in training",
        "denominator in training; moving mean in training",
        "",
    ]


def test_the_summary_counts_students_and_draws_bars(tmp_path, capsys):
    course_of(tmp_path, CLASS)
    assert summary.main(["--out", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["moving", "mean", "in", "training", "2", "67%"] in lines
    assert ["denominator", "in", "training", "1", "33%"] in lines
    assert ["averages", "2", "67%"] in lines and ["dense", "1", "33%"] in lines
    assert (tmp_path / "summary.png").read_bytes()[:4] == b"\x89PNG" and b"<svg" in (
        tmp_path / "summary.svg"
    ).read_bytes()


def test_a_folder_without_grades_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        summary.main(["--out", str(tmp_path)])
    assert (
        f"--out must be a folder of grades, got {tmp_path}, which has none; run `make grade`" in capsys.readouterr().err
    )
