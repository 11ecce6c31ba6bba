"""The doctor: it names each thing that can be wrong, and says what to do."""

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from gluon_bn import doctor
from gluon_bn.doctor import Answer

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 18), (3, 10, 1), (3, 11, 9), (3, 12, 1), (3, 13, 0), (3, 14, 2)])
def test_pythons_from_3_8_to_3_14_are_ok(version):
    assert doctor.check_python(version, "cpython") == ("Python", True, "cpython {}.{}.{}".format(*version), "")


@pytest.mark.parametrize(
    "version, implementation, why",
    [
        ((3, 15, 0), "cpython", "not tested on Python after 3.14"),
        ((3, 7, 17), "cpython", "d2l 1.0.3 needs Python 3.8"),
        ((3, 10, 14), "pypy", "wheels are for CPython"),
    ],
)
def test_another_python_is_named_with_the_reason(version, implementation, why):
    result = doctor.check_python(version, implementation)
    assert not result.ok and why in result.text and "3.11" in result.remedy


def test_a_free_threaded_python_is_refused():
    result = doctor.check_python((3, 14, 0), "cpython", free_threaded=True)
    assert not result.ok and "free-threaded" in result.text and "3.11" in result.remedy


@pytest.mark.parametrize(
    "system, machine, libc", [("Linux", "x86_64", "glibc"), ("Linux", "aarch64", "glibc"), ("Darwin", "x86_64", "")]
)
def test_platforms_with_wheels_are_ok(system, machine, libc):
    result = doctor.check_platform(system, machine, libc)
    assert result.ok and not result.remedy


@pytest.mark.parametrize(
    "system, machine, libc, why, remedy",
    [
        ("Darwin", "arm64", "", "Apple silicon", "Rosetta"),
        ("Windows", "AMD64", "", "no wheels for Windows", "WSL2"),
        ("Windows", "ARM64", "", "no wheels for Windows", "WSL2"),
        ("Linux", "x86_64", "", "need glibc", "Debian"),
        ("Linux", "riscv64", "glibc", "x86-64 and aarch64", "container"),
        ("FreeBSD", "amd64", "", "x86-64 and aarch64", "container"),
    ],
)
def test_platforms_without_wheels_are_named_with_a_way_out(system, machine, libc, why, remedy):
    result = doctor.check_platform(system, machine, libc)
    assert not result.ok and why in result.text and remedy in result.remedy


@pytest.mark.parametrize(
    "version, ok",
    [("1.23.5", True), ("1.21.6", True), ("1.24.0", False), ("1.26.4", False), ("2.0.2", False), ("2.1.0rc1", False)],
)
def test_numpy_from_1_24_on_is_too_new_before_python_3_12(version, ok):
    assert doctor.check_numpy(Answer(version), new_python=True).ok
    result = doctor.check_numpy(Answer(version), new_python=False)
    assert result.ok == ok
    assert ok or ("np.bool" in result.text and "numpy==1.23.5" in result.remedy)


@pytest.mark.parametrize(
    "error, remedy",
    [
        ("ModuleNotFoundError: No module named 'mxnet'", doctor.INSTALL),
        ("AttributeError: module 'numpy' has no attribute 'bool'.", "numpy==1.23.5"),
        ("ModuleNotFoundError: No module named 'distutils'", "pip install setuptools"),
        ("OSError: libgomp.so.1: cannot open shared object file: No such file or directory", "install libgomp1"),
        (
            "OSError: libquadmath.so.0: cannot open shared object file: No such file or directory",
            "install libquadmath0",
        ),
        ("OSError: libstdc++.so.6: cannot open shared object file: No such file or directory", "install libstdc++6"),
    ],
)
def test_an_mxnet_that_cannot_be_imported_shows_its_error_and_a_remedy(error, remedy):
    result = doctor.check_mxnet(Answer("", error))
    assert not result.ok and result.text == error and remedy in result.remedy


def test_other_versions_of_mxnet_and_d2l_are_refused():
    assert not doctor.check_mxnet(Answer("1.8.0")).ok
    assert not doctor.check_d2l(Answer("0.17.6")).ok
    assert doctor.check_mxnet(Answer("1.9.1")).ok and doctor.check_d2l(Answer("1.0.3")).ok


@pytest.mark.fault("a package that crashes when imported")
def test_a_crash_while_importing_is_a_finding():
    assert doctor.ask("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") == Answer("", "crashed with signal 11")


def test_an_error_is_told_by_its_last_line():
    assert doctor.ask("print(1); raise OSError('so it is')") == Answer("", "OSError: so it is")


def test_data_are_looked_for_and_never_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.delenv("GLUON_BN_DATA", raising=False)
    result = doctor.check_data()
    if "verified" in result.text:
        pytest.skip("the system has the data in its own place")
    assert result.ok and result.text.startswith("not here yet; the first run fetches it") and not result.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_wrong_even_where_the_others_are_not_here_yet(monkeypatch, tmp_path):
    cache = tmp_path / "datasets" / "fashion-mnist"
    cache.mkdir(parents=True)
    (cache / "train-labels-idx1-ubyte").write_bytes(b"not labels")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.delenv("GLUON_BN_DATA", raising=False)
    result = doctor.check_data()
    assert str(cache / "train-labels-idx1-ubyte") in result.text
    if result.ok:
        pytest.skip("the system has the data in its own place")
    assert "-m gluon_bn data` looks, downloads and verifies" in result.remedy


def test_a_wrong_data_file_is_told(monkeypatch, tmp_path):
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"not labels")
    monkeypatch.setenv("GLUON_BN_DATA", str(tmp_path))
    result = doctor.check_data()
    assert not result.ok and "train-labels-idx1-ubyte" in result.text and "remove it" in result.remedy


def test_all_is_well_where_the_tests_run():
    checks = {name: check() for name, check in doctor.CHECKS.items() if name != "data"}
    assert [result for result in checks.values() if not result.ok] == []
    assert checks["mxnet"].text == "1.9.1"


@pytest.fixture
def bare(tmp_path):
    """The doctor in a copy of the package and by a Python with nothing installed, as a function of no arguments."""
    shutil.copytree(str(TOP / "gluon_bn"), str(tmp_path / "gluon_bn"), ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(str(tmp_path / "bare"), with_pip=False, symlinks=True)
    return lambda: subprocess.run(
        ["bare/bin/python", "-W", "error", "-m", "gluon_bn", "doctor"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_another_python_than_that_of_the_projects_venv_is_told_first_and_nothing_is_installed_into_it(bare, tmp_path):
    venv.create(str(tmp_path / ".venv"), with_pip=False, symlinks=True)
    done = bare()
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith("This is not .venv's Python: use .venv/bin/python -m gluon_bn doctor\nPython ")
    assert "No module named 'mxnet'" in done.stdout and "pip install" not in done.stdout
    (tmp_path / "bare").rename(tmp_path / ".bare")
    (tmp_path / "bare").symlink_to(".venv")  # its own Python
    assert "This is not" not in bare().stdout


def test_the_doctor_speaks_where_nothing_is_installed(bare):
    done = bare()
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.startswith("Python      ok")
    for name in ("numpy", "mxnet", "d2l", "matplotlib"):
        assert f"No module named '{name}'" in done.stdout
    assert f"to do: {doctor.INSTALL}" in done.stdout
