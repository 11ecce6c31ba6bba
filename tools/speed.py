"""Write the times and errors of the layers into docs/speed.md and README.md:  python tools/speed.py [--check]

They come from the benchmark's page, docs/benchmark/README.md, which `python -m gluon_bn bench` writes, and go
between <!-- speed --> and <!-- /speed -->: the tables into docs/speed.md, the ratios in words into README.md.

--check writes nothing, and exits with 1 if a page is not up to date.
"""

from __future__ import annotations

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
    check = block.parser(__doc__).parse_args(argv).check
    page = (TOP / "docs" / "benchmark" / "README.md").read_text(encoding="utf-8")
    complaints = block.update(TOP / "docs" / "speed.md", "speed", summary(page), check)
    complaints += block.update(TOP / "README.md", "speed", sentence(page), check)
    return block.report(complaints, "The pages agree with the benchmark's page")


def summary(page):
    """Return the layers' times, ratios in words, and errors, from the benchmark's page."""
    times, errors = rows(page, "Layer, forward + backward"), rows(page, "Error against float64")
    columns = [name for name in COLUMNS if times[0].get(name, "-") != "-"]
    return f"""\
{fill(f"Forward + backward of one layer in milliseconds, {where(page)}, each framework in its own process:")}

{table("X", columns, [(row["X"], [row[name].split()[0] for name in columns]) for row in times])}

{fill(in_words(page))}

The relative error of Y against float64, by the mean of X in standard deviations:

{table("mean", columns, [(row["mean"], [row[name] for name in columns]) for row in errors if row["of"] == "Y"])}
"""


def sentence(page):
    """Return the ratios of the times in words, and where they were measured."""
    return fill(f"Forward + backward of `fused_batch_norm`, {where(page)}. {in_words(page)}") + "\n"


def fill(text):
    return textwrap.fill(text, 120)


def where(page):
    """Return the machine, the date and PyTorch's version from the benchmark's page."""
    cores, date = (re.search(pattern, page).group(1) for pattern in (r"(\d+) cores", r"# The benchmark, (\S+)"))
    machine = re.search(r"\n\n(.+?), \d+ cores", page).group(1)
    torch = re.search(r"torch (\d+\.\d+)", page)
    return f"on {machine} with {cores} cores, measured on {date}" + (f" with PyTorch {torch.group(1)}" if torch else "")


def table(first, columns, lines):
    """Return a Markdown table with the lowest number of each line in bold; lines: (name, cells)."""
    rows = [f"| {first} | {' | '.join(COLUMNS[name] for name in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in lines:
        lowest = min(cells, key=number)
        rows.append(f"| {name} | {' | '.join(f'**{cell}**' if cell == lowest else cell for cell in cells)} |")
    return "\n".join(rows)


def rows(page, title):
    """Return the table in a section of the page as a list of {heading: cell}."""
    section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(table[0], cells)) for cells in table[2:]]


def number(text):
    return float(text.replace(",", ""))


def in_words(page):
    """Say how many times as fast as the others the native path is, for convolutions and for dense layers."""
    measured = {row[""]: number(row["measured"]) for row in rows(page, "Ratios") if row[""].startswith("layer")}
    parts = []
    for kind, shape in (("convolutions", r"\(\d+, \d+, .*\)"), ("dense layers", r"\(\d+, \d+\)")):
        times = []
        for other in ("Gluon", "PyTorch"):
            pattern = f"layer {shape}: native / {other}"
            values = [1 / ratio for text, ratio in measured.items() if re.fullmatch(pattern, text)]
            times += [f"{min(values):.1f} to {max(values):.1f} times as fast as {other}"] if values else []
        parts.append(f"On {kind}, native is {' and '.join(times)}.")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
