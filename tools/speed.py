"""Write the times and errors of the layers into docs/speed.md and README.md:  python tools/speed.py [--check]

They come from the benchmark's records, docs/benchmark/avx2.json and avx512.json, one per instruction set, and go
between <!-- speed --> and <!-- /speed -->: the tables into docs/speed.md, the ratios in words into README.md.

--check writes nothing, and exits with 1 if a page is not up to date.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent
SETS = {"avx2": "AVX2", "avx512": "AVX-512"}
COLUMNS = {
    "scratch": "`batch_norm`",
    "portable": "`fused_batch_norm`, portable",
    "native": "`fused_batch_norm`, native",
    "gluon": "Gluon",
    "torch": "PyTorch",
}


def main(argv=None):
    check = block.parser(__doc__).parse_args(argv).check
    records = {name: read(name) for name in SETS}
    complaints = block.update(TOP / "docs" / "speed.md", "speed", summary(records), check)
    complaints += block.update(TOP / "README.md", "speed", sentences(records), check)
    return block.report(complaints, "The pages agree with the benchmark's records")


def read(name):
    """Return the record of an instruction set; None if there is none."""
    path = TOP / "docs" / "benchmark" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def summary(records):
    """Return a section for each instruction set: the layers' times, ratios in words, and errors."""
    return "\n".join(f"## {SETS[name]}\n\n{section(name, record)}" for name, record in records.items())


def section(name, record):
    if record is None:
        arguments = f'"--json docs/benchmark/{name}.json --readme docs/benchmark/{name}.md"'
        return fill(f"Not measured yet: `make bench ARGS={arguments}` on such a processor makes the record.") + "\n"
    columns = [column for column in COLUMNS if column in record["columns"]]
    what = "Forward + backward of one layer in milliseconds"
    parts = [fill(f"{what}, {where(record)}, each framework in its own process:")]
    for count in counts(record):
        rows = [
            (str(tuple(entry["shape"])), [milliseconds(entry["both"][column]["median"]) for column in columns])
            for entry in record["layers"]
            if entry["threads"] == count
        ]
        parts += [f"With {threads(count)} each:", table("X", columns, rows)]
    parts += [fill(in_words(record, count)) for count in counts(record)]
    met = sum(goal["met"] for goal in record["goals"])
    parts.append(f"Of {len(record['goals'])} goals, {met} are met: [the whole result](benchmark/{name}.md).")
    errors = [
        (f"{entry['mean']:,.0f}", [f"{entry['errors'][column]['Y']:.1e}" for column in columns])
        for entry in record["accuracy"]
        if entry["shape"] == record["accuracy"][0]["shape"]
    ]
    parts += ["The relative error of Y against float64, by the mean of X in standard deviations:"]
    return "\n\n".join([*parts, table("mean", columns, errors)]) + "\n"


def sentences(records):
    """Return the ratios of the times in words, and where they were measured, for each instruction set."""
    parts = []
    for name, record in records.items():
        if record is None:
            parts.append(f"This version has not been measured on processors with {SETS[name]}.")
        else:
            text = f"Forward + backward of `fused_batch_norm` on its compiled, native path, {where(record)}."
            parts.append(f"{text} {in_words(record, counts(record)[0])}")
    return "\n\n".join(map(fill, parts)) + "\n"


def counts(record):
    return list(dict.fromkeys(entry["threads"] for entry in record["layers"]))


def threads(count):
    return f"{'one' if count == 1 else count} thread{'s' * (count > 1)}"


def fill(text):
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def where(record):
    """Say on which machine, when, and with which version of PyTorch a record was made."""
    machine, torch = record["machine"], record["versions"].get("torch")
    sets = " and ".join(machine["instruction_sets"])
    built = "" if machine["GLUON_BN_ISA"] == "native" else f", compiled for {SETS[machine['GLUON_BN_ISA']]}"
    quick = " in a quick run" if "--quick" in record.get("command", "") else ""
    beside = f" with PyTorch {'.'.join(torch.split('.')[:2])}" if torch else ""
    computer = f"{machine['processor']} with {machine['cores']} cores ({sets}){built}"
    return f"on {computer}, measured{quick} on {record['date']}{beside}"


def table(first, columns, lines):
    """Return a Markdown table with the lowest number of each line in bold; lines: (name, cells)."""
    rows = [f"| {first} | {' | '.join(COLUMNS[name] for name in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in lines:
        lowest = min(cells, key=lambda cell: float(cell.replace(",", "")))
        rows.append(f"| {name} | {' | '.join(f'**{cell}**' if cell == lowest else cell for cell in cells)} |")
    return "\n".join(rows)


def milliseconds(seconds):
    return f"{seconds * 1e3:,.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def in_words(record, count):
    """Say how many times as fast as the others the native path is, for convolutions and for dense layers."""
    parts = []
    for kind, pattern in (("convolutions", r"\(\d+, \d+, .*\)"), ("dense layers", r"\(\d+, \d+\)")):
        times = []
        for other in ("Gluon", "PyTorch"):
            whole = rf"layer {pattern}, {count} threads?: native / {other}"
            values = [goal["value"] for goal in record["goals"] if re.fullmatch(whole, goal["goal"])]
            slower = values and min(values) > 1
            ratios = sorted(values if slower else [1 / value for value in values])
            ends = " to ".join(dict.fromkeys(f"{value:.1f}" for value in ratios[:: max(1, len(ratios) - 1)]))
            verb, measure = ("takes", "long") if slower else ("is", "fast")
            times += [f"{verb} {ends} times as {measure} as {other}"] if values else []
        comparison = re.sub(r"(is|takes) (.* and )\1 ", r"\1 \2", " and ".join(times))
        parts.append(f"{kind}, native {comparison}")
    return f"With {threads(count)} each: on {parts[0]}; on {parts[1]}."


if __name__ == "__main__":
    sys.exit(main())
