"""The classroom, with nbgrader itself: what students receive, and how their hand-ins are graded."""

import copy
import html
import math
import re
import time

import nbformat
import psutil
import pytest
from handing_in import edit, label, named, save, small_source, solve, table_of
from nbclient import NotebookClient

from gluon_bn.classroom import assignment, example, grade
from gluon_bn.classroom.grading import sandbox
from gluon_bn.classroom.grading.feedback import offline

NEEDS_BUBBLEWRAP = pytest.mark.skipif(bool(sandbox.why_unavailable()), reason="needs bubblewrap")
AUTOMATIC, BY_HAND = 42, 23  # points
QUICK = ["dense", "convolution", "modes", "averages", "layer", "backward"]  # exercises that train nothing
QUICK_POINTS = 3 + 3 + 3 + 4 + 6 + 6


def test_points_are_as_the_headlines_say(solution):
    marked = [cell for cell in solution.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    points = [(cell.cell_type, cell.metadata["nbgrader"]["points"]) for cell in marked]
    assert sum(value for kind, value in points if kind == "code") == AUTOMATIC
    assert sum(value for kind, value in points if kind == "markdown") == BY_HAND
    headlines = [cell.source.splitlines()[0] for cell in solution.cells if cell.source.startswith("## Exercise")]
    assert [int(line.split()[2].rstrip(":")) for line in headlines] == list(range(1, 15))
    told = [int(number) for line in headlines for number in re.findall(r"\d+", line[line.index("(") :])]
    assert sum(told) == AUTOMATIC + BY_HAND


def test_each_exercise_has_a_name_of_its_own(solution):
    names = [label(cell) for cell in solution.cells if label(cell)]
    assert len(names) == len(set(names))


def test_the_students_version_holds_no_solution(released, solution):
    assert assignment.leaks(released, solution) == []
    assert "BEGIN" not in nbformat.writes(released)


def test_a_solution_that_is_left_in_is_found(released, solution):
    for grade_id in [label(cell) for cell in solution.cells if cell.metadata.get("nbgrader", {}).get("solution")]:
        assert assignment.leaks(solve(released, solution, [grade_id]), solution), grade_id


@pytest.mark.fault("a folder of other things to write to")
def test_release_refuses_a_folder_of_other_things(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(SystemExit, match="other files"):
        assignment.release(tmp_path)
    with pytest.raises(SystemExit, match="thesis.txt is a file"):
        assignment.release(tmp_path / "thesis.txt")
    with pytest.raises(SystemExit):
        example.main(["--out", str(tmp_path / "thesis.txt")])
    assert (tmp_path / "thesis.txt").read_text() == "the only copy"


def test_the_unsolved_notebook_says_at_the_first_exercise_what_is_missing(released, tmp_path):
    notebook = copy.deepcopy(released)
    first = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("check."))
    notebook.cells = notebook.cells[: first + 1]
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = notebook.cells[-1].outputs[0].data["text/plain"]
    assert shown.startswith("batch_norm_dense: not written yet\n") and "Traceback" not in shown
    assert "Nothing is wrong: it waits for your code." in shown


def test_a_training_that_diverges_is_a_result_on_the_workbench(released):
    names = {}
    for cell in released.cells:
        if label(cell) in ("setup", "workbench"):
            exec(cell.source, names)
    epoch = names["fit"](names["mlp"](), lr=1e6, num_epochs=2, num_train=300)
    assert math.isnan(epoch.loss) and 0 < epoch.train_acc < 0.2 and 0 < epoch.test_acc < 0.2  # one class for all


def test_feedback_draws_formulas_and_leaves_code_and_prices_alone():
    script = '<!-- Load mathjax -->\n<script src="https://a.b/c.js"></script><!-- End of mathjax configuration -->'
    page = (
        f'{script}<li><a href="#bias-test">Test cell</a></li><p>so $x_i &lt; 1$ and $$\\sqrt{{x}}$$</p>'
        '<pre>$PATH or $HOME</pre><p>between $5 and $6 $\\nonsense{$</p>'
    )
    shown = offline(page, "ada")
    assert shown.count("<svg ") == 2 and 'aria-label="x_i &lt; 1"' in shown
    assert "<script" not in shown and '<a href="#bias-test">bias-test</a>' in shown
    assert "<pre>$PATH or $HOME</pre>" in shown and "between $5 and $6 $\\nonsense{$" in shown


@pytest.mark.fault("a formula that takes too long, or is huge")
@pytest.mark.parametrize(
    "formula",
    ["x^" + "{" * 40 + "1" + "}" * 40, "\\sqrt{" * 300 + "x" + "}" * 300, "x+" * 10**5 + "x"],
    ids=["nested", "deep", "long"],
)
def test_a_formula_that_takes_too_long_is_shown_as_its_source(formula):
    shown = offline(f"<html><head></head><p>${formula}$ and $y$</p>", "ada")
    assert f"<code>${formula}$</code> <em>(a formula that takes too long to draw)</em>" in shown
    assert shown.count("<svg ") == 1


@pytest.mark.fault("feedback with thousands of tags that are never closed")
@pytest.mark.parametrize("tag", ["<pre>", "<script ", "<!-- Load mathjax -->"])
def test_tags_that_are_never_closed_take_no_time(tag):
    start = time.process_time()
    assert "<svg " in offline(f"<html><head></head>{tag * 30_000}<p>$y$</p>", "ada")
    assert time.process_time() - start < 10  # one that looks for each end anew takes a minute and a half


def test_feedback_runs_no_script_and_loads_nothing():
    shown = offline("<html><head></head><body><script>alert(1)</script></body>", "<b>")
    assert shown.startswith("<html><head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';")


def submissions(released, solution):
    """{name: (notebook, bytes, or None for an empty folder; the points, or some words of why there are none)}"""
    right, quick = solve(released, solution), solve(released, solution, QUICK)
    partly = edit(
        quick, "averages", "momentum * moving_mean + (1 - momentum) *", "(1 - momentum) * moving_mean + momentum *"
    )
    partly = edit(partly, "backward", "- X_hat * dgamma / m", "")
    tampered = copy.deepcopy(released)
    _, test = named(tampered, "dense-test")
    test.source, test.metadata["nbgrader"]["points"] = "print('passed')", 1000
    tampered.cells = [cell for cell in tampered.cells if label(cell) != "convolution-test"]
    elsewhere = copy.deepcopy(quick)
    elsewhere.metadata.kernelspec = {"name": "conda-env-torch-py", "display_name": "Mine", "language": "julia"}
    shortened = copy.deepcopy(quick)
    shortened.cells = [cell for cell in shortened.cells if label(cell) not in ("convolution", "convolution-test")]
    return {
        "right": (right, AUTOMATIC),
        "partly": (partly, QUICK_POINTS - 3 - 2 - 4),  # the averages, the layer that calls them, dX
        "unsolved": (released, 0),
        "typo": (edit(quick, "dense", "def batch_norm_dense(", "def batch_norm_dense["), QUICK_POINTS - 3 - 3),
        "elsewhere": (elsewhere, QUICK_POINTS),
        "tampers": (tampered, 0),
        "shortened": (shortened, QUICK_POINTS - 3 - 3),  # exercise 3 calls what exercise 2 makes
        "garbled": (b"\x89PNG", "not a notebook"),
        "empty": (b"", "not a notebook"),
        "nothing": (None, "no notebook"),
    }


def hostile(released, solution, precious):
    """The same, for what harms itself or others; exercise 1 alone is solved, and counts 3 points."""
    solved, start = solve(released, solution, ["dense"]), "def batch_norm_dense("
    attacks = {
        "wipes": (
            "import os, pathlib, shutil\nfor place in (os.environ['GLUON_BN_DATA'], pathlib.Path.home(), '.'):\n"
            "    shutil.rmtree(place, ignore_errors=True)",
            3,
        ),
        "trespasses": (
            f"import os, shutil\nshutil.rmtree({str(precious)!r}, ignore_errors=True)\n"
            f"assert not os.path.exists({str(precious)!r})",
            3,
        ),
        "calls": (
            "import socket\ntry:\n    socket.create_connection(('1.1.1.1', 80), 5)\nexcept OSError:\n    pass\n"
            "else:\n    raise SystemExit",
            3,
        ),
        "fills": ("with open('full', 'wb') as file:\n    for _ in range(40):\n        file.write(bytes(2 ** 26))", 0),
        "litters": ("for number in range(40):\n    open(f'part{number}', 'wb').write(bytes(2 ** 26))", 0),
        "prints": ("for _ in range(2000):\n    print('x' * 10 ** 4)", 3),
        "loops": ("while True:\n    pass", 0),
        "clings": (
            "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
            "could not be interrupted",
        ),
        "leaves": (
            "import os, subprocess\nsubprocess.Popen(['sleep', '3600'], start_new_session=True)\nos._exit(0)",
            "ended its own Python",
        ),
        "kills": (
            "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
            "killed the process that runs it, by SIGKILL",
        ),
        "forks": (
            "import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n        time.sleep(600)\n"
            "        os._exit(0)\ntime.sleep(600)",
            "processes at a time",
        ),
        "hoards": ("hoard = [bytearray(b'x') * 2 ** 27 for _ in range(80)]", "GB of memory"),
    }
    found = {
        name: (edit(solved, "dense", start, f"{code}\n{start}"), expected) for name, (code, expected) in attacks.items()
    }
    return {**found, "upright": (solved, 3)}


def hand_in(folder, submitted):
    """Write submissions into a folder; returns {name: what is expected}."""
    for name, (content, _) in submitted.items():
        (folder / name).mkdir(parents=True)
        if isinstance(content, bytes):
            (folder / name / "batch_norm.ipynb").write_bytes(content)
        elif content is not None:
            save(content, folder / name / "batch_norm.ipynb")
    return {name: expected for name, (_, expected) in submitted.items()}


def compare(out, expected, most):
    """Whether the table and the feedback hold what is expected of each; returns the table's rows."""
    rows = table_of(out)
    assert set(rows) == set(expected)
    for name, points in expected.items():
        page = (out / "feedback" / f"{name}.html").read_text(encoding="utf-8")
        if isinstance(points, str):
            assert rows[name]["status"] == "reported" and points in rows[name]["reason"], rows[name]
            assert rows[name]["score"] == "" and html.escape(rows[name]["reason"]) in page
        else:
            got = rows[name]["status"], rows[name]["score"], rows[name]["reason"]
            assert got == ("graded", str(points), ""), rows[name]
            assert f"(Score: {points:.1f} / {most:.1f})" in page
    return rows


@NEEDS_BUBBLEWRAP
@pytest.mark.slow
@pytest.mark.fault("a hand-in that loops, exits, forks, fills memory or disk, or deletes what it can", tries=12)
def test_a_harmful_submission_is_reported_and_the_others_are_graded(tmp_path, monkeypatch):
    monkeypatch.setattr(assignment, "SOURCE", small_source(tmp_path / "batch_norm.py"))
    released = nbformat.read(str(assignment.release(tmp_path / "release")), as_version=4)
    precious = tmp_path / "precious"
    precious.mkdir()
    expected = hand_in(tmp_path / "in", hostile(released, assignment.solved(), precious))
    options = f"--out {tmp_path}/out --release {tmp_path}/release --jobs 2 --cell-seconds 30 --gigabytes 2".split()
    grade.main([str(tmp_path / "in"), *options])
    compare(tmp_path / "out", expected, 3 + 3 + 3)
    assert precious.is_dir()
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "3600"]]


