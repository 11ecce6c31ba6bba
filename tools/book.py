"""Build the static site from README.md and the notebooks:  python tools/book.py [OUT]

Nothing is executed: the notebooks contain their outputs. OUT defaults to build/book; open OUT/index.html.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def main(argv=None):
    (out,) = argv or sys.argv[1:] or [TOP / "build" / "book"]
    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(str(TOP / "docs" / "book"), str(source), ignore=shutil.ignore_patterns("__pycache__"))
        for file in files():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(TOP / file), str(source / file))
        pages = [file[: file.rindex(".")] for file in files() if file.endswith((".md", ".ipynb"))]
        (source / "_toc.yml").write_text(contents([page for page in pages if page != "README"]))
        jupyter_book = Path(sys.executable).with_name("jupyter-book")
        done = subprocess.run(
            [
                str(jupyter_book),
                "build",
                str(source),
                "--path-output",
                folder,
                "--warningiserror",
                "--keep-going",
                "--quiet",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            sys.stderr.write(done.stdout.decode())
            return done.returncode
        shutil.rmtree(str(out), ignore_errors=True)
        shutil.copytree(str(Path(folder) / "_build" / "html"), str(out))
        shutil.copy(str(out / "README.html"), str(out / "index.html"))  # replaces a page that only redirects there
    print(f"Open {out / 'index.html'}")
    return 0


def contents(pages):
    """Return the table of contents, with the notebooks in their own part."""
    parts = {
        "The chapter": [page for page in pages if (TOP / f"{page}.ipynb").exists()],
        "About the package": [page for page in pages if (TOP / f"{page}.md").exists()],
    }
    return "format: jb-book\nroot: README\nparts:\n" + "".join(
        f"- caption: {caption}\n  chapters:\n" + "".join(f"  - file: {page}\n" for page in chapters)
        for caption, chapters in parts.items()
    )


def files():
    """Return the files of the book: the README, the notebooks, and all that is reached from the README by links."""
    notebooks = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "notebooks").glob("*.ipynb"))
    found = ["README.md", *notebooks]
    for file in found:  # grows during the iteration
        if file.endswith(".md"):
            found += [linked for linked in links(TOP / file) if linked not in found]
    return found


def links(page):
    """Return the project's files that a Markdown page links to or shows."""
    targets = (page.parent / target for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")))
    return list(dict.fromkeys(target.resolve().relative_to(TOP).as_posix() for target in targets if target.is_file()))


if __name__ == "__main__":
    sys.exit(main())
