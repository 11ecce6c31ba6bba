"""Where the project was shown to work:  python tools/reach.py [--check | --proved WHAT [-- COMMAND ...]]

Without arguments, it writes the table in docs/reach.md from docs/reach.jsonl, which has one record per line.
--proved adds a record of this Python on this system, if COMMAND succeeds:
    .venv/bin/python tools/reach.py --proved "fast tests" -- make test
"""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent
RECORDS = TOP / "docs" / "reach.jsonl"
PROOFS = ("main job", "fast tests", "all tests")  # columns of the table


@dataclass(frozen=True)
class Record:
    """One success in one place; a later record of the same place and proof replaces it."""

    system: str  # "Debian 13"
    setting: str  # "fresh": a bare system; "container"; "": any other machine
    python: str  # "3.13.5"
    architecture: str  # "x86_64"
    emulated: bool
    proof: str  # one of PROOFS, or something else that was done
    date: str
    commit: str
    setup_seconds: float | None = None


def here(proof, setting="", emulated=False, commit=""):
    """Return the record that `proof` succeeded now, with this Python, on this system."""
    release = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
    release = {name: value.strip("\"'") for name, value in release.items()}
    number = release.get("VERSION_ID") or release.get("VERSION_CODENAME", "")
    system = f"{release['ID'].capitalize()} {number}".strip() if "ID" in release else platform.system()
    python, machine, today = platform.python_version(), platform.machine(), datetime.date.today().isoformat()
    return Record(system, setting, python, machine, emulated, proof, today, commit or described_commit())


def described_commit():
    """Return the short name of the clone's commit, with "-dirty" if files differ from it; "" without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def read(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def load(file):
    return [Record(**json.loads(line)) for line in read(file).splitlines()]


def place(record):
    minor = tuple(int(part) for part in record.python.split(".")[:2])
    return record.system, record.setting, record.architecture, record.emulated, minor


def add(file, *records):
    """Add records to a file; each replaces the one of the same place and proof."""
    kept = {(place(record), record.proof): record for record in [*load(file), *records]}
    lines = [json.dumps(asdict(record)) for _, record in sorted(kept.items(), key=str)]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def table(records):
    """Return the table as Markdown, with one row per place, newest Python first."""
    rows = {}
    for record in records:
        rows.setdefault(place(record), []).append(record)
    others = sorted({record.proof for record in records} - set(PROOFS))
    head = ["system", "Python", "processor", "set-up", *PROOFS, *others]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for where in sorted(rows, key=lambda where: (where[1], where[0], [-part for part in where[4]], where)):
        proven = rows[where]
        last = max(proven, key=lambda record: record.date)
        seconds = [record.setup_seconds for record in proven if record.setup_seconds is not None]
        dates = {record.proof: record.date for record in proven}
        cells = [
            last.system + (f", {last.setting}" if last.setting else ""),
            last.python,
            last.architecture + (", emulated" if last.emulated else ""),
            f"{seconds[-1]:.0f} s" if seconds else "",
            *(dates.get(proof, "") for proof in [*PROOFS, *others]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "".join(line + "\n" for line in lines)


def main(argv=None):
    parser = block.parser(__doc__)
    parser.add_argument("--proved", metavar="WHAT", help=f"add a record: {', '.join(PROOFS)}, or something else")
    parser.add_argument("--setting", default="", help="with --proved: the kind of system, for example container")
    parser.add_argument("--emulated", action="store_true", help="with --proved: the processor was emulated")
    parser.add_argument("--commit", default="", help="with --proved: the commit, if there is no git")
    parser.add_argument("--print", action="store_true", help="with --proved: print the record instead of adding it")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="with --proved: the command that must succeed")
    arguments = parser.parse_args(argv)
    if arguments.proved:
        if arguments.command and subprocess.run(arguments.command, cwd=TOP).returncode:
            print(f"not recorded, because {' '.join(arguments.command)} failed", file=sys.stderr)
            return 1
        record = here(arguments.proved, arguments.setting, arguments.emulated, arguments.commit)
        if arguments.print:
            print(json.dumps(asdict(record)))
            return 0
        add(RECORDS, record)
    wrong = block.update(TOP / "docs" / "reach.md", "reach", table(load(RECORDS)), arguments.check)
    return block.report(wrong)


if __name__ == "__main__":
    sys.exit(main())
