"""Write the table of faults into tests/README.md:  python tools/faults.py [--check] [NOTES]

Each row is a fault that tests simulate, how many times they did, and the outcome. All of it comes from NOTES
(build/faults.json), which the tests write: `make faults` runs them, and then this.

--check writes nothing, and exits with 1 if the table is not up to date or a test of a fault failed. Rows of which
this machine had to skip a part are not compared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent


def main(argv=None):
    parser = block.parser(__doc__)
    parser.add_argument("notes", nargs="?", type=Path, default=TOP / "build" / "faults.json", metavar="NOTES")
    parser.add_argument("--page", type=Path, default=TOP / "tests" / "README.md", help="(default: tests/README.md)")
    arguments = parser.parse_args(argv)
    try:
        notes = json.loads(arguments.notes.read_text(encoding="utf-8"))
    except FileNotFoundError:
        parser.error(f"{arguments.notes} does not exist: `make faults` runs the tests that write it")
    old, new = block.current(arguments.page, "faults").splitlines(), table(notes)
    wrong = [f"{test}: {note['outcome']}" for test, note in notes.items() if note["outcome"] == "failed"]
    if not arguments.check:
        wrong += block.update(arguments.page, "faults", "".join(f"{row}\n" for row in new))
    elif len(new) != len(old) or any(row not in old and "(skipped" not in row for row in new):
        wrong.append(f"the table in {arguments.page} differs from {arguments.notes}: `make faults` writes it")
    return block.report(wrong, f"{sum(tries(note) for note in notes.values())} faults, none of which did harm")


def table(notes):
    """Return a row for each fault, sorted by its text; tests of the same name count together."""
    rows = {}
    for note in notes.values():
        for fault in note["faults"]:
            outcomes = rows.setdefault(fault["what"], {}).setdefault((note["file"], note["test"]), {})
            outcomes[note["outcome"]] = outcomes.get(note["outcome"], 0) + fault["tries"]
    lines = ["| fault | tried | outcome |", "|---|---|---|"]
    for what, tests in sorted(rows.items()):
        tests = dict(sorted(tests.items()))  # parallel processes finish them in any order
        tried = sum(count for outcomes in tests.values() for outcome, count in outcomes.items() if outcome != "skipped")
        lines.append(f"| {what} | {tried} | {'<br>'.join(map(sentence, tests, tests.values()))} |")
    return lines


def sentence(test, outcomes):
    """Return a test's name as the sentence that it proves, with a link, and any outcome other than passed."""
    file, name = test
    said = f"[{name[len('test_') :].replace('_', ' ')}]({file})"
    others = [f"{outcome} {count} times" for outcome, count in sorted(outcomes.items()) if outcome != "passed"]
    return f"{said} ({', '.join(others)})" if others else said


def tries(note):
    return sum(fault["tries"] for fault in note["faults"]) if note["outcome"] != "skipped" else 0


if __name__ == "__main__":
    sys.exit(main())
