"""A wheelhouse: which ones set-up refuses, and that it refuses before it makes anything."""

import os
import subprocess
import sys

import pytest
import wheelhouse

WHEEL = "tqdm-4.70.1-py3-none-any.whl"


@pytest.fixture
def folder(tmp_path):
    """A small wheelhouse, whose name has a space: one wheel, the data, and the list for this Python and platform."""
    folder = tmp_path / "wheel house"
    (folder / wheelhouse.DATA).mkdir(parents=True)
    (folder / WHEEL).write_bytes(b"a wheel")
    (folder / wheelhouse.DATA / "t10k-labels-idx1-ubyte.gz").write_bytes(b"labels")
    (folder / f"{wheelhouse.THIS}-{wheelhouse.HERE}.txt").write_text(wheelhouse.stamp(wheelhouse.THIS) + "\n")
    wheelhouse.list_files(folder)
    return folder


def set_up(folder, tree):
    """Run `make compare` from the wheelhouse in a copy of what set-up needs; return its output."""
    command = ["make", f"WHEELHOUSE={folder}", f"PYTHON={sys.executable}", "compare"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and not (tree / ".venv").exists() and "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith(("make", "platform "))]
    assert 1 <= len(said) <= 5
    return "\n".join(said)


def test_a_complete_wheelhouse_is_accepted_and_agrees_with_sha256sum(folder):
    assert wheelhouse.check(folder) == folder.as_uri() and " " not in folder.as_uri()
    assert subprocess.run(["sha256sum", "--check", "--quiet", wheelhouse.SUMS], cwd=folder).returncode == 0


@pytest.mark.fault("a damaged or missing file in a wheelhouse")
@pytest.mark.parametrize("name", [WHEEL, f"{wheelhouse.DATA}/t10k-labels-idx1-ubyte.gz"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_file_is_refused_by_name_before_anything_is_made(folder, tree, name, damage):
    (folder / name).unlink()
    if damage == "changed":
        (folder / name).write_bytes(b"a wheeL")
    said = set_up(folder, tree)
    assert f"{folder} is damaged: {name}: missing, changed or not in SHA256SUMS; copy it again" in said


@pytest.mark.fault("a wheel that a wheelhouse's list lacks")
def test_an_unlisted_wheel_is_refused(folder):
    (folder / "tqdm-99-py3-none-any.whl").write_bytes(b"another wheel")
    with pytest.raises(wheelhouse.Refused, match="damaged: tqdm-99-py3-none-any.whl"):
        wheelhouse.check(folder)


@pytest.mark.fault("a wheelhouse without a valid list of digests")
@pytest.mark.parametrize("content, said", [(None, "has no SHA256SUMS"), (b"", "SHA256SUMS"), (b"\xff\n", "SHA256SUMS")])
def test_a_folder_without_a_list_is_refused(folder, content, said):
    (folder / wheelhouse.SUMS).unlink()
    if content is not None:
        (folder / wheelhouse.SUMS).write_bytes(content)
    with pytest.raises(wheelhouse.Refused, match=said):
        wheelhouse.check(folder)


@pytest.mark.fault("a wheelhouse for another Python")
def test_a_wheelhouse_for_another_python_names_those_it_supports(folder, tree):
    (folder / f"{wheelhouse.THIS}-{wheelhouse.HERE}.txt").rename(folder / "3.7-linux-x86_64.txt")
    (folder / "3.7-darwin-x86_64.txt").touch()
    wheelhouse.list_files(folder)
    said = set_up(folder, tree)
    assert "is for Python 3.7 on darwin-x86_64, 3.7 on linux-x86_64" in said and "PYTHON=" in said
    assert f"not for {wheelhouse.THIS} on {wheelhouse.HERE}" in said


@pytest.mark.fault("a wheelhouse made from other requirements")
def test_a_wheelhouse_made_from_other_requirements_is_refused(folder):
    (folder / f"{wheelhouse.THIS}-{wheelhouse.HERE}.txt").write_text("# from another lock\n")
    wheelhouse.list_files(folder)
    with pytest.raises(wheelhouse.Refused, match="other requirements"):
        wheelhouse.check(folder)


def test_the_list_for_a_platform_follows_the_markers_of_the_lock():
    linux, mac = (set(wheelhouse.wheels_for("3.13.0", target)) for target in ("linux-aarch64", "darwin-x86_64"))
    assert "mxnet==1.9.1" in linux & mac and len(linux) > 150
    assert any(line.startswith("appnope==") for line in mac - linux)
    early, late = (wheelhouse.wheels_for(version, "linux-x86_64") for version in ("3.11.2", "3.11.9"))
    assert [line for line in early if line.startswith("soupsieve")] != [
        line for line in late if line.startswith("soup")
    ]
