"""Build the web site:  python tools/book.py [OUT]

The front page is docs/book/index.md, followed by the notebooks, the students' assignment, and all pages that these link
to. Nothing is executed: the notebooks contain their outputs. OUT defaults to build/book; open OUT/index.html.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gluon_bn.classroom import assignment

TOP = Path(__file__).resolve().parent.parent
FRONT, ASSIGNMENT = "docs/book/index.md", "notebooks/exercises/assignment"


def main(argv=None):
    (out,) = argv or sys.argv[1:] or [TOP / "build" / "book"]
    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(str(TOP / "docs" / "book"), str(source), ignore=shutil.ignore_patterns("__pycache__"))
        for file in files():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(TOP / file), str(source / file))
            if file.endswith(".md"):  # code is not part of the site
                text = (source / file).read_text(encoding="utf-8")
                (source / file).write_text(re.sub(r"\[([^\]]+)\]\([^)]+\.py\)", r"\1", text), encoding="utf-8")
        shutil.copy(str(assignment.release(Path(folder) / "assignment")), str(source / f"{ASSIGNMENT}.ipynb"))
        (source / "_toc.yml").write_text(contents())
        build = [Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", folder]
        options = ["--warningiserror", "--keep-going", "--quiet"]
        done = subprocess.run([*build, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.stderr.write(done.stdout.decode())
            return done.returncode
        shutil.rmtree(str(out), ignore_errors=True)
        shutil.copytree(str(Path(folder) / "_build" / "html"), str(out))
    print(f"Open {out / 'index.html'}")
    return 0


def pages():
    """Return the pages of the book after the front page, by part, without file suffixes."""
    found = [file[: file.rindex(".")] for file in files() if file.endswith((".md", ".ipynb"))]
    exercises = [ASSIGNMENT, "notebooks/exercises/README"]
    return {
        "The chapter": [page for page in found if (TOP / f"{page}.ipynb").exists()],
        "The exercises": exercises,
        "About the package": [page for page in found if (TOP / f"{page}.md").exists() and page not in exercises],
    }


def contents():
    """Return the table of contents."""
    return "format: jb-book\nroot: index\nparts:\n" + "".join(
        f"- caption: {caption}\n  chapters:\n" + "".join(f"  - file: {page}\n" for page in chapters)
        for caption, chapters in pages().items()
    )


def files():
    """Return the book's files except the front page: the notebooks, and all that links from the front page reach."""
    notebooks = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "notebooks").glob("*.ipynb"))
    found = [*notebooks, *links(TOP / FRONT, TOP)]
    for file in found:  # grows during the iteration
        if file.endswith(".md"):
            found += [linked for linked in links(TOP / file) if linked not in found]
    return found


def links(page, folder=None):
    """Return the project's files that a Markdown page links to or shows, except code."""
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    paths = [((folder or page.parent) / target).resolve() for target in targets if not target.endswith(".py")]
    return list(dict.fromkeys(path.relative_to(TOP).as_posix() for path in paths if path.is_file()))


if __name__ == "__main__":
    sys.exit(main())
