"""Every test starts with fixed seeds and on one of MXNet's two fronts."""

import os
import shutil
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests use all cores in parallel; libgomp reads this when it loads

import mxnet as mx
import pytest
from hypothesis import settings

from gluon_bn.data import minibatches
from gluon_bn.norm import fused
from gluon_bn.training import seed_everything

TOP = Path(__file__).resolve().parents[1]
pytest_plugins = ["faults"]
# The same examples each time, so that a failure is the change's; `--hypothesis-profile=explore` looks elsewhere.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")
# A shell has what it starts in the background ignore Ctrl-C, and so would all the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    few = "run only the first case of each test, for each front, function and norm"
    parser.addoption("--first-cases", action="store_true", help=few)


def pytest_collection_modifyitems(config, items):
    if config.option.first_cases:
        first = {}
        for item in items:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            code = [str(params.get(name)) for name in ("front", "fn", "norm")]
            first.setdefault((item.nodeid.split("[")[0], *code), item)
        kept = set(first.values())
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = first.values()
    for item in items:
        if item.get_closest_marker("long") and not config.option.long:
            item.add_marker(pytest.mark.skip(reason="long: --long runs it"))


@pytest.fixture(autouse=True)
def seeds():
    seed_everything(0)


@pytest.fixture(scope="session", autouse=True)
def found_once():
    """Unpacks and verifies Fashion-MNIST once: this takes a third of a second, and over a hundred tests load it."""
    find, found = minibatches.find_files, {}

    def find_files(root=None, download=True):
        where = (download, *map(os.environ.get, ("GLUON_BN_DATA", "MXNET_HOME", "HOME")))
        if root is not None:
            return find(root, download)
        if where not in found:
            found[where] = find(None, download)
        return found[where]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minibatches, "find_files", find_files)
        yield


@pytest.fixture(
    scope="session",
    params=[
        pytest.param((0,), id="one seed"),
        pytest.param((0, 1, 2), id="three seeds", marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def training_seeds(request):
    """The seeds for which a claim about training is asserted."""
    return request.param


@pytest.fixture
def undecided(monkeypatch, tmp_path):
    """A function that sets environment variables and makes fused_batch_norm choose its path again."""

    def setenv(**environment):
        for name, value in {"GLUON_BN_CACHE": str(tmp_path), "GLUON_BN_FUSED": None, **environment}.items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)

    monkeypatch.delattr(mx.nd, "gluon_bn", raising=False)
    fused.choose.cache_clear()
    yield setenv
    monkeypatch.undo()
    fused.choose.cache_clear()


@pytest.fixture(params=["nd", "np"])
def front(request):
    """The module that makes arrays: `mx.nd`, or `mx.np` with its semantics switched on."""
    if request.param == "np":
        mx.npx.set_np()
        yield mx.np
        mx.npx.reset_np()
    else:
        yield mx.nd


@pytest.fixture
def tree(tmp_path):
    """A copy of what `make` needs, so that this checkout's .venv is left alone."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(str(TOP / name), str(tree))
    for name in ("requirements", "tools", "gluon_bn"):
        shutil.copytree(str(TOP / name), str(tree / name), ignore=shutil.ignore_patterns("__pycache__"))
    return tree
