"""This Python: how to call this package again, and whether it is a notebook's."""

from __future__ import annotations

import os
import shlex
import sys


def command_line(*arguments: str) -> str:
    """The line for a shell in this folder that runs `python -m gluon_bn` with these arguments, by this Python."""
    relative = os.path.relpath(sys.executable)
    # a name without a slash would be looked for on the PATH
    shortest = min(sys.executable, relative if os.sep in relative else os.path.join(os.curdir, relative), key=len)
    return " ".join(shlex.quote(word) for word in (shortest, "-m", "gluon_bn", *arguments))


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, which can show a figure that grows."""
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")
