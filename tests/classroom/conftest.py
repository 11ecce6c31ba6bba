import nbformat
import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbgrader")
from gluon_bn.classroom import assignment  # noqa: E402


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    path = assignment.release(tmp_path_factory.mktemp("release") / "new")
    return nbformat.read(str(path), as_version=4)


@pytest.fixture(scope="session")
def solution():
    return assignment.solved()
