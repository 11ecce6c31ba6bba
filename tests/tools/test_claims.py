"""The table of claims: what it collects and reports as missing, and that its page is up to date."""

import json

import claims  # tools/claims.py
import pytest


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project with two claims, one notebook, one file of tests, and a page."""
    monkeypatch.setattr(claims, "TOP", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "claims.md").write_text(
        "above\n<!-- claims -->\n| C01 | one |\n| C02 | two; *if it is so* |\n<!-- /claims -->\nbelow\n"
    )
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import pytest\n@pytest.mark.claim('C01', 'C02')\ndef test_both(): pass\n"
        "@pytest.mark.claim('C01')\ndef test_one(): pass\n"
    )
    return tmp_path


def write_notebook(tree, *markdown):
    cells = [{"cell_type": "markdown", "source": [text]} for text in markdown]
    (tree / "notebooks" / "01_x.ipynb").write_text(json.dumps({"cells": cells}))


def test_the_table_names_claim_condition_section_and_test(tree):
    write_notebook(tree, "# Title\n*Claim C01.* See.", "## Part\ntext\n\n### Last\n*Claims C01 and C02*: see")
    assert claims.main([]) == 0
    text = (tree / "docs" / "claims.md").read_text()
    assert text.startswith("above\n<!-- claims -->\n|") and text.endswith("|\n<!-- /claims -->\nbelow\n")
    place = "(../notebooks/01_x.ipynb)"
    assert f"| C01 | one | [01: Title]{place}<br>[01: Last]{place} | [both](../tests/test_it.py) and 1 more |" in text
    assert f"| C02 | two; *if it is so* | [01: Last]{place} | [both](../tests/test_it.py) |" in text


def test_a_claim_without_section_or_test_is_named(tree, capsys):
    write_notebook(tree, "# Title\n*Claim C01* and C02 in passing")
    (tree / "tests" / "test_it.py").write_text("import pytest\n@pytest.mark.claim('C02')\ndef test_two(): pass\n")
    assert claims.main([]) == 1
    assert capsys.readouterr().err == "C02 has no notebook section\nC01 has no test\n"


def test_a_claim_that_does_not_exist_is_named(tree, capsys):
    write_notebook(tree, "# Title\n*Claim C01*, *Claim C02*, *Claim C03*")
    assert claims.main([]) == 1
    assert "C03 is not a claim, but is named in [01: Title]" in capsys.readouterr().err


def test_check_sees_a_table_that_is_not_up_to_date_and_leaves_it(tree, capsys):
    write_notebook(tree, "# Title\n*Claim C01*, *Claim C02*")
    before = (tree / "docs" / "claims.md").read_text()
    assert claims.main(["--check"]) == 1 and "not up to date" in capsys.readouterr().err
    assert (tree / "docs" / "claims.md").read_text() == before
    assert claims.main([]) == 0 and claims.main(["--check"]) == 0


def test_all_31_claims_are_in_the_table():
    assert list(claims.phrases(claims.TOP / "docs" / "claims.md")) == [f"C{number:02}" for number in range(1, 32)]


def test_the_page_has_the_table_and_no_claim_is_without_section_or_test(capsys):
    assert claims.main(["--check"]) == 0, capsys.readouterr().err
