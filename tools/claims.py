"""Complete the table of the chapter's claims in docs/claims.md:  python tools/claims.py [--check]

The first two columns, between <!-- claims --> and <!-- /claims -->, are written by hand; this fills in the others. A
claim is shown where a notebook says *Claim C01* in a section, and asserted where a test is marked
@pytest.mark.claim("C01").

--check writes nothing, and exits with 1 if the table is not up to date, or if a claim has no section or no test.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent


def main(argv=None):
    arguments = block.parser(__doc__).parse_args(argv)
    page = TOP / "docs" / "claims.md"
    claims, shown, tested = phrases(page), sections(), tests()
    wrong = [
        f"{claim} has no {what}"
        for what, found in (("notebook section", shown), ("test", tested))
        for claim in claims
        if claim not in found
    ]
    wrong += [
        f"{claim} is not a claim, but is named in {where[0]}"
        for found in (shown, tested)
        for claim, where in found.items()
        if claim not in claims
    ]
    wrong += block.update(page, "claims", table(claims, shown, tested), arguments.check)
    return block.report(wrong, f"{len(claims)} claims, each with a section and a test")


def phrases(page):
    """Return {claim: what the chapter says}, from the page."""
    return dict(re.findall(r"(?m)^\| (C\d\d) \| (.*?) \|", page.read_text(encoding="utf-8")))


def table(claims, shown, tested):
    rows = [
        f"| {claim} | {phrase} | {_some(shown.get(claim, []), 2)} | {_some(tested.get(claim, []), 1)} |"
        for claim, phrase in claims.items()
    ]
    return "\n".join(["| | the chapter says | shown in | asserted by |", "|---|---|---|---|", *rows, ""])


def _some(places, count):
    more = len(places) - count
    return "<br>".join(places[:count]) + (f" and {more} more" if more > 0 else "")


def sections():
    """Return {claim: [link to the notebook, with the section's heading]}, in reading order."""
    found = {}
    for path in sorted((TOP / "notebooks").glob("*.ipynb")):
        heading = ""
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "markdown":
                continue
            for line in re.split(r"(?m)^(?=#+ )", "".join(cell["source"])):
                title = re.match(r"#+ (.*)", line)
                heading = title.group(1).strip() if title else heading
                for mention in re.findall(r"\*Claims? ([^*]+)\*", line):
                    for claim in re.findall(r"\bC\d\d\b", mention):
                        place = f"[{path.stem[:2]}: {heading}](../notebooks/{path.name})"
                        if place not in found.setdefault(claim, []):
                            found[claim].append(place)
    return found


def tests():
    """Return {claim: [link to the file, with the sentence that the test proves]}, from @pytest.mark.claim(...)."""
    found = {}
    files = (TOP / "tests").rglob("test_*.py")
    for path in sorted(files, key=lambda path: (not path.name.startswith("test_claims_"), path.name)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and _is_claim(decorator.func):
                        words = node.name.split("_", 1)[1].replace("_", " ")
                        sentence = words.replace("gluons", "Gluon's").replace("layers maths", "layer's maths")
                        link = f"[{sentence}](../{path.relative_to(TOP).as_posix()})"
                        for argument in decorator.args:
                            found.setdefault(ast.literal_eval(argument), []).append(link)
    return found


def _is_claim(function):
    return isinstance(function, ast.Attribute) and function.attr == "claim"  # ast.unparse needs Python 3.9


if __name__ == "__main__":
    sys.exit(main())
