"""The table of faults says what the tests found, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import faults as plugin  # tests/faults.py, which conftest.py loads
import pytest
from commands import python

TESTS = """
import pytest

@pytest.mark.fault("a flood", tries=3)
@pytest.mark.parametrize("depth", [1, 2])
def test_the_house_stands(depth):
    pass

@pytest.mark.fault("a flood")
def test_the_cellar_is_dry():
    assert False

@pytest.mark.fault("fire")
@pytest.mark.skip
def test_the_alarm_rings():
    pass

def test_without_a_fault():
    pass
"""


def run(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "faults", "--faults", "notes.json"]
    environment = {"PYTHONPATH": str(Path(plugin.__file__).parent), "PATH": ""}
    subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, check=False)


def table(folder, *arguments):
    script = Path(plugin.__file__).parent.parent / "tools" / "faults.py"
    done = python(script, "notes.json", "--page", "page.md", *arguments, cwd=folder)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_house.py").write_text(TESTS)
    (tmp_path / "page.md").write_text("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    fault\n")
    return tmp_path


def test_each_fault_is_counted_with_its_outcome(folder):
    run(folder)
    code, said = table(folder)
    assert code == 1 and said == "test_house.py::test_the_cellar_is_dry: failed\n"
    assert (
        (folder / "page.md").read_text()
        == """before
<!-- faults -->
| fault | tried | outcome |
|---|---|---|
| a flood | 7 | [the cellar is dry](test_house.py) (failed 1 times)<br>[the house stands](test_house.py) |
| fire | 0 | [the alarm rings](test_house.py) (skipped 1 times) |
<!-- /faults -->
after
"""
    )


def test_a_test_that_runs_again_is_noted_anew_and_the_others_stay(folder):
    run(folder)
    (folder / "test_house.py").write_text(TESTS.replace("assert False", "pass"))
    run(folder, "-k", "cellar")
    assert len(json.loads((folder / "notes.json").read_text())) == 4
    assert table(folder) == (0, "7 faults, none of which did harm\n")


def test_check_writes_nothing_and_tells_an_old_table(folder):
    run(folder, "-k", "house and not cellar")
    before = (folder / "page.md").read_text()
    code, said = table(folder, "--check")
    assert code == 1 and "`make faults` writes it" in said and (folder / "page.md").read_text() == before
    table(folder)
    assert table(folder, "--check") == (0, "6 faults, none of which did harm\n")
    (folder / "test_house.py").write_text(TESTS.replace('tries=3)', 'tries=3)\n@pytest.mark.skip'))
    run(folder, "-k", "house and not cellar")
    assert table(folder, "--check") == (0, "0 faults, none of which did harm\n")  # what is skipped is not compared


def test_the_order_in_which_tests_end_does_not_change_the_table(folder):
    run(folder, "-k", "house")
    table(folder)
    notes = json.loads((folder / "notes.json").read_text())
    (folder / "notes.json").write_text(json.dumps(dict(reversed(notes.items()))).replace('"failed"', '"passed"'))
    table(folder)
    (folder / "notes.json").write_text(json.dumps(notes).replace('"failed"', '"passed"'))
    assert table(folder, "--check")[0] == 0


def test_without_notes_the_command_that_makes_them_is_named(folder):
    code, said = table(folder)
    assert code == 2 and "notes.json does not exist: `make faults` runs the tests that write it" in said
