"""The outputs of a submission's run. Its code can write anything into the result, so every part is checked."""

from __future__ import annotations

import copy
import json
import re
from typing import Any, Dict, List

from nbformat import NotebookNode
from nbformat.v4 import new_output

from ...errors import InputError
from .hand_in import without_surrogates

LARGEST, MOST = 2**28, 2**24  # maximum bytes of the result, and of the outputs kept from it
LONGEST = 2**21  # maximum characters of an output
MANY = 500  # maximum number of outputs kept per cell, because each takes time
CUT = "... the rest is left out"
TEXTS = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml")
IMAGES = ("image/png", "image/jpeg")
OFF = re.compile(r"\bThe ([A-Za-z_ ]{1,40}?) is off in (training|prediction|recording|unrecorded)\b")
NOT_RUN = new_output("error", ename="NotRun", evalue="", traceback=["NotRun: a test that did not run has no points"])


def with_outputs(notebook: NotebookNode, result: bytes) -> NotebookNode:
    """Return the notebook with the outputs of its result. A test that did not finish gets an error as an output.

    Raises: InputError if the result does not belong to this notebook.
    """
    if len(result) > LARGEST:
        raise InputError(f"its outputs are larger than {LARGEST >> 20} MB")
    try:
        cells = json.loads(result)["cells"]
        replies = [cell["metadata"].get("reply") if cell["cell_type"] == "code" else None for cell in cells]
        outputs = [_all_cleaned(cell.get("outputs", [])) for cell in cells]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # it can hold anything
        raise InputError("it ran, but its result cannot be read") from None
    if len(cells) != len(notebook.cells):
        raise InputError("it ran, but its result has other cells")
    notebook, left = copy.deepcopy(notebook), MOST
    for cell, reply, shown in zip(notebook.cells, replies, outputs):
        if cell.cell_type != "code":
            continue
        test = bool(cell.metadata.get("nbgrader", {}).get("grade"))
        if test:
            shown = _of_test(shown, reply)
        for output in shown:
            left -= len(json.dumps(output))
        cell.outputs = shown if left > 0 or test else [new_output("stream", text="(left out: too many outputs)\n")]
    return notebook


def localized(notebook: NotebookNode) -> List[str]:
    """Return the first wrong quantities named in the tests' messages, such as "denominator in training"."""
    found: Dict[str, None] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
            text = " ".join(line for output in cell.outputs for line in output.get("traceback", []))
            for quantity, mode in OFF.findall(re.sub(r"\s+", " ", text)):
                found[f"{quantity} in {mode}"] = None
    return list(found)


def _of_test(outputs: List[NotebookNode], reply: Any) -> List[NotebookNode]:
    """Return outputs from which nbgrader, which looks at results and stderr, decides by the reply alone."""
    errors = [output for output in outputs if output.output_type == "error"]
    text = "".join(output.text for output in outputs if output.output_type == "stream")[:LONGEST]
    said = [new_output("stream", text=text)] if text else []
    if reply == "ok":
        return said
    return said + (errors[:1] or [NOT_RUN])


def _all_cleaned(outputs: List[Dict[str, Any]]) -> List[NotebookNode]:
    left_out = [new_output("stream", text=f"({len(outputs) - MANY} more outputs are left out)\n")]
    return [_cleaned(output) for output in outputs[:MANY]] + left_out * (len(outputs) > MANY)


def _cleaned(output: Dict[str, Any]) -> NotebookNode:
    kind = output["output_type"]
    if kind == "stream":
        name = "stderr" if output["name"] == "stderr" else "stdout"
        return new_output("stream", text=_text(output["text"]), name=name)
    if kind == "error":
        lines = [_text(line) for line in output["traceback"][:200]]
        return new_output("error", ename=_text(output["ename"]), evalue=_text(output["evalue"]), traceback=lines)
    data = {name: _text(output["data"][name]) for name in TEXTS + IMAGES if name in output["data"]}
    for name, value in list(data.items()):
        cut = name != "text/plain" and value.endswith(CUT)
        # an image becomes part of a URL in the page
        if cut or name in IMAGES and not re.fullmatch(r"[A-Za-z0-9+/=\s]*", value):
            del data[name]
    return new_output("display_data", data=data or {"text/plain": "(an output that a page cannot show)"})


def _text(value: Any) -> str:
    text = without_surrogates("".join(value) if isinstance(value, list) else str(value))
    return text if len(text) <= LONGEST else text[:LONGEST] + CUT
