"""`python -m gluon_bn doctor`: checks what works on this machine, and says what to do about the rest.

It imports only the standard library and runs on Python 3.7, because it must work where nothing else does.
Each package is tried in a separate Python process, so that even a crash is reported.
The arguments of each check describe what to examine; by default, this machine.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Callable, Sequence

from .machine import (
    CLONE,
    Platform,
    check_compiler,
    check_folders,
    check_libraries,
    check_platform,
    check_python,
    check_settings,
    check_setup,
    check_threads,
    this_platform,
)
from .packages import (
    INSTALL,
    Answer,
    ask,
    check_d2l,
    check_data,
    check_fused,
    check_matplotlib,
    check_mxnet,
    check_numpy,
)
from .result import Result

__all__ = ["CHECKS", "INSTALL", "Answer", "Platform", "Result", "ask", "main", "this_platform"]

CHECKS: dict[str, Callable[[], Result]] = {
    "python": check_python,
    "platform": check_platform,
    "threads": check_threads,  # before the libraries: that check loads libgomp
    "libraries": check_libraries,
    "settings": check_settings,
    "setup": check_setup,
    "folders": check_folders,
    "compiler": check_compiler,
    "numpy": check_numpy,
    "mxnet": check_mxnet,
    "d2l": check_d2l,
    "matplotlib": check_matplotlib,
    "data": check_data,
    "fused": check_fused,
}


def own_python() -> str:
    """Return the Python of the project's .venv; "" if there is none, or if it is the one running."""
    folder = CLONE / ".venv"
    python = folder / "bin" / "python"
    return os.path.relpath(python) if python.exists() and Path(sys.prefix).resolve() != folder.resolve() else ""


def main(names: Sequence[str] = ()) -> int:
    """Run all checks, or those named, and print a line for each; return 0 if all are ok, else 1."""
    own = "" if names else own_python()
    if own:
        print(f"This is not .venv's Python: use {shlex.quote(own)} -m gluon_bn doctor", flush=True)
    all_ok, by_hand = True, not own  # whether the user must install packages by hand, because set-up cannot
    for name in names or CHECKS:
        result = CHECKS[name]()
        print(f"{result.name:11} {'ok    ' if result.ok else 'WRONG '} {result.text}", flush=True)
        if result.remedy and (by_hand or "pip install" not in result.remedy):
            print(f"{'':11} to do: {result.remedy}", flush=True)
        all_ok = all_ok and result.ok
        by_hand = by_hand and (result.ok or name != "setup")
    return 0 if all_ok else 1
