"""From the hand-in to the notebook that is graded."""

import copy
import json
import random

import handing_in
import nbformat
import pytest
from handing_in import edit, label, named, solve
from nbformat.v4 import new_code_cell, new_markdown_cell

from gluon_bn.classroom.grading.hand_in import build, read_cells
from gluon_bn.errors import InputError


def graded(notebook, solution, released):
    return build(read_cells(json.dumps(notebook).encode()), solution, released)


def sources(notebook):
    return {label(cell): cell.source for cell in notebook.cells if label(cell)}


@pytest.fixture
def solved(released, solution):
    return solve(released, solution)


@pytest.fixture
def expected(solved, solution, released):
    """The sources that grading an undamaged hand-in runs, by grade id."""
    return sources(graded(solved, solution, released).notebook)


def test_answers_come_from_the_hand_in_and_tests_from_us(expected, solved, solution):
    ours, theirs = sources(solution), sources(solved)
    for cell in solution.cells:
        if label(cell):
            mine = theirs if cell.metadata.nbgrader.solution else ours
            assert expected[label(cell)] == mine[label(cell)]


def delete_tests(notebook, cells):
    notebook.cells = [cell for cell in notebook.cells if not (label(cell) or "").endswith("-test")]


def paste_stubs(notebook, cells):
    for name in ("dense", "bias-answer"):
        place, cell = named(notebook, name)
        stub = copy.deepcopy(cell)
        stub.source = STUBS[name]
        notebook.cells.insert(place + 1, stub)


def lose_the_metadata(notebook, cells):
    for cell in notebook.cells:
        cell.metadata = {}


def spoil_the_ids(notebook, cells):
    for cell in notebook.cells:
        cell.id = "dense"


def old_schema(notebook, cells):
    for cell in notebook.cells:
        if label(cell):
            cell.metadata.nbgrader = {"grade_id": label(cell), "schema_version": cells.choice([1, 2]), "grade": True}


STUBS = {}
DAMAGES = [*handing_in.DAMAGES, delete_tests, paste_stubs, lose_the_metadata, spoil_the_ids, old_schema]


@pytest.mark.fault("a hand-in whose metadata, tags, types, ids, order or outputs are changed")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_nothing_but_the_sources_of_answers_counts(damage, seed, expected, solved, solution, released):
    STUBS.update(sources(released))
    damage(solved, random.Random(seed))
    built = graded(solved, solution, released).notebook
    nbformat.validate(built)
    found = [cell for cell in built.cells if label(cell)]
    assert [label(cell) for cell in found] == [label(cell) for cell in solution.cells if label(cell)]
    assert sources(built) == expected
    for ours, cell in zip([cell for cell in solution.cells if label(cell)], found):
        assert cell.metadata == ours.metadata and cell.cell_type == ours.cell_type
    assert all(cell.metadata == {} for cell in built.cells if not label(cell))
    assert [cell.source for cell in built.cells if cell.cell_type == "markdown"]


def test_the_students_own_cells_stay_where_they_stand(solved, solution, released):
    place, _ = named(solved, "dense")
    solved.cells[place:place] = [new_code_cell("above = 1")]
    solved.cells[place + 2 : place + 2] = [new_code_cell("below = 1"), new_markdown_cell("thoughts")]
    around = [cell.source for cell in graded(solved, solution, released).notebook.cells][place : place + 4]
    assert around == ["above = 1", solved.cells[place + 1].source, "below = 1", "thoughts"]


def test_both_halves_of_a_split_answer_run_in_their_order(solved, solution, released):
    place, cell = named(solved, "dense")
    half = copy.deepcopy(cell)
    half.source, cell.source = cell.source, "def helper():\n    pass"
    solved.cells.insert(place + 1, half)
    built = graded(solved, solution, released)
    place, _ = named(built.notebook, "dense")
    assert [one.source for one in built.notebook.cells[place - 1 : place + 1]] == [cell.source, half.source]
    assert built.notes == ["2 cells have the grade id dense; all of them ran, in order"]


def test_what_is_written_into_a_locked_cell_runs_too(solved, solution, released):
    edited = edit(edit(solved, "setup", "import numpy", "import numpy\nimport math"), "dense-test", "graded", "mine")
    built = graded(edited, solution, released).notebook
    place, _ = named(built, "setup")
    assert "import math" in built.cells[place + 1].source and not label(built.cells[place + 1])
    place, test = named(built, "dense-test")
    assert "mine" in built.cells[place - 1].source and "assert_ok" in test.source


