"""The layers' times and errors in the pages come from the benchmark's records, and are up to date."""

import json

import pytest
import speed  # tools/speed.py


def layer(shape, threads, **milliseconds):
    return {
        "shape": shape,
        "threads": threads,
        "both": {name: {"median": value / 1e3} for name, value in milliseconds.items()},
    }


RATIOS = {
    "layer (8, 6, 4, 4), 1 thread: native / Gluon": 0.24,
    "layer (8, 6, 9, 9), 1 thread: native / Gluon": 0.50,
    "layer (8, 6, 4, 4), 1 thread: native / PyTorch": 0.70,
    "layer (8, 6, 9, 9), 1 thread: native / PyTorch": 1.33,
    "layer (8, 120), 1 thread: native / Gluon": 1.12,
    "layer (8, 120), 1 thread: native / PyTorch": 2.80,
    "layer (8, 6, 4, 4), 4 threads: native / Gluon": 0.2,
    "layer (8, 120), 4 threads: native / Gluon": 0.5,
}
RECORD = {
    "date": "2030-01-02",
    "machine": {"processor": "A processor", "cores": 4, "instruction_sets": ["AVX2"], "GLUON_BN_ISA": "native"},
    "versions": {"mxnet": "1.9.1", "torch": "2.13.0+cpu"},
    "columns": ["scratch", "native", "gluon", "torch"],
    "layers": [
        layer([8, 6, 4, 4], 1, scratch=1166, native=0.98, gluon=4, torch=1.4, floor=0.3),
        layer([8, 6, 9, 9], 1, scratch=99, native=2, gluon=4, torch=1.5, floor=0.3),
        layer([8, 120], 1, scratch=3.56, native=0.28, gluon=0.25, torch=0.1, floor=0.01),
        layer([8, 120], 4, scratch=3.56, native=0.14, gluon=0.25, torch=0.1, floor=0.01),
    ],
    "accuracy": [
        {
            "shape": [8, 6, 4, 4],
            "mean": 0,
            "errors": {
                name: {"Y": error, "dX": 1e-9}
                for name, error in (("scratch", 3.9e-8), ("native", 3.4e-8), ("gluon", 9.9e-6), ("torch", 3.7e-8))
            },
        }
    ],
    "goals": [{"goal": goal, "value": value, "met": value <= 0.3} for goal, value in RATIOS.items()],
}


def test_times_errors_and_the_range_of_the_ratios_are_those_of_the_record():
    assert (
        speed.summary({"avx2": RECORD, "avx512": None})
        == """\
## AVX2

Forward + backward of one layer in milliseconds, on A processor with 4 cores (AVX2), measured on 2030-01-02 with PyTorch
2.13, each framework in its own process:

With one thread each:

| X | `batch_norm` | `fused_batch_norm`, native | Gluon | PyTorch |
|---|---|---|---|---|
| (8, 6, 4, 4) | 1,166 | **0.98** | 4.00 | 1.40 |
| (8, 6, 9, 9) | 99.0 | 2.00 | 4.00 | **1.50** |
| (8, 120) | 3.56 | 0.28 | 0.25 | **0.10** |

With 4 threads each:

| X | `batch_norm` | `fused_batch_norm`, native | Gluon | PyTorch |
|---|---|---|---|---|
| (8, 120) | 3.56 | 0.14 | 0.25 | **0.10** |

With one thread each: on convolutions, native is 2.0 to 4.2 times as fast as Gluon and 0.8 to 1.4 times as fast as
PyTorch; on dense layers, native takes 1.1 times as long as Gluon and 2.8 times as long as PyTorch.

With 4 threads each: on convolutions, native is 5.0 times as fast as Gluon; on dense layers, native is 2.0 times as fast
as Gluon.

Of 8 goals, 2 are met: [the whole result](benchmark/avx2.md).

The relative error of Y against float64, by the mean of X in standard deviations:

| mean | `batch_norm` | `fused_batch_norm`, native | Gluon | PyTorch |
|---|---|---|---|---|
| 0 | 3.9e-08 | **3.4e-08** | 9.9e-06 | 3.7e-08 |

## AVX-512

Not measured yet: `make bench ARGS="--json docs/benchmark/avx512.json --readme docs/benchmark/avx512.md"` on such a
processor makes the record.
"""
    )


def test_a_build_for_a_chosen_instruction_set_is_named():
    machine = {**RECORD["machine"], "instruction_sets": ["AVX2", "AVX-512"], "GLUON_BN_ISA": "avx2"}
    assert "4 cores (AVX2 and AVX-512), compiled for AVX2, measured" in speed.where({**RECORD, "machine": machine})


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "TOP", tmp_path)
    (tmp_path / "docs" / "benchmark").mkdir(parents=True)
    (tmp_path / "docs" / "benchmark" / "avx2.json").write_text(json.dumps(RECORD))
    for page in ("README.md", "docs/speed.md"):
        (tmp_path / page).write_text("above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow\n")
    return tmp_path


def test_only_what_stands_between_the_marks_is_written_anew(tree):
    assert speed.main([]) == 0
    records = {"avx2": RECORD, "avx512": None}
    for page, text in (("docs/speed.md", speed.summary(records)), ("README.md", speed.sentences(records))):
        assert (tree / page).read_text() == f"above\n<!-- speed -->\n{text}<!-- /speed -->\nbelow\n"
    assert "This version has not been measured on processors with AVX-512." in (tree / "README.md").read_text()
    assert speed.main(["--check"]) == 0


def test_check_sees_that_it_is_not_up_to_date_and_leaves_it(tree, capsys):
    before = (tree / "README.md").read_text()
    assert speed.main(["--check"]) == 1 and "run python tools/speed.py" in capsys.readouterr().err
    assert (tree / "README.md").read_text() == before


def test_a_page_without_the_marks_is_left_alone_and_named(tree, capsys):
    (tree / "README.md").write_text("nothing\n")
    assert speed.main([]) == 1 and "<!-- speed -->" in capsys.readouterr().err
    assert (tree / "README.md").read_text() == "nothing\n"


def test_the_pages_agree_with_the_benchmarks_records(capsys):
    assert speed.main(["--check"]) == 0, capsys.readouterr().err
