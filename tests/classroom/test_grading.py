"""Grading a whole folder, with bubblewrap and nbgrader themselves, on an assignment of two exercises."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import handing_in
import nbformat
import pytest
from faults import repeated
from handing_in import edit, label, named, save, small_source, solve, table_of
from nbformat.v4 import new_code_cell, new_markdown_cell

from gluon_bn.classroom import assignment
from gluon_bn.classroom.grading import sandbox

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(sandbox.why_unavailable()), reason="needs bubblewrap")]
DENSE, CONVOLUTION = ("dense", 3), ("convolution", 3)
MAIN = (
    "import sys; from pathlib import Path; from gluon_bn.classroom import assignment, grade; "
    "assignment.SOURCE = Path(sys.argv.pop(1)); assignment.OUT = Path(); sys.exit(grade.main())"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return small_source(tmp_path_factory.mktemp("source") / "batch_norm.py")


@pytest.fixture(scope="module")
def handed_out(source, tmp_path_factory):
    """(the notebook that the students got, the solution)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assignment, "SOURCE", source)
        path = assignment.release(tmp_path_factory.mktemp("release") / "new")
        return nbformat.read(str(path), as_version=4), assignment.solved()


def run(source, *arguments):
    return subprocess.run(
        [sys.executable, "-c", MAIN, str(source), *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def lost(notebook, chance):
    notebook.metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {}}}
    gone = ("setup", "dense-test", "convolution-test")
    notebook.cells = [cell for cell in notebook.cells if label(cell) not in gone]


def plots(notebook, chance):
    place, _ = named(notebook, "dense")
    magic = chance.choice(["%matplotlib inline\n", "", "%matplotlib agg\n"])
    notebook.cells[place + 1 : place + 1] = [
        new_code_cell(f"{magic}import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"),
        new_code_cell(
            "import ipywidgets\nfrom IPython.display import HTML, display\n"
            "display(HTML('<b>x</b>'), ipywidgets.IntSlider())"
        ),
        new_markdown_cell("$x^" + "{" * 40 + "1" + "}" * 40 + "$"),
    ]


def as_bytes(notebook, chance):
    return json.dumps(notebook, ensure_ascii=False).encode(chance.choice(["utf-8-sig", "utf-16", "utf-32"]))


def cut_off(notebook, chance):
    content = json.dumps(notebook).encode()
    return content[: chance.randrange(1, len(content) - 1)]


DAMAGES = [*handing_in.DAMAGES, lost, plots, as_bytes, cut_off]
NAMES = ["李明", "Jürgen", "Ада", "=1+1", "o'neil"]


def damaged(handed_out, folder, each):
    """Write `each` hand-ins for each of ten kinds of damage; return {student: (status, score, answers to read)}."""
    released, solution = handed_out
    expected = {}
    for kind, damage in enumerate(DAMAGES):
        for number in range(each):
            name = NAMES[(kind + number) % len(NAMES)]
            chance = random.Random(1000 * kind + number)
            solved = [exercise for exercise in (DENSE, CONVOLUTION) if chance.random() < 0.6]
            reads = chance.random() < 0.5
            notebook = solve(released, solution, [grade_id for grade_id, _ in solved] + ["bias-answer"] * reads)
            content = damage(notebook, chance)
            student = f"{name} {damage.__name__}"
            path = folder / f"{student}.ipynb"
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(notebook).encode())
            student = f"'{student}" if student[0] == "=" else student
            score = str(sum(points for _, points in solved))
            expected[student] = ("reported", "", "") if damage is cut_off else ("graded", score, str(int(reads)))
    return expected


