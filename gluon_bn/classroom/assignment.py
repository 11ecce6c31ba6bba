"""Make the assignment for students:  python -m gluon_bn.classroom.assignment [--out FOLDER]

From notebooks/exercises/batch_norm.py, which holds tasks, solutions and tests, and from the settings in course.toml
beside it, nbgrader makes
- FOLDER/batch_norm.ipynb, the notebook to hand out, without solutions and hidden tests;
- FOLDER/course, nbgrader's folder with the source and the gradebook, from which `make grade` starts.

The notebook is stamped: its first code cell names the release, a digest of the source and the settings.
FOLDER defaults to build/assignment, and is replaced each time. No cell is run, and no network is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Set

import jupytext
import nbformat
from nbformat import NotebookNode

from ..errors import InputError
from . import configuration

TOP = Path(__file__).resolve().parents[2]  # must be a checkout: an installed package has no exercises
SOURCE = TOP / "notebooks" / "exercises" / "batch_norm.py"
NAME = "batch_norm"  # of the assignment and of its only notebook
OUT = TOP / "build" / "assignment"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SETTINGS = "course.toml"  # beside the source, and in the course's folder
STAMP = re.compile(r"^# release ([0-9a-f]{8}) of the assignment", re.MULTILINE)
CONFIG = '''\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "COURSE"
c.ClearSolutions.code_stub = {"python": """# YOUR CODE HERE
raise NotImplementedError("not written yet: put your code in place of this line")"""}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
'''


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="(default build/assignment)")
    out = parser.parse_args(argv).out.resolve()
    try:
        path = release(out)
    except InputError as error:
        parser.error(str(error))
    cells = nbformat.read(str(path), as_version=4).cells
    print(f"to hand out: {path}, release {stamp_of(cell.source for cell in cells)}")


def release(out: Path) -> Path:
    """Make FOLDER/batch_norm.ipynb and FOLDER/course, and return the notebook's path."""
    course = out / "course"
    if out.exists() and not course.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SystemExit(f"{out} {'holds other files' if out.is_dir() else 'is a file'}; name a new or empty folder")
    solution, settings = solved(), SOURCE.with_name(SETTINGS)
    shutil.rmtree(out, ignore_errors=True)
    (course / "source" / NAME).mkdir(parents=True)
    config = CONFIG.replace("COURSE", configuration.read(settings).course)
    (course / "nbgrader_config.py").write_text(config, encoding="utf-8")
    shutil.copyfile(settings, course / SETTINGS)
    nbformat.write(solution, str(course / "source" / NAME / f"{NAME}.ipynb"))
    nbgrader(course, "generate_assignment", NAME, "--create")
    released = course / "release" / NAME / f"{NAME}.ipynb"
    leaked = leaks(nbformat.read(str(released), as_version=4), solution)
    if leaked:
        raise SystemExit("not written, because it would reveal parts of the solution:\n" + "\n".join(leaked))
    return Path(shutil.copyfile(released, out / f"{NAME}.ipynb"))


def solved() -> NotebookNode:
    """Return the notebook with its solutions, tests and stamp, and stable cell ids.

    Raises: InputError for a mistake in the settings.
    """
    path = SOURCE.with_name(SETTINGS)
    settings, notebook = configuration.read(path), jupytext.read(str(SOURCE), fmt="py:percent")
    notebook.cells = configuration.apply(settings, notebook.cells, path)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{number}")
    content = json.dumps([settings.course, [(cell.id, cell.source, cell.metadata) for cell in notebook.cells]])
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    first.source = f"# release {digest} of the assignment\n{first.source}"
    return notebook


def stamp_of(sources: Iterable[str]) -> str:
    """Return the release named in these cells, or ""."""
    return next((found[1] for source in sources for found in [STAMP.search(source)] if found), "")


def leaks(notebook: NotebookNode, solution: NotebookNode) -> List[str]:
    """Return the lines of a notebook that belong to solutions, model answers or hidden tests only, and its outputs."""
    secret = secrets(solution)
    lines = [line.strip() for cell in notebook.cells for line in cell.source.splitlines()]
    return [line for line in lines if line in secret] + [
        f"an output of {cell.id}" for cell in notebook.cells if cell.get("outputs")
    ]


def secrets(solution: NotebookNode) -> Set[str]:
    """Return the lines that occur only in solutions, model answers or hidden tests."""
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
    return secret - public


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
