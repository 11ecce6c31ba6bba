"""What is kept of a run's result, into which the submission's code can write anything."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from gluon_bn.classroom.grading.outputs import LONGEST, with_outputs
from gluon_bn.errors import InputError

KIND = {"grade": True, "locked": True, "solution": False, "task": False}
TEST = {"nbgrader": {**KIND, "grade_id": "dense-test", "points": 3, "schema_version": 3}}


def shown(outputs, reply="ok", metadata=None):
    """The outputs that are taken of a cell."""
    notebook = new_notebook(cells=[new_code_cell("1", metadata=metadata or {})])
    result = {"cells": [{"cell_type": "code", "metadata": {"reply": reply}, "outputs": outputs}]}
    taken = with_outputs(notebook, json.dumps(result).encode())
    nbformat.validate(taken)
    assert taken.cells[0].source == "1" and taken.cells[0].metadata == (metadata or {})
    return taken.cells[0].outputs


@pytest.mark.fault("a test that did not run to its end")
@pytest.mark.parametrize("reply", [None, "error", "aborted", 5])
def test_a_test_that_did_not_run_has_an_error(reply):
    assert [output.ename for output in shown([], reply, TEST)] == ["NotRun"]


def test_of_a_test_only_the_reply_counts():
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
        error,
        {"output_type": "execute_result", "data": {"text/plain": "0.5"}, "metadata": {}, "execution_count": 1},
    ]
    assert [(output.output_type, output.get("name")) for output in shown(outputs, "ok", TEST)] == [("stream", "stdout")]
    assert [output.output_type for output in shown(outputs, "error", TEST)] == ["stream", "error"]


@pytest.mark.fault("outputs that are malformed, huge or hold lone surrogates", tries=5)
def test_outputs_are_cleaned():
    (text,) = shown([{"output_type": "stream", "name": "stdout", "text": ["cut \ud83d", "!"]}])
    assert text.text == "cut \ufffd!"
    (long,) = shown([{"output_type": "stream", "name": "stdout", "text": "x" * (LONGEST + 1)}])
    assert long.text.endswith("x... the rest is left out")
    (picture,) = shown([{"output_type": "display_data", "data": {"image/png": '"><script>', "text/plain": "a"}}])
    assert picture.data == {"text/plain": "a"}
    (widget,) = shown([{"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": {}}}])
    assert widget.data == {"text/plain": "(an output that a page cannot show)"}
    many = shown([{"output_type": "stream", "name": "stdout", "text": "x" * LONGEST}] * 20)
    assert [output.text for output in many] == ["(left out: too many outputs)\n"]


@pytest.mark.fault("a great many outputs of one cell")
def test_of_many_outputs_the_first_are_kept(monkeypatch):
    monkeypatch.setattr("gluon_bn.classroom.grading.outputs.MANY", 3)
    kept = shown([{"output_type": "display_data", "data": {"text/plain": str(i)}} for i in range(10)])
    assert [output.get("data", {}).get("text/plain") for output in kept] == ["0", "1", "2", None]
    assert kept[-1].text == "(7 more outputs are left out)\n"


@pytest.mark.fault("a result that the submission wrote itself")
@pytest.mark.parametrize(
    "result",
    [
        b"",
        b"[]",
        b'{"cells": 5}',
        b'{"cells": [{}]}',
        b'{"cells": []}',
        b'{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [{}]}]}',
    ],
)
def test_a_result_that_cannot_be_is_refused(result):
    with pytest.raises(InputError, match="it ran, but "):
        with_outputs(new_notebook(cells=[new_code_cell("1")]), result)