@pytest.mark.parametrize("count", repeated("a damaged hand-in, among others", 10, 50))
def test_damaged_hand_ins_are_graded_in_one_run(count, handed_out, source, tmp_path):
    (tmp_path / "in").mkdir()
    expected = damaged(handed_out, tmp_path / "in", count // len(DAMAGES))
    done = run(source, tmp_path / "in", "--out", tmp_path / "out", "--jobs", 2)
    rows = table_of(tmp_path / "out")
    assert {
        name: (row["status"], row["score"], row["answers_to_grade_by_hand"]) for name, row in rows.items()
    } == expected, done.stdout
    reasons = [row["reason"] for row in rows.values() if row["status"] == "reported"]
    assert all(reason.startswith("not a notebook: not JSON") for reason in reasons)
    assert done.returncode == 0 and f"{count * 9 // 10} graded, {count // 10} reported" in done.stdout
    for name, row in rows.items():
        page = (tmp_path / "out" / row["feedback"]).read_text(encoding="utf-8")
        assert row["file"] == f"{name}.ipynb" and ("too long to draw" in page) == ("plots" in name)


@pytest.mark.parametrize("times", repeated("the grading killed at a random moment", 1, 10))
def test_the_same_command_continues_a_killed_grading(times, handed_out, source, tmp_path):
    released, solution = handed_out
    save(solve(released, solution, ["dense"]), tmp_path / "in" / "s0.ipynb")
    (tmp_path / "in" / "s1.ipynb").write_bytes(b"{")
    command = [sys.executable, "-c", MAIN, str(source), str(tmp_path / "in"), "--out"]
    start = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    took, expected = time.monotonic() - start, scores(tmp_path / "whole")
    assert [row[1] for row in expected] == ["3", ""]
    chance = random.Random(0)
    for number in range(times):
        out = tmp_path / f"out{number}"
        process = subprocess.Popen([*command, str(out)], start_new_session=True)
        time.sleep(chance.uniform(0, 0.9) * took)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if (out / "grades.csv").exists():
            assert [row["student"] for row in table_of(out).values()] == ["s0", "s1"]
        subprocess.run([*command, str(out)], check=True)
        assert scores(out) == expected
        assert {path.name for path in out.iterdir()} == {"course", "feedback", "grades.csv", "grading.json", "results"}


def scores(out):
    return [(name, row["score"], row["reason"], row["dense-test"]) for name, row in sorted(table_of(out).items())]


@pytest.mark.fault("a full disk before and while grading", tries=2)
def test_a_full_disk_leaves_the_table_and_the_same_command_goes_on(handed_out, source, tmp_path):
    released, solution = handed_out
    for number in range(2):
        save(solve(released, solution, ["dense"]), tmp_path / "in" / f"s{number}.ipynb")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", str(disk)]).returncode:
        pytest.skip("needs to mount a small disk")
    try:
        out, filler = disk / "grades", disk / "filler"
        fill(filler)
        done = run(source, tmp_path / "in", "--out", out)
        assert done.returncode == 1 and "free some space" in done.stdout, done.stdout
        filler.unlink()
        command = [sys.executable, "-c", MAIN, str(source), str(tmp_path / "in"), "--out", str(out)]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None and not (out / "results" / "s0.json").exists():
            time.sleep(0.1)
        fill(filler)
        said = process.communicate()[0]
        assert process.returncode == 1 and "free some space" in said and "Traceback" not in said, said
        assert [row["score"] for row in table_of(out).values()] == ["3", ""]
        filler.unlink()
        done = run(source, tmp_path / "in", "--out", out)
        assert done.returncode == 0 and "1 of 2 are already graded" in done.stdout, done.stdout
        assert [row["score"] for row in table_of(out).values()] == ["3", "3"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))


def test_again_restores_a_table_that_is_lost(handed_out, source, tmp_path):
    released, solution = handed_out
    save(solve(released, solution, ["dense"]), tmp_path / "in" / "ada.ipynb")
    (tmp_path / "in" / "ben.ipynb").write_bytes(b"{")
    out = tmp_path / "out"
    run(source, tmp_path / "in", "--out", out)
    before = table_of(out)
    (out / "grades.csv").unlink()
    shutil.rmtree(out / "feedback")
    done = run(source, "--again", "--out", out)
    assert done.returncode == 0 and table_of(out) == before, done.stdout
    assert "Score: 3.0" in (out / "feedback" / "ada.html").read_text(encoding="utf-8")

    save(edit(solve(released, solution, ["dense"]), "dense", "+ beta", ""), tmp_path / "in" / "ada.ipynb")
    run(source, tmp_path / "in", "--out", out)
    assert table_of(out)["ada"]["score"] == "0"  # handed in anew


@pytest.mark.fault("a machine without bubblewrap")
def test_without_bubblewrap_nothing_is_graded_unless_the_teacher_says_so(handed_out, source, tmp_path):
    released, solution = handed_out
    save(solve(released, solution, ["dense"]), tmp_path / "in" / "ada.ipynb")
    bare = {**os.environ, "PATH": os.path.dirname(sys.executable)}
    for name in ("sh", "env"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    bare["PATH"] += os.pathsep + str(tmp_path / "bin")
    command = [sys.executable, "-c", MAIN, str(source), str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    refused = subprocess.run(command, env=bare, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert refused.returncode == 1 and "apt-get install bubblewrap" in refused.stdout
    assert "--unconfined" in refused.stdout
    assert not (tmp_path / "out").exists()
    subprocess.run([*command, "--unconfined"], env=bare, check=True)
    row = table_of(tmp_path / "out")["ada"]
    assert row["score"] == "3" and any(name.startswith("graded with --unconfined") for name in row)


@pytest.mark.fault("a folder that holds other things, or other grades", tries=2)
def test_other_grades_are_not_written_over(source, tmp_path, handed_out):
    save(handed_out[0], tmp_path / "in" / "ada.ipynb")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grades.csv").write_text("a term's work")
    done = run(source, tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 2 and "must be a new or empty folder" in done.stdout
    assert (tmp_path / "out" / "grades.csv").read_text() == "a term's work"
