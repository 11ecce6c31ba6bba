"""A sample of the generated mistakes; `make mistakes` prints the whole table."""

import mutations
import pytest


@pytest.mark.slow
@pytest.mark.fault("one node of a right implementation changed", tries=27)
def test_the_check_finds_the_first_wrong_quantity_of_generated_mistakes_and_invents_none():
    singles, pairs = mutations.table(3, 1)
    made, localized, explained, invented = singles
    assert made == 27 and localized >= 0.95 * made and explained >= 0.8 * made and invented == 0
    made, localized, _, invented = pairs
    assert made == 9 and localized >= 0.85 * made and invented == 0
