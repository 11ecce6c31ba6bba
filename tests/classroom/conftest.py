import nbformat
import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbgrader")
from gluon_bn.classroom import assignment  # noqa: E402


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The notebook to hand out, as a file."""
    return assignment.release(tmp_path_factory.mktemp("release") / "new")


@pytest.fixture(scope="session")
def released(release):
    return nbformat.read(str(release), as_version=4)


@pytest.fixture(scope="session")
def solution():
    return assignment.solved()
