"""The commands that messages suggest."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import script

import gluon_bn
from gluon_bn.system.interpreter import command_line


@pytest.mark.parametrize(
    "folder, expected",
    [
        ("a clone", ".venv/bin/python -m gluon_bn --version"),
        ("a clone/.venv/bin", "./python -m gluon_bn --version"),
        (".", "'a clone/.venv/bin/python' -m gluon_bn --version"),
        ("../..", None),
    ],
)
def test_a_command_to_type_runs_this_python_in_a_shell(folder, expected, tmp_path, monkeypatch):
    python = tmp_path / "a clone" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    script(python, f'exec "{sys.executable}" "$@"')
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path / folder)
    line = command_line("--version")
    assert line == expected or expected is None
    monkeypatch.setenv("PYTHONPATH", str(Path(gluon_bn.__file__).parents[1]))
    done = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout == f"{gluon_bn.__version__}\n"


def test_arguments_are_quoted_for_a_shell():
    assert command_line("compare", "--resume", "a run").endswith(" -m gluon_bn compare --resume 'a run'")
