"""course.toml decides what is handed out, its mistakes are reported, and grading uses the release handed out."""

import json
import re
import subprocess
import sys
import zipfile

import nbformat
import pytest
from handing_in import label, save, small_source, table_of

from gluon_bn.classroom import assignment, example, student_copy
from gluon_bn.classroom.grading import sandbox
from gluon_bn.classroom.grading.course import Course
from gluon_bn.classroom.grading.grader import Grader
from gluon_bn.classroom.grading.sandbox import Limits
from gluon_bn.classroom.grading.submissions import collect
from gluon_bn.errors import InputError


@pytest.fixture
def edited(tmp_path, monkeypatch):
    """edited(old, new): the source with another course.toml."""
    settings = assignment.SOURCE.with_name(assignment.SETTINGS).read_text(encoding="utf-8")
    source = tmp_path / "batch_norm.py"
    source.write_text(assignment.SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(assignment, "SOURCE", source)

    def write(*changes):
        text = settings
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        source.with_name(assignment.SETTINGS).write_text(text, encoding="utf-8")

    return write


ALL = "exercises = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]"


def test_exercises_points_and_seeds_are_those_of_the_file(edited):
    edited(
        (ALL, "exercises = [1, 8, 9]"), ("bias-test = 2", "bias-test = 1.5"), ("[0, 1, 2]", "[5, 6]"), ("0.6", "0.7")
    )
    cells = assignment.solved().cells
    headings = [cell.source.splitlines()[0] for cell in cells if cell.source.startswith("## ")]
    assert headings == [
        "## Exercise 1: a dense layer (3 points)",
        "## The workbench of exercises 7 to 13",
        "## Exercise 8: the bias before a norm (1.5 + 3 points)",
        "## Exercise 9: learning rates, with and without (2 + 3 points)",
    ]
    marked = {label(cell): cell.metadata["nbgrader"].get("points") for cell in cells if label(cell)}
    assert marked["bias-test"] == 1.5 and "dropout-test" not in marked
    text = "\n".join(cell.source for cell in cells)
    assert "seeds = (5, 6)" in text and "every seed is above 0.7" in text and "{{" not in text


@pytest.mark.fault("a mistake in course.toml")
@pytest.mark.parametrize(
    "old, new, said",
    [
        ("learned =", "learnt =", "learned is missing"),
        ("seeds = [0, 1, 2]", "seeds = [0]", "seeds must be a list of at least two whole numbers"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", "seeds must be a list"),
        ("learned = 0.6", "learned = 60", "learned must be a number between 0.1 and 1, got 60"),
        (ALL, "exercises = [3]", "exercises must include 1 and 2, which 3 needs"),
        (ALL, "exercises = [1, 15]", "exercises must be from 1 to 14, got [15]"),
        ("dense-test = 3", "dense-test = -3", "points must be a table of numbers of at least 0"),
        ("dense-test = 3", "dens-test = 3", "points.dens-test is not a graded cell"),
        ("dense-test = 3", "", "points.dense-test is missing"),
        ('"batch_norm"', '"a course"', "course must be letters, digits, _ and -"),
        ("[points]", "[points", "must be TOML"),
    ],
)
def test_a_mistake_in_the_file_is_refused_by_name(old, new, said, edited, tmp_path, capsys):
    edited((old, new))
    with pytest.raises(SystemExit) as stopped:
        assignment.main(["--out", str(tmp_path / "out")])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and said in message and "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_the_release_is_stamped_and_another_one_is_not_graded(tmp_path, monkeypatch):
    source = small_source(tmp_path / "batch_norm.py")
    monkeypatch.setattr(assignment, "SOURCE", source)
    first = nbformat.read(str(assignment.release(tmp_path / "first")), as_version=4)
    stamp = assignment.stamp_of(cell.source for cell in first.cells)
    assert re.fullmatch("[0-9a-f]{8}", stamp) and stamp == assignment.stamp_of(
        cell.source for cell in assignment.solved().cells
    )
    source.write_text(source.read_text(encoding="utf-8").replace("mean of 0", "mean of zero"), encoding="utf-8")
    settings = source.with_name(assignment.SETTINGS)
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("dense-test = 3", "dense-test = 4"), encoding="utf-8"
    )
    second = assignment.solved()
    assert assignment.stamp_of(cell.source for cell in second.cells) != stamp

    save(second, tmp_path / "in" / "late.ipynb")
    course = Course(tmp_path / "out")
    course.out.mkdir()
    course.begin(tmp_path / "in", tmp_path / "first")  # the source has changed since, but the first release is graded
    assert course.most()["dense-test"] == 3 and course.course_id == "batch_norm"
    grader = Grader(course, Limits(), course.solution(), course.released())
    assert grader.stamp == stamp
    (late,), _ = collect(tmp_path / "in", grader.released)
    assert "with --release and the folder of release " in grader.grade(late).reason

    course.begin(tmp_path / "in", tmp_path / "first")  # to continue
    assignment.release(tmp_path / "second")
    with pytest.raises(InputError, match="^--release must be the release that is graded in"):
        course.begin(tmp_path / "in", tmp_path / "second")
    course.begin(tmp_path / "in")
    assert course.most()["dense-test"] == 3


@pytest.mark.slow
@pytest.mark.skipif(bool(sandbox.why_unavailable()), reason="needs bubblewrap")
def test_the_example_class_is_graded_even_if_exercises_are_left_out(edited, tmp_path, capsys):
    edited((ALL, "exercises = [1, 2, 3, 4]"))
    assert example.main(["--out", str(tmp_path / "example")]) == 0
    rows = table_of(tmp_path / "example" / "grades")
    points = {student: row["score"] for student, row in rows.items()}
    assert points == {"ada": "13", "ben": "10", "cem": "13", "dana": "3", "eve": ""}
    assert "not a notebook" in rows["eve"]["reason"] and rows["ben"]["averages-test"] == "0"
    assert "moving mean in training" in capsys.readouterr().out


@pytest.fixture(scope="module")
def copied(release):
    return student_copy.files(release)


def test_the_students_copy_has_no_norm_and_no_notebook_of_the_chapter(copied):
    assert not [
        name for name in copied if re.match(r"gluon_bn/(norm|model|experiments|comparison|bench)|docs|tests", name)
    ]
    assert [name for name in copied if name.startswith("notebooks/")] == ["notebooks/batch_norm.ipynb"]
    assert "BEGIN SOLUTION" not in "".join(copied.values())
    assert re.findall(r"(?m)^([a-z-]+):.*##", copied["Makefile"]) == ["help", "lab", "doctor", "clean"]
    assert not re.search(r"\]\((?!http)", copied["README.md"])


def test_a_line_of_a_solution_is_found_and_the_copy_has_none(copied, solution):
    assert student_copy.leaks(copied) == []
    source = assignment.SOURCE.read_text(encoding="utf-8")
    found = student_copy.leaks({"source.py": source})
    assert "source.py: mean = X.mean(axis=axes, keepdims=True)" in found and len(found) > 50


def test_the_students_copy_runs_the_checks_without_the_rest_of_the_package(copied, tmp_path):
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        for name, content in copied.items():
            archive.writestr(name, content)
    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        archive.extractall(tmp_path / "copy")
    cells = json.loads(copied["notebooks/batch_norm.ipynb"])["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = "\n".join(code[:2]) + "\nprint(" + code[2] + ")\nimport gluon_bn; print(gluon_bn.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "copy", env={"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "batch_norm_dense: not written yet" in done.stdout and str(tmp_path) in done.stdout, done.stderr
