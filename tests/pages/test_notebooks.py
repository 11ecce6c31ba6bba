"""The committed notebooks: they ran from 1 to n, are readable, and equal their plain text. Nothing is run here."""

import ast
import re

import pytest

pytest.importorskip("jupytext")
import nbformat

import notebooks  # tools/notebooks.py

NAMES = notebooks.names()


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    return nbformat.read(str(notebooks.FOLDER / f"{name}.ipynb"), as_version=4)


def outputs(notebook):
    return [output for cell in notebooks.code_cells(notebook) for output in cell.outputs]


def test_there_are_notebooks_in_reading_order():
    assert NAMES and [int(name[:2]) for name in NAMES] == sorted({int(name[:2]) for name in NAMES})


def test_both_files_of_a_pair_hold_the_same_cells(name):
    assert notebooks.same_cells(name), f"run `make notebooks`, or save {name} in JupyterLab"


def test_a_pair_that_differs_is_told_apart(name, tmp_path, monkeypatch):
    text = (notebooks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    (tmp_path / f"{name}.ipynb").write_bytes((notebooks.FOLDER / f"{name}.ipynb").read_bytes())
    (tmp_path / f"{name}.py").write_text(text + "\n# %%\nprint('one cell more')\n", encoding="utf-8")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert not notebooks.same_cells(name)


def test_cells_were_run_from_1_to_n(notebook):
    cells = notebooks.code_cells(notebook)
    assert cells and [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert outputs(notebook)


def test_no_cell_failed_or_printed_to_stderr(notebook):
    assert [
        output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ] == []


def test_no_warning_and_no_path_of_a_machine_is_shown(notebook):
    for output in outputs(notebook):
        data = output.get("data", {})
        text = output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")
        assert not re.search(r"\w*Warning\b|/(home|root|tmp|work|usr|Users)/|site-packages", text), text[:300]


def test_metadata_tells_nothing_of_the_machine_or_the_time(notebook):
    assert notebook.metadata == notebooks.METADATA
    assert all(cell.metadata == notebooks.metadata(cell.metadata.get("tags", [])) for cell in notebook.cells)
    assert not any(notebooks.WIDGET in output.get("data", {}) for output in outputs(notebook))


def test_a_code_cell_has_at_most_fifteen_lines(notebook):
    for cell in notebooks.code_cells(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= 15 and max(map(len, lines)) <= 120, cell.source


def test_prose_comes_before_every_code_cell(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown" and ("code", "code") not in list(zip(kinds, kinds[1:]))


def test_no_line_inside_a_formula_looks_like_a_list(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for formula in re.findall(r"\$[^$]+\$", cell.source):
                assert not re.search(r"\n\s*[-+*] ", formula), formula


def test_it_asks_to_predict_checks_and_ends_with_what_was_not_shown(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any("predict" in text.lower() for text in prose)
    assert any(re.search(r"^\s*assert ", cell.source, re.MULTILINE) for cell in notebooks.code_cells(notebook))
    assert re.search(r"^## .*did not show", prose[-1], re.MULTILINE | re.IGNORECASE)


def test_the_predicted_output_and_its_answer_are_folded(notebook):
    asked = [
        (cell, notebook.cells[i + 1], notebook.cells[i + 2])
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown" and "**Predict" in cell.source
    ]
    assert asked
    for question, cell, _ in asked:
        assert cell.metadata.get("tags") == ["hide-output"], question.source
        assert not re.search(r"^\s*assert ", cell.source, re.MULTILINE), f"the code tells the answer: {cell.source}"
    answers = [answer for _, _, answer in asked if answer.source.startswith("<details><summary>Answer</summary>")]
    assert len(answers) >= 0.7 * len(asked)  # other answers come after a second cell
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert cell.source.count("<details>") == cell.source.count("</details>")
            folded = "".join(re.findall("<details>.*?</details>", cell.source, re.DOTALL))
            assert "**Predict" not in folded and not re.search("^#", folded, re.MULTILINE)


def test_a_table_is_shown_as_a_table_not_as_its_source(notebook):
    data = [output.data for output in outputs(notebook) if "data" in output]
    assert [shown for shown in data if "<table" in shown.get("text/plain", "") and "text/html" not in shown] == []


def test_what_checks_a_folded_answer_is_folded_too(notebook):
    for before, cell in zip(notebook.cells, notebook.cells[1:]):
        _, fold, after = before.source.rpartition("</details>")
        if fold and cell.get("outputs") and not re.search(r"^## |\*\*Try it", after, re.MULTILINE):
            assert cell.metadata.get("tags") == ["hide-output"], cell.source


def test_a_cell_of_only_asserts_is_folded(notebook):
    for cell in notebooks.code_cells(notebook):
        if all(isinstance(line, ast.Assert) for line in ast.parse(cell.source.replace("%matplotlib", "#")).body):
            assert cell.metadata.get("tags") == ["hide-input"], cell.source


def test_it_says_what_you_will_learn_what_you_need_and_how_long_it_takes(notebook):
    top = notebook.cells[0].source
    assert "**Afterwards you can**" in top and "**You need**" in top and "Reading takes about" in top
    prose = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    lines = sum(bool(line.strip()) for cell in notebooks.code_cells(notebook) for line in cell.source.splitlines())
    minutes = prose / 200 + lines / 20  # words and lines that a reader reads in a minute
    (said,) = re.findall(r"about (\d+)\s+minutes", top)
    assert minutes <= 30 and abs(int(said) - minutes) <= 3, (said, minutes)


def test_each_section_ends_with_something_to_try(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    sections = re.split("^## ", text, flags=re.MULTILINE)[1:-1]
    assert [section.splitlines()[0] for section in sections if section.count("**Try it.**") != 1] == []


def test_figures_are_there_as_pictures(notebook):
    pictures = {"image/png", "image/svg+xml"}
    shown = [output.data for output in outputs(notebook) if "data" in output]
    assert any(pictures & set(data) for data in shown)
    # without `%matplotlib inline` in the first cell, all that is left of a figure may be its name
    assert [data for data in shown if "<Figure size" in data.get("text/plain", "") and not pictures & set(data)] == []
