"""Numerics: the properties of properties.py hold for our functions, and reject every wrong version of the maths.

make test ARGS="--hypothesis-profile=explore tests/norm/test_numerics.py"    tries more inputs, new ones each time
"""

import numpy
import oracle
import properties
import pytest
import students
import wrong
from hypothesis import Phase, given, settings
from mxnet import MXNetError, nd

from gluon_bn import batch_norm, fused_batch_norm
from gluon_bn.norm import batch_norm_portable

FUNCTIONS = pytest.mark.parametrize("fn", [batch_norm, batch_norm_portable, fused_batch_norm], ids=lambda f: f.__name__)


@FUNCTIONS
@given(case=properties.CASES)
def test_it_agrees_with_float64(fn, case):
    properties.agrees_with_float64(fn, case)


@FUNCTIONS
@given(case=properties.CASES)
def test_the_gradient_is_the_slope(fn, case):
    properties.the_gradient_is_the_slope(fn, case)


@pytest.mark.fault("NaN or infinity in a channel", tries=settings().max_examples)
@FUNCTIONS
@given(case=properties.CASES)
def test_a_poisoned_channel_stays_alone(fn, case):
    properties.a_poisoned_channel_stays_alone(fn, case)


@FUNCTIONS
@given(case=properties.CASES)
def test_the_books_are_kept(fn, case):
    properties.the_books_are_kept(fn, case)


@FUNCTIONS
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(600001, 1), (1, 3, 617, 509)])
def test_a_channel_of_a_million_values_is_as_exact(fn, shape, dtype):
    properties.agrees_with_float64(fn, properties.Case(shape, ((1e4, 10.0, -0.7),), dtype))


@pytest.mark.fault("values whose squares or sums float16 cannot hold")
@FUNCTIONS
@pytest.mark.parametrize("shape", [(64, 6), (8, 6, 16, 16)])
def test_float16_does_not_overflow(fn, shape):
    *arrays, dY = oracle.draw(shape, scale=1000)
    Y, *_, dX, dgamma, dbeta = oracle.run(fn, nd, arrays, dY, dtype="float16")
    assert all(numpy.isfinite(result).all() for result in (Y, dX, dgamma, dbeta)) and Y.std() > 0.5


def in_float32(fn):
    """fn, which knows nothing of float16, computed in float32 where it is asked for that."""

    def wrapped(X, *arrays_and_constants):
        if X.dtype != numpy.float16:
            return fn(X, *arrays_and_constants)
        *arrays, eps, momentum = arrays_and_constants
        return tuple(
            result.astype("float16")
            for result in fn(*(array.astype("float32") for array in (X, *arrays)), eps, momentum)
        )

    return wrapped


def rejects(holds, fn):
    """Whether the property finds fn wrong."""

    @settings(phases=[Phase.generate], report_multiple_bugs=False)
    @given(case=properties.CASES)
    def look(case):
        holds(fn, case)

    try:
        look()
    except (AssertionError, MXNetError, ZeroDivisionError):  # over a wrong axis there may be nothing to broadcast, or 1
        return True
    return False


WRONG = {
    **{name: in_float32(fn) for name, fn in wrong.WRONG.items()},
    **{name: fn if fn is wrong.overflowing else in_float32(fn) for name, fn in wrong.RARE.items()},
    **{name: in_float32(students.batch_norm(name)) for name in students.FUNCTION},
}


@pytest.mark.fault("the maths wrong in one thing")
@pytest.mark.parametrize("mistake", WRONG)
def test_some_property_rejects_each_wrong_version(mistake):
    assert any(rejects(holds, WRONG[mistake]) for holds in properties.PROPERTIES)


@pytest.mark.parametrize(
    "fn", [in_float32(wrong.changed({})), in_float32(students.batch_norm())], ids=["changed", "students"]
)
def test_the_right_version_of_the_wrong_ones_is_not_rejected(fn):
    assert not any(rejects(holds, fn) for holds in properties.PROPERTIES)
