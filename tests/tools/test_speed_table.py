"""The layers' times and errors in the pages: how they come from the benchmark's page, and that they are up to date."""

import pytest
import speed  # tools/speed.py

PAGE = """# The benchmark, 2030-01-02

A processor, 4 cores; mxnet 1.9.1, torch 2.13.0+cpu.

## Layer, forward + backward

| X            | batch_norm    | native      | Gluon       | PyTorch   | floor |
|--------------|---------------|-------------|-------------|-----------|-------|
| (8, 6, 4, 4) | 1,166 (1,555) | 0.98 (3.28) | 4.00 (15.5) | 1.4 (2)   | 0.30  |
| (8, 6, 9, 9) | 99 (2)        | 2.00 (3.28) | 4.00 (15.5) | 1.5 (2)   | 0.30  |
| (8, 120)     | 3.56 (365)    | 0.28 (27.8) | 0.25 (29.5) | 0.1 (2)   | 0.010 |

## Layer, forward

| X            | batch_norm | native | Gluon | PyTorch | floor |
|--------------|------------|--------|-------|---------|-------|
| (8, 6, 4, 4) | 7 (1)      | 7 (1)  | 7 (1) | 7 (1)   | 7     |

## Error against float64

| mean   | of | batch_norm | native  | Gluon   | PyTorch |
|--------|----|------------|---------|---------|---------|
| 0      | Y  | 3.9e-08    | 3.4e-08 | 9.9e-06 | 3.7e-08 |
| 0      | dX | 1.0e-09    | 1.0e-09 | 1.0e-09 | 1.0e-09 |

## Ratios

|                                      | measured | goal   | met |
|--------------------------------------|----------|--------|-----|
| layer (8, 6, 4, 4): native / Gluon   | 0.24     | <= 0.3 | yes |
| layer (8, 6, 9, 9): native / Gluon   | 0.50     | <= 0.3 | NO  |
| layer (8, 6, 4, 4): native / PyTorch | 0.70     | <= 0.3 | NO  |
| layer (8, 6, 9, 9): native / PyTorch | 1.33     | <= 0.3 | NO  |
| layer (8, 120): native / Gluon       | 1.12     | <= 0.7 | NO  |
| layer (8, 120): native / PyTorch     | 2.80     | <= 0.7 | NO  |
"""


def test_times_errors_and_the_range_of_the_ratios_are_those_of_the_page():
    assert (
        speed.summary(PAGE)
        == """\
Forward + backward of one layer in milliseconds, on A processor with 4 cores, measured on 2030-01-02 with PyTorch 2.13,
each framework in its own process:

| X | `batch_norm` | `fused_batch_norm`, native | Gluon | PyTorch |
|---|---|---|---|---|
| (8, 6, 4, 4) | 1,166 | **0.98** | 4.00 | 1.4 |
| (8, 6, 9, 9) | 99 | 2.00 | 4.00 | **1.5** |
| (8, 120) | 3.56 | 0.28 | 0.25 | **0.1** |

On convolutions, native is 2.0 to 4.2 times as fast as Gluon and 0.8 to 1.4 times as fast as PyTorch. On dense layers,
native is 0.9 to 0.9 times as fast as Gluon and 0.4 to 0.4 times as fast as PyTorch.

The relative error of Y against float64, by the mean of X in standard deviations:

| mean | `batch_norm` | `fused_batch_norm`, native | Gluon | PyTorch |
|---|---|---|---|---|
| 0 | 3.9e-08 | **3.4e-08** | 9.9e-06 | 3.7e-08 |
"""
    )


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "TOP", tmp_path)
    (tmp_path / "docs" / "benchmark").mkdir(parents=True)
    (tmp_path / "docs" / "benchmark" / "README.md").write_text(PAGE)
    for page in ("README.md", "docs/speed.md"):
        (tmp_path / page).write_text("above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow\n")
    return tmp_path


def test_only_what_stands_between_the_marks_is_written_anew(tree):
    assert speed.main([]) == 0
    for page, text in (("docs/speed.md", speed.summary(PAGE)), ("README.md", speed.sentence(PAGE))):
        assert (tree / page).read_text() == f"above\n<!-- speed -->\n{text}<!-- /speed -->\nbelow\n"
    assert speed.main(["--check"]) == 0


def test_check_sees_that_it_is_not_up_to_date_and_leaves_it(tree, capsys):
    before = (tree / "README.md").read_text()
    assert speed.main(["--check"]) == 1 and "run python tools/speed.py" in capsys.readouterr().err
    assert (tree / "README.md").read_text() == before


def test_a_page_without_the_marks_is_left_alone_and_named(tree, capsys):
    (tree / "README.md").write_text("nothing\n")
    assert speed.main([]) == 1 and "<!-- speed -->" in capsys.readouterr().err
    assert (tree / "README.md").read_text() == "nothing\n"


def test_the_pages_agree_with_the_benchmarks_page(capsys):
    assert speed.main(["--check"]) == 0, capsys.readouterr().err
