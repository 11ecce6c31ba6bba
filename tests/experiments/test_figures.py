"""The tables and curves of the experiments."""

import re

import pytest

from gluon_bn.drawing import STYLES
from gluon_bn.experiments import figures
from gluon_bn.model import NORMS


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.7, "1,000"),
        (-31522.4, "-31,522"),
        (2e6, "2e6"),
        (1.5e6, "1.5e6"),
        (7.84e-6, "7.8e-6"),
        (1e-3, "0.001"),
        (9.99e-4, "1e-3"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (12345, "12345"),
        ("<0.5>", "&lt;0.5&gt;"),
    ],
)
def test_a_table_shows_numbers_with_at_most_three_digits_and_texts_and_counts_as_they_are(value, text):
    cells = re.findall(r"<td[^>]*>(.*?)</td>", figures.table([("name", value)], ["what", "value"]))
    assert [cell.strip() for cell in cells] == ["name", text]


def test_the_curves_of_two_norms_differ_in_their_dashes_for_their_greys_hardly_do():
    assert len({STYLES.get(norm, "-") for norm in NORMS}) == len(NORMS)


def test_a_notebook_shows_a_table_as_html():
    shown = figures.table([("a", 1)], ["name", "value"])
    assert shown._repr_html_() == shown  # without this method, IPython shows the source