@NEEDS_BUBBLEWRAP
@pytest.mark.slow
@pytest.mark.fault("a hand-in with changed tests, a cell missing, another kernel, garbled or empty", tries=7)
def test_the_whole_cycle_grades_or_reports_each_submission(release, released, solution, tmp_path):
    out = tmp_path / "grades"
    expected = hand_in(tmp_path / "handed in", submissions(released, solution))
    options = ["--release", str(release.parent), "--out", str(out), "--jobs", "2", "--cell-seconds", "300"]
    grade.main([str(tmp_path / "handed in"), *options])
    rows = compare(out, expected, AUTOMATIC + BY_HAND)
    assert rows["partly"]["averages-test"] == "0" and rows["partly"]["graph-test"] == "1"
    assert rows["partly"]["backward-parameters-test"] == "2" and rows["partly"]["backward-input-test"] == "0"
    assert rows["shortened"]["notes"] == "the cell convolution is missing"
    page = (out / "feedback" / "partly.html").read_text(encoding="utf-8")
    assert "MomentumSwapped" in page and "result.py" not in page  # the table, and no trace through the check
    assert page.count('<svg role="img"') >= 2 and not re.search(r'(src|href)="(https?:)?//', page)
    assert rows["right"]["answers_to_grade_by_hand"] == "8" and rows["unsolved"]["answers_to_grade_by_hand"] == "0"

    # a grade given by hand, as nbgrader's own pages write it
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{out / 'course' / 'gradebook.db'}") as gradebook:
        mark = gradebook.find_grade("bias-answer", "batch_norm", "batch_norm", "right")
        mark.manual_score, mark.needs_manual_grade = 2, False
        gradebook.db.commit()
    grade.main(["--again", "--out", str(out)])
    again = table_of(out)
    assert again["right"]["score"] == str(AUTOMATIC + 2) and again["right"]["bias-answer"] == "2"
    assert {name: row["reason"] for name, row in again.items()} == {name: row["reason"] for name, row in rows.items()}