@pytest.mark.fault("a hand-in from which an answer is deleted")
def test_an_answer_that_is_gone_is_said(solved, solution, released):
    place, _ = named(solved, "dense")
    del solved.cells[place]
    built = graded(solved, solution, released)
    assert built.notes == ["the cell dense is missing"]
    assert sources(built.notebook)["dense"] == "# this cell was not handed in"


@pytest.mark.fault("an answer in a new cell, its own one deleted")
def test_nothing_hides_an_answer_that_stands_in_a_new_cell(solved, solution, released):
    place, cell = named(solved, "dense")
    solved.cells[place] = new_code_cell(cell.source)
    defining = [
        one.source for one in graded(solved, solution, released).notebook.cells if "def batch_norm_dense(" in one.source
    ]
    assert defining == [cell.source]


@pytest.mark.fault("an answer that is an attached picture")
def test_an_attached_picture_is_said(solved, solution, released):
    named(solved, "bias-answer")[1].source = "See ![my page](attachment:page.png)"
    assert graded(solved, solution, released).notes == [
        "bias-answer holds a picture, which only the original file shows"
    ]


@pytest.mark.fault("an answer written beside its cell")
@pytest.mark.parametrize("shift, kind", [(1, "markdown"), (1, "code"), (1, "raw"), (0, "markdown")])
def test_an_answer_beside_its_cell_is_among_those_to_read(shift, kind, released, solution):
    notebook = copy.deepcopy(released)
    place, _ = named(notebook, "bias-answer")
    own = new_markdown_cell("The bias cancels.")
    own.cell_type = kind
    notebook.cells.insert(place + shift, own)
    built = graded(notebook, solution, released)
    stub = sources(released)
    answers = {name: source for name, source in sources(built.notebook).items() if name.endswith("-answer")}
    assert [name for name, source in answers.items() if source != stub[name]] == ["bias-answer"]
    assert built.notes == ["bias-answer is empty, but the student wrote a cell next to it"]
    assert graded(released, solution, released).notes == []


@pytest.mark.fault("a notebook in another encoding")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_every_encoding_is_read(encoding, released):
    notebook = edit(released, "bias-answer", "YOUR", "Größe: YOUR")
    cells = read_cells(json.dumps(notebook, ensure_ascii=False).encode(encoding, "replace"))
    assert [cell.source for cell in cells if "Größe" in cell.source] == [named(notebook, "bias-answer")[1].source]


@pytest.mark.fault("a notebook of an older format")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_every_format_is_read(version, released):
    cells = []
    for cell in released.cells:
        source = "input" if version < 4 and cell.cell_type == "code" else "source"
        cells.append({"cell_type": cell.cell_type, source: cell.source.splitlines(True), "metadata": cell.metadata})
    notebook = (
        {"nbformat": version, "cells": cells}
        if version == 4
        else {"nbformat": version, "worksheets": [{"cells": cells}]}
    )
    found = read_cells(json.dumps(notebook).encode())
    assert [cell.source for cell in found] == [cell.source for cell in released.cells]
    assert found[1].grade_id == label(released.cells[1])


@pytest.mark.fault("a file that is no notebook")
@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x89PNG\r\n\x00", "not JSON"),
        (b'{"cells": [', "not JSON"),
        (b"[]", "without a list"),
        (b"5", "without a list"),
        (b'{"cells": {}}', "without a list"),
        (b'{"worksheets": [5]}', "without a list"),
        (b"[" * 10**6, "nested too deeply"),
        (b"%PDF-1.5", "not JSON"),
    ],
)
def test_what_is_no_notebook_is_said(content, reason):
    with pytest.raises(InputError, match=f"^not a notebook: .*{reason}"):
        read_cells(content)


@pytest.mark.fault("a notebook with malformed cells")
def test_malformed_cells_are_read_as_far_as_they_go():
    cells = [
        5,
        None,
        {},
        {"cell_type": 7, "source": 5},
        {"cell_type": "code", "source": ["a", 5, "b"]},
        {"cell_type": "code", "source": "x", "metadata": [], "id": 5},
        {"cell_type": "heading", "source": "y"},
        {"cell_type": "markdown", "source": "cut \ud83d", "metadata": {"nbgrader": {"grade_id": [1]}}},
    ]
    found = read_cells(json.dumps({"cells": cells}).encode())
    assert [(cell.kind, cell.source) for cell in found] == [
        ("raw", ""),
        ("raw", ""),
        ("code", "ab"),
        ("code", "x"),
        ("markdown", "# y"),
        ("markdown", "cut \ufffd"),
    ]
    assert not any(cell.grade_id or cell.id for cell in found)
