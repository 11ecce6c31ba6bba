"""Write the times and errors of the layers into docs/speed.md and README.md:  python tools/speed.py [--check]

They come from the benchmark's page, docs/benchmark/README.md, which `python -m gluon_bn bench` writes, and go
between <!-- speed --> and <!-- /speed -->: the tables into docs/speed.md, the ratios in words into README.md.

--check writes nothing, and exits with 1 if a page is not up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent
COLUMNS = {
    "batch_norm": "`batch_norm`",
    "portable": "`fused_batch_norm`, portable",
    "native": "`fused_batch_norm`, native",
    "Gluon": "Gluon",
    "PyTorch": "PyTorch",
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and say whether the pages are up to date")
    arguments = parser.parse_args(argv)
    page = (TOP / "docs" / "benchmark" / "README.md").read_text(encoding="utf-8")
    complaints = block.update(TOP / "docs" / "speed.md", "speed", summary(page), arguments.check)
    complaints += block.update(TOP / "README.md", "speed", sentence(page), arguments.check)
    print("\n".join(complaints), end="\n" if complaints else "", file=sys.stderr)
    return 1 if complaints else 0


def summary(page):
    """Return the layers' times, ratios in words, and errors, from the benchmark's page."""
    times, errors, ratios = (
        rows(page, title) for title in ("Layer, forward + backward", "Error against float64", "Ratios")
    )
    columns = [name for name in COLUMNS if times[0].get(name, "-") != "-"]
    return "\n".join(
        [
            textwrap.fill(
                f"Forward + backward of one layer in milliseconds, {where(page)}, each framework in its own process:",
                120,
            ),
            "",
            table(
                "X", columns, [(row["X"], [row[name].split()[0] for name in columns]) for row in times]
            ),  # no multiples
            "",
            textwrap.fill(in_words(ratios), 120),
            "",
            "The relative error of Y against float64, by the mean of X in standard deviations:",
            "",
            table(
                "mean", columns, [(row["mean"], [row[name] for name in columns]) for row in errors if row["of"] == "Y"]
            ),
            "",
        ]
    )


def sentence(page):
    """Return the ratios of the times in words, and where they were measured."""
    return (
        textwrap.fill(f"Forward + backward of `fused_batch_norm`, {where(page)}. {in_words(rows(page, 'Ratios'))}", 120)
        + "\n"
    )


def where(page):
    """Return the machine, the date and PyTorch's version from the benchmark's page."""
    cores, date = (re.search(pattern, page).group(1) for pattern in (r"(\d+) cores", r"# The benchmark, (\S+)"))
    machine = re.search(r"\n\n(.+?), \d+ cores", page).group(1)
    torch = re.search(r"torch (\d+\.\d+)", page)
    return f"on {machine} with {cores} cores, measured on {date}" + (f" with PyTorch {torch.group(1)}" if torch else "")


def table(first, columns, lines):
    """Return a Markdown table with the lowest number of each line in bold; lines: (name, cells)."""
    head = [f"| {first} | {' | '.join(COLUMNS[name] for name in columns)} |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join(
        head
        + [
            f"| {name} | {' | '.join(f'**{cell}**' if cell == min(cells, key=number) else cell for cell in cells)} |"
            for name, cells in lines
        ]
    )


def rows(page, title):
    """Return the table in a section of the page as a list of {heading: cell}."""
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(table[0], cells)) for cells in table[2:]]


def number(text):
    return float(text.replace(",", ""))


def in_words(ratios):
    """Say how many times as fast as the others the native path is, for convolutions and for dense layers."""
    parts = []
    for kind, shape in (("convolutions", r"\(\d+, \d+, .*\)"), ("dense layers", r"\(\d+, \d+\)")):
        times = []
        for other in ("Gluon", "PyTorch"):
            values = [
                1 / number(row["measured"])
                for row in ratios
                if re.fullmatch(f"layer {shape}: native / {other}", row[""])
            ]
            times += [f"{min(values):.1f} to {max(values):.1f} times as fast as {other}"] if values else []
        parts.append(f"On {kind}, native is {' and '.join(times)}.")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
