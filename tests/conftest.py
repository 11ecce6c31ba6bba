"""Every test starts with fixed seeds and on one of MXNet's two fronts."""

import signal

import mxnet as mx
import pytest
from hypothesis import settings

from gluon_bn.training import seed_everything

pytest_plugins = ["faults"]
# The same examples each time, so that a failure is the change's; `--hypothesis-profile=explore` looks elsewhere.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")
# A shell has what it starts in the background ignore Ctrl-C, and so would all the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("long") and not config.option.long:
            item.add_marker(pytest.mark.skip(reason="long: --long runs it"))


@pytest.fixture(autouse=True)
def seeds():
    seed_everything(0)


@pytest.fixture(params=["nd", "np"])
def front(request):
    """The module that makes arrays: `mx.nd`, or `mx.np` with its semantics switched on."""
    if request.param == "np":
        mx.npx.set_np()
        yield mx.np
        mx.npx.reset_np()
    else:
        yield mx.nd
