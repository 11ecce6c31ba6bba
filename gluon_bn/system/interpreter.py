"""The running Python: how to call this package with it, and whether it is a notebook's kernel."""

from __future__ import annotations

import os
import shlex
import sys

from ..errors import LoadError


def command_line(*arguments: str) -> str:
    """Return the shell command, for this folder, that runs `python -m gluon_bn` with these arguments in this Python."""
    relative = os.path.relpath(sys.executable)
    # a name without a slash would be searched on the PATH
    shortest = min(sys.executable, relative if os.sep in relative else os.path.join(os.curdir, relative), key=len)
    return " ".join(shlex.quote(word) for word in (shortest, "-m", "gluon_bn", *arguments))


ADVICE = "says what is wrong and what to do."


def load_error(what: str, error: Exception) -> LoadError:
    """Return the error that says why `what` cannot be loaded, and where to read what to do."""
    why = str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"
    advice = f"`{command_line('doctor')}` {ADVICE}"
    return LoadError(f"{what} cannot be loaded: {why}" + ("" if advice in why else f"\n{advice}"))


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel, which can update a figure."""
    return "IPython" in sys.modules and hasattr(sys.modules["IPython"].get_ipython(), "kernel")
