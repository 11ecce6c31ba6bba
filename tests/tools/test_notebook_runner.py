"""The program behind `make notebooks`: what it saves, and what it complains about."""

import pytest

pytest.importorskip("jupytext")
import nbformat

import notebooks  # tools/notebooks.py

pytestmark = pytest.mark.slow
TEXT = "# %% [markdown]\n# # Title\n\n# %%\n{}\n\n# %%\n2 * 21\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    return tmp_path


def write(folder, code, name="01_x"):
    (folder / f"{name}.py").write_text(TEXT.format(code))


def test_it_saves_both_files_with_outputs_and_nothing_of_the_machine(folder, capsys):
    write(folder, "import os\nprint('here')")
    assert notebooks.main([]) == 0
    notebook = nbformat.read(str(folder / "01_x.ipynb"), as_version=4)
    assert notebook.metadata == notebooks.METADATA and [cell.metadata for cell in notebook.cells] == [{}, {}, {}]
    assert [cell.execution_count for cell in notebooks.code_cells(notebook)] == [1, 2]
    assert notebook.cells[1].outputs[0].text == "here\n"
    assert notebook.cells[2].outputs[0].data == {"text/plain": "42"}
    assert (folder / "01_x.py").read_text() == TEXT.format("import os\nprint('here')")
    assert "01_x" in capsys.readouterr().out
    before = (folder / "01_x.ipynb").read_bytes()
    assert notebooks.main([]) == 0 and (folder / "01_x.ipynb").read_bytes() == before
    assert notebooks.main(["--check"]) == 0


@pytest.mark.parametrize(
    "code, complaint",
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('careful')", "code cell 1 prints to stderr"),
        ("import time\ntime.sleep(30)", "timed out"),
    ],
)
def test_check_fails_on_an_error_a_warning_and_a_long_run(folder, capsys, code, complaint):
    write(folder, code)
    assert notebooks.main(["--check", "--budget", "8"]) == 1
    assert complaint in capsys.readouterr().err
    assert not (folder / "01_x.ipynb").exists()


def test_check_fails_where_the_pair_differs(folder, capsys):
    write(folder, "1")
    assert notebooks.main([]) == 0
    write(folder, "2")
    assert notebooks.main(["--check"]) == 1
    assert "01_x.ipynb and 01_x.py differ" in capsys.readouterr().err


def test_a_notebook_that_fails_or_warns_or_was_changed_meanwhile_is_not_saved(folder, capsys):
    for code in ("1 / 0", "import warnings\nwarnings.warn('careful')"):
        write(folder, code)
        assert notebooks.main([]) == 1 and not (folder / "01_x.ipynb").exists()
        assert "01_x: not saved" in capsys.readouterr().err
    write(folder, "open('01_x.py', 'a').write('# later')")
    assert notebooks.main([]) == 1 and not (folder / "01_x.ipynb").exists()
    assert "changed while it ran" in capsys.readouterr().err


def test_controls_are_left_out_and_figures_stay(folder):
    write(folder, "# %matplotlib inline\nfrom gluon_bn.experiments import panel\npanel.show()")
    assert notebooks.main([]) == 0
    notebook = nbformat.read(str(folder / "01_x.ipynb"), as_version=4)
    (figure,) = notebook.cells[1].outputs
    assert "image/png" in figure.data and "widgets" not in notebook.metadata
