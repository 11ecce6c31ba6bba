"""The names that MXNet misses in later versions of NumPy: each is needed, and nothing else changes."""

import json
import sys
import sysconfig
from pathlib import Path

import numpy
import pytest
from commands import python

from gluon_bn.system.missing_names import NAMES

TOP = Path(__file__).resolve().parents[2]
NEW_PYTHON = sys.version_info >= (3, 12)


def run(code, *options):
    return python(*options, "-c", code, cwd=TOP)


@pytest.fixture(scope="module")
def missing():
    """The names that this NumPy does not have. Here MXNet is imported, so another process has to look."""
    done = run(
        "import numpy\nfrom gluon_bn.system.missing_names import NAMES\n"
        "print([name for name in NAMES if not hasattr(numpy, name)])",
        "-W",
        "ignore",
    )
    return json.loads(done.stdout.replace("'", '"'))


def test_numpy_misses_each_name_from_the_version_on_that_the_table_says(missing):
    def number(version):
        return tuple(int(part) for part in version.split(".")[:2])

    here = number(numpy.__version__)
    expected = [name for name, (removed, _) in NAMES.items() if here >= number(removed)]
    if here >= (2, 0):
        expected.remove("bool")  # it came back
    assert missing == expected


def test_names_are_given_where_they_are_missing_and_nothing_else_changes(missing):
    done = run(
        """
import sys, warnings
import numpy
from gluon_bn.system.missing_names import give_names
numpy.product = mine = object()  # as if another package had been here first
before, filters = dict(vars(numpy)), list(warnings.filters)
give_names()
assert warnings.filters == filters and 'mxnet' not in sys.modules
assert all(vars(numpy)[name] is value for name, value in before.items())
print(sorted(set(vars(numpy)) - set(before)))
""",
        "-W",
        "error",
    )
    assert done.stdout == f"{sorted(set(missing) - {'product'}) if NEW_PYTHON else []}\n", done.stderr


# MXNet takes most names when it is imported, and these two when it is used
USES = {
    "int": "mx.test_utils.chi_square_check(range, [0, 1], [0.5, 0.5], nsamples=2)",
    "compat": "mx.np.pad(mx.np.ones((2, 2)), ((1, 1), (1, 1)), mode='edge')",
}


# one of them in the fast tests
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "NaN")) for name in NAMES])
def test_mxnet_fails_without_any_one_of_the_names(name, missing):
    if not NEW_PYTHON or name not in missing:
        pytest.skip("NumPy has it")
    code = "from gluon_bn.system.missing_names import NAMES, give_names\n{}\ngive_names()\nimport mxnet as mx\n" + (
        USES.get(name, "")
    )
    done = run(code.format(f"del NAMES[{name!r}]"))
    assert done.returncode == 1 and any(
        words in done.stderr for words in (f"module 'numpy' has no attribute '{name}'", f"`np.{name}` was removed")
    )
    if name in USES:
        assert run(code.format("")).returncode == 0


@pytest.mark.parametrize(
    "first",
    [
        "import site; site.addsitedir('tools'); import mxnet",
        "import site; site.addsitedir('tools'); from d2l import mxnet",
        "import gluon_bn; gluon_bn.batch_norm",
    ],
)
def test_mxnet_is_imported_by_the_hook_of_set_up_and_by_the_package_alone(first):
    # without the hook that this .venv may have
    done = run(
        "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if 'BeforeMXNet' not in str(one)]\n"
        f"{first}\nimport mxnet; print(mxnet.nd.ones(2).sum().asscalar())",
        "-W",
        "ignore",
    )
    assert done.stdout == "2.0\n", done.stderr


@pytest.mark.skipif(not NEW_PYTHON, reason="NumPy has all names")
def test_set_up_puts_the_hook_into_the_environment():
    hook = Path(sysconfig.get_path("purelib")) / "mxnet.pth"
    assert hook.read_text() == (TOP / "tools" / "mxnet.pth").read_text()


def test_the_hook_loads_nothing_before_mxnet_is_imported():
    done = run(
        "import site, sys; site.addsitedir('tools'); import json.tool\n"
        "print(sorted({'gluon_bn', 'numpy', 'mxnet'} & set(sys.modules)))",
        "-W",
        "error",
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_stand_ins_compute_what_the_names_computed():
    stands = {
        name: made_from(numpy)
        for name, (_, made_from) in NAMES.items()
        if name != "trapz" or hasattr(numpy, "trapezoid")
    }
    assert [stands[name] for name in ("PZERO", "NZERO", "PINF", "NINF", "Inf", "bool", "int")] == [
        0,
        0,
        float("inf"),
        -float("inf"),
        float("inf"),
        bool,
        int,
    ]
    assert numpy.signbit(stands["NZERO"]) and not numpy.signbit(stands["PZERO"])
    assert numpy.isnan([stands["NaN"], stands["NAN"]]).all()
    assert stands["round_"](2.345, 1) == 2.3 and stands["product"]([2, 3]) == 6
    assert stands["sometrue"]([0, 1]) and not stands["alltrue"]([0, 1])
    assert stands["msort"]([[3, 1], [2, 4]]).tolist() == [[2, 1], [3, 4]]
    assert stands["in1d"]([[1, 2], [3, 4]], [2, 4], invert=True).tolist() == [True, False, True, False]
    assert isinstance("reflect", stands["compat"].basestring)
    if "trapz" in stands:
        assert stands["trapz"]([1, 2, 3]) == 4
    for name in ("mirr", "npv", "pmt", "ppmt", "pv", "rate"):
        with pytest.raises(RuntimeError, match=f"removed {name}"):
            stands[name](1)
