"""The checks of arguments, which all parts of the package share."""

import numpy
import pytest
from mxnet import nd

from gluon_bn.errors import InputError
from gluon_bn.system.arguments import check_count, look_up

WHOLE = [6, numpy.int8(6), numpy.uint64(6), numpy.prod((2, 3)), numpy.array(6)]
OTHERS = [True, numpy.bool_(True), 6.0, numpy.float64(6), "6", None, [6], numpy.array([6]), nd.array([6]), 6j, 0, -1]


@pytest.mark.parametrize("value", WHOLE, ids=lambda value: type(value).__name__)
def test_every_integral_type_is_a_count_and_becomes_an_int(value):
    count = check_count("jobs", value)
    assert count == 6 and type(count) is int


@pytest.mark.fault("what is no count, where one is asked for")
@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_what_is_no_count_is_refused_by_name(value):
    with pytest.raises(InputError, match="^jobs must be a whole number of at least 1, got ") as caught:
        check_count("jobs", value)
    assert caught.value.argument == "jobs"


def test_a_count_has_a_largest_value():
    assert check_count("jobs", 60_000, 60_000) == 60_000
    with pytest.raises(InputError, match="jobs must be a whole number from 1 to 60,000, got 60001"):
        check_count("jobs", 60_001, 60_000)


@pytest.mark.parametrize("key", ["c", None, 1, ["a"], {"a"}, ("a",)], ids=repr)
def test_an_unknown_key_is_refused_with_the_known_ones_even_if_it_cannot_be_hashed(key):
    assert look_up("letter", "a", {"a": 1, "b": 2}) == 1
    with pytest.raises(InputError, match="^letter must be one of 'a', 'b'; got ") as caught:
        look_up("letter", key, {"a": 1, "b": 2})
    assert caught.value.argument == "letter"
