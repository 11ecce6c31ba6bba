"""Runs a submission's notebook, inside the sandbox:  python execute.py NOTEBOOK RESULT SECONDS

Each cell runs for at most SECONDS. The notebook is written to RESULT with its outputs; cell.metadata["reply"] says
how each cell ended. It imports nothing from this package, so the sandbox needs only this file. It exits when its
standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, Dict

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

DEAD, STUCK = 3, 4  # exit codes
MOST = 2**21  # bytes of output kept from a cell
TIMEOUT = {"ename": "CellTimeoutError", "evalue": "", "traceback": ["CellTimeoutError: the cell took too long"]}


class Client(NotebookClient):  # type: ignore[misc]  # nbclient counts as untyped
    """nbclient with a limit on the output that it keeps per cell."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.kept: Dict[int, int] = {}

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        before = self.kept.get(cell_index, 0)
        after = self.kept[cell_index] = before + len(json.dumps(msg["content"], default=str))
        if after <= MOST:
            return super().output(outs, msg, display_id, cell_index)
        if before <= MOST:
            outs.append(nbformat.v4.new_output("stream", text="\n... the rest of this output is left out\n"))
        return None


def main(notebook_path: str, result_path: str, seconds: str) -> int:
    threading.Thread(target=end_with_parent, daemon=True).start()
    notebook = nbformat.read(notebook_path, as_version=4)

    def record(cell: Any, cell_index: int, execute_reply: Any) -> None:
        content = execute_reply["content"]
        cell.metadata["reply"] = content["status"]
        if content["status"] != "ok" and not any(output.output_type == "error" for output in cell.outputs):
            cell.outputs.append(
                nbformat.v4.new_output("error", **{name: content.get(name, TIMEOUT[name]) for name in TIMEOUT})
            )

    client = Client(
        notebook,
        timeout=int(seconds),
        kernel_name="python3",
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout=TIMEOUT,
        raise_on_iopub_timeout=True,
        iopub_timeout=20,
        on_cell_executed=record,
    )
    try:
        client.execute()
    except DeadKernelError:
        return DEAD
    except CellTimeoutError:
        return STUCK
    with open(result_path, "w", encoding="utf-8", errors="replace") as file:
        json.dump(notebook, file)
    return 0


def end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # a kernel that does not exit must not keep this process alive
