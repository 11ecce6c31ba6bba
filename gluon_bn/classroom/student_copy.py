"""Make the copy of the project that students get:  python -m gluon_bn.classroom.student_copy [--out FILE]

It releases the assignment, as `make assignment` does. FILE (default build/gluon_bn-students.zip) contains the notebook
and the files that set-up and the exercises need. It leaves out the chapter's layers, nets, experiments and notebooks.
It is not written if any file contains a line of a solution, a model answer or a hidden test.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from ..errors import InputError
from . import assignment
from .assignment import NAME, TOP

OUT = TOP / "build" / "gluon_bn-students.zip"
ROOMS = ("check", "data", "doctor", "system", "training", "workers")
FILES = (
    *(f"gluon_bn/{name}.py" for name in ("__init__", "__main__", "cli", "devices", "drawing", "errors")),
    *(f"gluon_bn/classroom/{name}.py" for name in ("__init__", "checks", "workbench")),
    *("gluon_bn/py.typed", "LICENSE", "pyproject.toml", "requirements.txt"),
    *("tools/make_venv.sh", "tools/mxnet.pth", "tools/wheelhouse.py"),
)
TARGETS = ("help", "lab", "doctor", "clean")  # of the Makefile
LONG = 30  # characters; a shorter line, such as `return Y`, may occur anywhere


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="(default build/gluon_bn-students.zip)")
    out = parser.parse_args(argv).out.resolve()
    try:
        contents = files(assignment.release(assignment.OUT))
    except InputError as error:
        parser.error(str(error))
    leaked = leaks(contents)
    if leaked:
        raise SystemExit("not written, because it would reveal parts of the solution:\n" + "\n".join(leaked))
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(f"gluon_bn/{name}", content)
    print(f"to hand out: {out}, {len(contents)} files")


def files(notebook: Path) -> Dict[str, str]:
    """Return the text of each file of the copy. notebook: the released assignment."""
    paths = [TOP / name for name in FILES] + sorted((TOP / "requirements").iterdir())
    for room in ROOMS:
        paths += sorted((TOP / "gluon_bn" / room).rglob("*.py"))
    found = {path.relative_to(TOP).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    blocks = (TOP / "Makefile").read_text(encoding="utf-8").split("\n\n")
    targets = [(re.findall(r"(?m)^([a-z-]+):.*##", block), block) for block in blocks]
    found["Makefile"] = "\n\n".join(block for names, block in targets if set(names) <= set(TARGETS))
    found["README.md"] = (assignment.SOURCE.parent / "STUDENTS.md").read_text(encoding="utf-8")
    found[f"notebooks/{NAME}.ipynb"] = notebook.read_text(encoding="utf-8")
    return found


def leaks(found: Dict[str, str]) -> List[str]:
    """Return the lines of these files that occur only in solutions, model answers or hidden tests."""
    secret = {line for line in assignment.secrets(assignment.solved()) if len(line) >= LONG}
    lines = [(name, line.strip()) for name, text in found.items() for line in text.splitlines()]
    return [f"{name}: {line}" for name, line in lines if line in secret]


if __name__ == "__main__":
    main()
