"""Updates the part of a page that a program writes, between <!-- name --> and <!-- /name -->."""

from __future__ import annotations

import argparse
import sys


def parser(description):
    """Return the argument parser of a program that writes a table, with the option --check."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--check", action="store_true", help="write nothing, and say whether the table is up to date")
    return found


def report(wrong, right=""):
    """Print what is wrong, or else `right`, and return the exit code."""
    if wrong or right:
        print("\n".join(wrong) or right, file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


def update(page, name, content, check=False):
    """Put content between the marks, and return a list of complaints: that marks are missing, or, with check, which
    writes nothing, that the content is not up to date."""
    start, end = marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8")
    if not all(mark in text for mark in marks):
        return [f"{page.name} has no place for this: {start} and {end}"]
    old = current(page, name)
    if check and content != old:
        return [f"the part below {start} in {page.name} is not up to date; run python tools/{name}.py"]
    if content != old:
        page.write_text(text.replace(f"{start}\n{old}{end}", f"{start}\n{content}{end}"), encoding="utf-8")
    return []


def current(page, name):
    """Return the text between the marks."""
    return page.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]
