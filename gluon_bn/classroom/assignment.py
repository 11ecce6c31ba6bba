"""Make the assignment for students:  python -m gluon_bn.classroom.assignment [--out FOLDER]

From notebooks/exercises/batch_norm.py, which holds tasks, solutions and tests, nbgrader makes
- FOLDER/batch_norm.ipynb, the notebook to hand out, without solutions and hidden tests;
- FOLDER/course, nbgrader's folder with the source and the gradebook, from which `make grade` starts.

FOLDER defaults to build/assignment, and is replaced each time. No cell is run, and no network is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set

import jupytext
import nbformat
from nbformat import NotebookNode

TOP = Path(__file__).resolve().parents[2]  # must be a checkout: an installed package has no exercises
SOURCE = TOP / "notebooks" / "exercises" / "batch_norm.py"
NAME = "batch_norm"  # of the assignment and of its only notebook
OUT = TOP / "build" / "assignment"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CONFIG = '''\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "batch_norm"
c.ClearSolutions.code_stub = {"python": """# YOUR CODE HERE
raise NotImplementedError("not written yet: put your code in place of this line")"""}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
'''


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="(default build/assignment)")
    out = parser.parse_args(argv).out.resolve()
    release(out)
    print(f"to hand out: {out / NAME}.ipynb")


def release(out: Path) -> Path:
    """Make FOLDER/batch_norm.ipynb and FOLDER/course, and return the notebook's path."""
    course = out / "course"
    if out.exists() and any(out.iterdir()) and not course.exists():
        raise SystemExit(f"{out} holds other files; name a new or empty folder")
    shutil.rmtree(out, ignore_errors=True)
    (course / "source" / NAME).mkdir(parents=True)
    (course / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    nbformat.write(solved(), str(course / "source" / NAME / f"{NAME}.ipynb"))
    nbgrader(course, "generate_assignment", NAME, "--create")
    released = course / "release" / NAME / f"{NAME}.ipynb"
    leaked = leaks(nbformat.read(str(released), as_version=4), solved())
    if leaked:
        raise SystemExit("not written, because it would reveal parts of the solution:\n" + "\n".join(leaked))
    return Path(shutil.copyfile(released, out / f"{NAME}.ipynb"))


def solved() -> NotebookNode:
    """Return the notebook with its solutions and tests, and stable cell ids."""
    notebook = jupytext.read(str(SOURCE), fmt="py:percent")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{number}")
    return notebook


def leaks(notebook: NotebookNode, solution: NotebookNode) -> List[str]:
    """Return the lines of a notebook that belong to solutions, model answers or hidden tests only, and its outputs."""
    secret: Set[str] = set()
    public: Set[str] = set()
    for cell in solution.cells:
        inside = cell.cell_type == "markdown" and bool(cell.metadata.get("nbgrader", {}).get("grade"))
        for line in map(str.strip, cell.source.splitlines()):
            if re.match("### (BEGIN|END) ", line):
                inside = "BEGIN" in line
                secret.add(line)
            elif line:
                (secret if inside else public).add(line)
    lines = [line.strip() for cell in notebook.cells for line in cell.source.splitlines()]
    return [line for line in lines if line in secret - public] + [
        f"an output of {cell.id}" for cell in notebook.cells if cell.get("outputs")
    ]


def nbgrader(course: Path, *arguments: str) -> None:
    """Run nbgrader in a course's folder. Raises: SystemExit with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise SystemExit(f"nbgrader {arguments[0]} failed:\n{done.stdout}")


def environment() -> Dict[str, str]:
    """Return this process's environment with its Python's folder first on the PATH: nbgrader calls alembic by name."""
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(path)}


if __name__ == "__main__":
    main()
