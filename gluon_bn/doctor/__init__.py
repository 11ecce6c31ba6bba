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

from . import machine, packages
from .machine import CLONE, Platform, this_platform
from .packages import INSTALL, Answer, ask
from .result import Result

__all__ = ["CHECKS", "INSTALL", "Answer", "Platform", "Result", "ask", "main", "this_platform"]

CHECKS: dict[str, Callable[[], Result]] = {
    "python": machine.check_python,
    "platform": machine.check_platform,
    "threads": machine.check_threads,  # before the libraries: that check loads libgomp
    "libraries": machine.check_libraries,
    "settings": machine.check_settings,
    "setup": machine.check_setup,
    "folders": machine.check_folders,
    "compiler": machine.check_compiler,
    "numpy": packages.check_numpy,
    "mxnet": packages.check_mxnet,
    "d2l": packages.check_d2l,
    "matplotlib": packages.check_matplotlib,
    "data": packages.check_data,
    "fused": packages.check_fused,
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
