"""The doctor: it names each thing that can be wrong, and says what to do."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from commands import python
from rights import without
from small_disk import small_disk

from gluon_bn import doctor
from gluon_bn.doctor import Answer, Platform

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 18), (3, 10, 1), (3, 11, 9), (3, 12, 1), (3, 13, 0), (3, 14, 2)])
def test_pythons_from_3_8_to_3_14_are_ok(version):
    assert doctor.machine.check_python(version, "cpython") == ("Python", True, "cpython {}.{}.{}".format(*version), "")


@pytest.mark.parametrize(
    "version, implementation, why",
    [
        ((3, 15, 0), "cpython", "not tested on Python after 3.14"),
        ((3, 7, 17), "cpython", "d2l 1.0.3 needs Python 3.8"),
        ((3, 10, 14), "pypy", "wheels are for CPython"),
    ],
)
def test_another_python_is_named_with_the_reason(version, implementation, why):
    result = doctor.machine.check_python(version, implementation)
    assert not result.ok and why in result.text and "3.11" in result.remedy


def test_a_free_threaded_python_is_refused():
    result = doctor.machine.check_python((3, 14, 0), "cpython", free_threaded=True)
    assert not result.ok and "free-threaded" in result.text and "3.11" in result.remedy


@pytest.mark.parametrize(
    "system, machine, libc", [("Linux", "x86_64", "glibc"), ("Linux", "aarch64", "glibc"), ("Darwin", "x86_64", "")]
)
def test_platforms_with_wheels_are_ok(system, machine, libc):
    result = doctor.machine.check_platform(Platform(system, machine, libc))
    assert result.ok and not result.remedy


@pytest.mark.parametrize(
    "platform, why, remedy",
    [
        (Platform("Darwin", "arm64"), "Apple silicon", "Rosetta"),
        (Platform("Darwin", "arm64"), "Apple silicon", ".devcontainer"),
        (Platform("Windows", "AMD64"), "no wheels for Windows", "WSL2"),
        (Platform("Windows", "ARM64"), "no wheels for Windows", ".devcontainer"),
        (Platform("Linux", "x86_64", "musl"), "musl: MXNet's wheels need glibc", "Debian"),
        (Platform("Linux", "x86_64", ""), "no glibc: MXNet's wheels need glibc", ".devcontainer"),
        (Platform("Linux", "x86_64", "glibc", 32), "a 32-bit Python", "install a 64-bit Python"),
        (Platform("Windows", "x86", bits=32), "a 32-bit Python", "install a 64-bit Python"),
        (Platform("Linux", "riscv64", "glibc"), "x86-64 and aarch64", "container"),
        (Platform("FreeBSD", "amd64"), "x86-64 and aarch64", "container"),
    ],
)
def test_platforms_without_wheels_are_named_with_a_remedy(platform, why, remedy):
    result = doctor.machine.check_platform(platform)
    assert not result.ok and why in result.text and remedy in result.remedy


@pytest.mark.parametrize("loader, libc", [("ld-musl-x86_64.so.1", "musl"), ("ld-linux.so.2", "")])
def test_musl_is_recognized_by_its_loader(tmp_path, monkeypatch, loader, libc):
    (tmp_path / loader).touch()
    assert doctor.this_platform(tmp_path).libc == ("glibc" if sys.platform == "linux" else "")
    monkeypatch.setattr("platform.libc_ver", lambda: ("libc", ""))  # what it returns for a program with musl
    assert doctor.this_platform(tmp_path).libc == libc


@pytest.mark.fault("a machine without libgomp")
def test_all_missing_libraries_are_named_with_their_packages():
    result = doctor.machine.check_libraries(Platform("Linux", "x86_64", "glibc"), ["libgomp.so.1", "libquadmath.so.0"])
    assert not result.ok and "libgomp.so.1, libquadmath.so.0" in result.text
    assert "apt-get install libgomp1 libquadmath0" in result.remedy
    assert doctor.machine.check_libraries(Platform("Darwin", "x86_64"), ["libgomp.so.1"]).ok


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "Makefile").touch()
    return tmp_path


def test_a_finished_venv_is_ok(clone):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "ready").write_text("3.13.5\n")
    result = doctor.machine.check_setup(clone, packages=False)
    assert result.ok and "is complete, with Python 3.13.5" in result.text


def test_packages_installed_without_make_are_ok(clone, tmp_path):
    assert doctor.machine.check_setup(clone, packages=True).ok
    assert doctor.machine.check_setup(tmp_path / "not a clone", packages=False).ok


@pytest.mark.parametrize("made, what", [(False, "does not exist yet"), (True, "is unfinished")])
def test_a_missing_or_unfinished_venv_is_reported(clone, made, what):
    if made:
        (clone / ".venv").mkdir()
    result = doctor.machine.check_setup(clone, packages=False, ensurepip=True)
    assert not result.ok and what in result.text and "`make .venv/ready`" in result.remedy


@pytest.mark.fault("a Python without ensurepip")
def test_a_python_without_ensurepip_is_reported_with_the_package_that_provides_it(clone):
    result = doctor.machine.check_setup(clone, packages=False, ensurepip=False)
    assert not result.ok and "ensurepip is missing" in result.text
    assert "apt-get install python{}.{}-venv".format(*sys.version_info[:2]) in result.remedy


def told(check, *prefix, **environment):
    """The output of a check in another process."""
    code = f"from gluon_bn import doctor; print(*doctor.machine.{check}, sep='|')"
    done = python("-c", code, inside=prefix, cwd=TOP, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.fault("a disk that is full", tries=2)
def test_a_full_disk_is_reported_with_the_space_needed(clone):
    setup = f"check_setup(__import__('pathlib').Path({str(clone)!r}), packages=False, ensurepip=True)"
    # the mount hides the folder's Makefile
    full = small_disk(clone, 900)
    assert "set-up|False|" in told(setup, *full, "sh", "-c", f'touch {clone}/Makefile && exec "$0" "$@"')
    assert f"folders|False|HOME, {clone}: 0 MB are free, 50 MB are needed" in told(
        "check_folders()", *full, HOME=str(clone)
    )


@pytest.mark.fault("a clone that cannot be written")
def test_a_read_only_clone_is_reported(clone):
    clone.chmod(0o555)
    setup = f"check_setup(__import__('pathlib').Path({str(clone)!r}), packages=False, ensurepip=True)"
    said = told(setup, *without("dac_override"))
    assert f"set-up|False|{clone} cannot hold .venv: Permission denied|copy the project" in said


@pytest.mark.fault("a home folder that does not exist")
def test_a_missing_home_folder_is_reported():
    said = told("check_folders()", HOME="/nonexistent")
    assert said.startswith("folders|False|HOME, /nonexistent: No such file") and "set HOME to a folder" in said


@pytest.mark.fault("no C++ compiler")
def test_without_a_compiler_the_doctor_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = doctor.machine.check_compiler()
    assert result.ok and "portable path" in result.text and "apt-get install g++" in result.remedy
    monkeypatch.setenv("CXX", "'unclosed")
    assert not doctor.machine.check_compiler().ok


@pytest.mark.parametrize(
    "version, ok",
    [("1.23.5", True), ("1.21.6", True), ("1.24.0", False), ("1.26.4", False), ("2.0.2", False), ("2.1.0rc1", False)],
)
def test_numpy_from_1_24_on_is_too_new_before_python_3_12(version, ok):
    assert doctor.packages.check_numpy(Answer(version), new_python=True).ok
    result = doctor.packages.check_numpy(Answer(version), new_python=False)
    assert result.ok == ok
    assert ok or ("np.bool" in result.text and "numpy==1.23.5" in result.remedy)


@pytest.mark.parametrize(
    "error, remedy",
    [
        ("ModuleNotFoundError: No module named 'mxnet'", doctor.INSTALL),
        ("AttributeError: module 'numpy' has no attribute 'bool'.", "numpy==1.23.5"),
        ("ModuleNotFoundError: No module named 'distutils'", "pip install setuptools"),
        (
            "OSError: libgomp.so.1: cannot open shared object file: No such file or directory",
            "apt-get install libgomp1",
        ),
        ("OSError: libarmpl_lp64_mp.so: cannot open shared object file", "apt-get install liblapacke"),
        (
            "OSError: libquadmath.so.0: cannot open shared object file: No such file or directory",
            "apt-get install libquadmath0",
        ),
        (
            "OSError: libstdc++.so.6: cannot open shared object file: No such file or directory",
            "apt-get install libstdc++6",
        ),
    ],
)
def test_an_mxnet_that_cannot_be_imported_shows_its_error_and_a_remedy(error, remedy):
    result = doctor.packages.check_mxnet(Answer("", error))
    assert not result.ok and result.text == error and remedy in result.remedy


def test_other_versions_of_mxnet_and_d2l_are_refused():
    assert not doctor.packages.check_mxnet(Answer("1.8.0")).ok
    assert not doctor.packages.check_d2l(Answer("0.17.6")).ok
    assert doctor.packages.check_mxnet(Answer("1.9.1")).ok and doctor.packages.check_d2l(Answer("1.0.3")).ok


@pytest.mark.fault("a package that crashes when imported")
def test_a_crash_while_importing_is_a_finding():
    assert doctor.ask("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)") == Answer("", "crashed with signal 11")


def test_an_error_is_told_by_its_last_line():
    assert doctor.ask("print(1); raise OSError('so it is')") == Answer("", "OSError: so it is")
    refused = "from gluon_bn.system.interpreter import load_error; raise load_error('MXNet', OSError('so it is'))"
    assert doctor.ask(refused).error.endswith("MXNet cannot be loaded: OSError: so it is"), "not to ask the doctor"


def test_a_setting_that_asks_for_what_is_unavailable_is_wrong():
    done = python("-m", "gluon_bn.doctor", "fused", GLUON_BN_FUSED="natve")
    assert done.returncode == 1 and "WRONG  GLUON_BN_FUSED must be native, portable or auto" in done.stdout
    assert "to do: unset it for auto" in done.stdout


def test_data_are_looked_for_and_never_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.delenv("GLUON_BN_DATA", raising=False)
    result = doctor.packages.check_data()
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
    result = doctor.packages.check_data()
    assert str(cache / "train-labels-idx1-ubyte") in result.text
    if result.ok:
        pytest.skip("the system has the data in its own place")
    assert "-m gluon_bn data` finds, downloads and verifies" in result.remedy


def test_a_wrong_data_file_is_told(monkeypatch, tmp_path):
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"not labels")
    monkeypatch.setenv("GLUON_BN_DATA", str(tmp_path))
    result = doctor.packages.check_data()
    assert not result.ok and "train-labels-idx1-ubyte" in result.text and "remove it" in result.remedy


def test_all_is_well_where_the_tests_run():
    checks = {name: check() for name, check in doctor.CHECKS.items() if name != "data"}
    assert [result for result in checks.values() if not result.ok] == []
    assert checks["mxnet"].text == "1.9.1"


@pytest.fixture
def bare(tmp_path):
    """The doctor in a copy of the package and by a Python with nothing installed, as a function of no arguments."""
    shutil.copytree(str(TOP / "gluon_bn"), str(tmp_path / "gluon_bn"), ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(str(TOP / "requirements.txt"), str(tmp_path))
    venv.create(str(tmp_path / "bare"), with_pip=False, symlinks=True)
    return lambda: subprocess.run(
        ["bare/bin/python", "-W", "error", "-m", "gluon_bn", "doctor"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_doctor_leaves_packages_to_set_up_where_set_up_failed(bare, tmp_path):
    (tmp_path / "Makefile").touch()
    done = bare()
    assert done.returncode == 1 and "set-up      WRONG" in done.stdout and "`make .venv/ready`" in done.stdout
    assert "No module named 'mxnet'" in done.stdout and "pip install" not in done.stdout


MODULES_OF_UNIX = ("fcntl", "grp", "pwd", "resource", "termios")


def test_the_doctor_runs_on_windows_without_unix_modules(bare, tmp_path):
    (site,) = tmp_path.glob("bare/lib/python*/site-packages")
    (site / "windows.pth").write_text("import windows\n")  # Debian's Python has a sitecustomize.py of its own
    (site / "windows.py").write_text(
        "import platform, sys\n"
        f"sys.modules.update(dict.fromkeys({MODULES_OF_UNIX}))\n"
        "platform.system, platform.machine = lambda: 'Windows', lambda: 'AMD64'\n"
    )
    done = bare()
    assert done.returncode == 1 and done.stderr == ""
    assert "platform    WRONG  Windows AMD64: MXNet 1.9.1 has no wheels for Windows" in done.stdout
    assert ".devcontainer" in done.stdout


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
