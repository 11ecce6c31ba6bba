"""A sample of the generated mistakes, and with --long all of them; `make mistakes` prints the whole table."""

import mutations
import pytest

FAULT = "one node of a right implementation changed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, number_of_pairs",
    [
        pytest.param(5, 3, marks=pytest.mark.fault(FAULT, tries=45)),
        pytest.param(48, 12, marks=[pytest.mark.fault(FAULT, tries=432), pytest.mark.long]),
    ],
)
def test_the_check_finds_the_first_wrong_quantity_of_generated_mistakes(count, number_of_pairs):
    singles, pairs = mutations.table(count, number_of_pairs)
    made, localized, explained, invented = singles
    assert made == 9 * count and localized >= 0.95 * made and explained >= 0.8 * made and invented == 0
    made, localized, _, invented = pairs
    assert made == 9 * number_of_pairs and localized - invented >= 0.9 * made and invented <= made // 100
