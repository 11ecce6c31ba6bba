"""Set-up: the choice of Python, failed installations, and files that must agree."""

import ast
import glob
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from commands import script
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rights import without

import gluon_bn
from gluon_bn.doctor.machine import check_python

try:
    import tomllib
except ImportError:  # Python < 3.11
    import tomli as tomllib

TOP = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())
PYTHONS = ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
OLD = PYTHONS[:4]  # what d2l pins has wheels for these


def run(*command, **options):
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        **options,
    )


# The package


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, gluon_bn; print(sorted({'mxnet', 'numpy', 'd2l', 'matplotlib'} & set(sys.modules)))"
    assert run(sys.executable, "-W", "error", "-c", code, cwd=TOP).stdout == "[]\n"


def test_every_public_name_is_there():
    for name in gluon_bn.__all__:
        assert getattr(gluon_bn, name).__name__ == name
        assert name in dir(gluon_bn)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'batchnorm'"):
        gluon_bn.batchnorm  # noqa: B018


def test_without_mxnet_a_name_points_to_the_doctor():
    # -S: no site-packages, hence no MXNet
    done = run(sys.executable, "-S", "-c", "from gluon_bn import batch_norm", cwd=TOP)
    assert done.returncode == 1
    assert "LoadError: gluon_bn.batch_norm cannot be loaded" in done.stdout
    assert "python -m gluon_bn doctor" in done.stdout


def test_the_installed_package_is_found_from_the_folder_above_a_clone_of_its_name(tree, tmp_path):
    clone = tree.rename(tmp_path / "gluon_bn")
    shutil.copy(str(TOP / "README.md"), str(clone))
    # what `pip install -e .` does, without the network that pip wants for it
    build = f"from setuptools import build_meta; build_meta.build_editable({str(tmp_path)!r})"
    assert run(sys.executable, "-c", build, cwd=clone).returncode == 0
    venv.create(str(tmp_path / "venv"), symlinks=True)
    (wheel,), (site,) = tmp_path.glob("*.whl"), tmp_path.glob("venv/lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    for folder in (tmp_path, clone / "tools"):
        done = run(str(tmp_path / "venv" / "bin" / "python"), "-m", "gluon_bn", "--version", cwd=folder)
        assert done.stdout == f"{gluon_bn.__version__}\n"


# make and its Python


def make(tree, *arguments, path=None, **environment):
    """Run make with a PATH that has the tools the set-up uses, and these Pythons: {name: file}."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHON", "PATH") and not name.startswith(("PIP_", "MAKE"))
    }
    if path is not None:
        tools = tree.parent / "bin"
        shutil.rmtree(tools, ignore_errors=True)
        tools.mkdir()
        for tool in ("make", "sh", "dirname", "cat", "rm"):
            (tools / tool).symlink_to(shutil.which(tool))
        for name, target in path.items():
            (tools / name).symlink_to(target)
    search = os.environ["PATH"] if path is None else str(tools)
    return run(shutil.which("make"), *arguments, cwd=tree, env={**kept, "PATH": search, **environment})


def on_this_machine(name):
    """Return the path of this Python on this machine; skip the test if none runs."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for file in [shutil.which(name), *glob.glob(f"{pyenv}/versions/*/bin/{name}")]:
        found = file and run(file, "-c", "import sys; print(sys.executable)")
        if found and found.returncode == 0:
            return found.stdout.strip()  # the Python itself: a shim needs more of the PATH
    pytest.skip(f"no {name} on this machine")


@pytest.fixture
def too_old():
    return on_this_machine("python3.7")


def stand_in(tmp_path, python=sys.executable, **modules):
    """Return a Python that finds these modules, {name: text}, before its own."""
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    return script(tmp_path / "stand-in", f'PYTHONPATH="{tmp_path}" exec "{python}" "$@"')


IMPORTS = "import platform, sys, sysconfig\n"
STAND_INS = {
    "3.15.0": "sys.version_info = (3, 15, 0); platform.python_version = lambda: '3.15.0'",
    "PyPy {}": "sys.implementation.name = 'pypy'; platform.python_implementation = lambda: 'PyPy'",
    "{} free-threaded": "sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1",
}


@pytest.mark.fault("a Python that cannot be used")
@pytest.mark.parametrize("name", ["python2.7", "python3.6", "python3.7", "pypy3", *STAND_INS])
def test_an_unusable_python_is_skipped_or_refused_in_five_lines(tree, tmp_path, name):
    if name in STAND_INS:
        python, what = (
            stand_in(tmp_path, sitecustomize=IMPORTS + STAND_INS[name]),
            name.format(platform.python_version()),
        )
    else:
        python, what = on_this_machine(name), ""
    alone = make(tree, "test", path={"python3": python})
    assert f"Found: python3 ({what}" in alone.stdout and "Traceback" not in alone.stdout
    asked = make(tree, "test", f"PYTHON={python}", path={"python3": python, "python": sys.executable})
    assert f"{python} ({what}" in asked.stdout and "is available: omit PYTHON" in asked.stdout
    for done in (alone, asked):
        assert done.returncode != 0 and not (tree / ".venv").exists()
        assert len([line for line in done.stdout.splitlines() if not line.startswith("make: ")]) <= 5


def test_set_up_uses_the_newest_complete_python(tree, tmp_path):
    newer = on_this_machine("python3.13")
    path = {
        "python3.14": stand_in(tmp_path, newer, ensurepip="raise ImportError"),
        "python3.12": script(tmp_path / "shim", "exit 127"),
        "python3.8": on_this_machine("python3.8"),
        "python3": newer,
        "python": on_this_machine("python3.7"),
    }
    (tree / "Makefile").write_text("newest:\n\t@sh tools/make_venv.sh --newest\n")
    assert make(tree, "newest", path=path).stdout == "python3\n"
    (tree / f"3.8-{platform.system().lower()}-{platform.machine()}.txt").touch()
    assert make(tree, "newest", f"WHEELHOUSE={tree}", path=path).stdout == "python3.8\n"
    assert make(tree, "newest", f"WHEELHOUSE={tree}/none", path=path).stdout == "python3.14\n"  # refused later
    del path["python3"]
    assert make(tree, "newest", path=path).stdout == "python3.8\n"


@pytest.mark.fault("a Python too old for d2l")
def test_a_python_too_old_is_named_with_the_reason_and_the_way_out(tree, too_old):
    version = run(too_old, "--version").stdout.split()[1]
    done = make(tree, "compare", path={"python3.7": too_old})
    assert done.returncode != 0
    assert f"Found: python3.7 ({version})." in done.stdout
    assert "d2l 1.0.3 needs Python 3.8" in done.stdout
    assert "apt-get install python3.11" in done.stdout
    assert not (tree / ".venv").exists()


@pytest.mark.fault("a Python too old for d2l")
def test_the_doctor_runs_even_on_a_python_that_is_too_old(tree, too_old):
    version = run(too_old, "--version").stdout.split()[1]
    done = make(tree, "doctor", path={"python3": too_old})
    assert done.returncode != 0 and f"Found: python3 ({version})." in done.stdout
    assert f"Python      WRONG  cpython {version}: d2l 1.0.3 needs Python 3.8" in done.stdout
    assert "to do: use Python 3.11" in done.stdout
    for package in ("numpy", "mxnet", "d2l", "matplotlib"):
        assert f"No module named '{package}'" in done.stdout
    assert "data " in done.stdout and "Traceback" not in done.stdout


def test_without_any_python_the_doctor_says_so(tree):
    done = make(tree, "doctor", path={})
    assert done.returncode != 0 and "The doctor needs Python" in done.stdout


@pytest.mark.fault("no Python")
def test_without_any_python_the_error_says_so(tree):
    done = make(tree, "test", path={})
    assert done.returncode != 0 and "Found: no Python" in done.stdout


@pytest.mark.fault("a python3.11 that does not run")
def test_a_shim_that_does_not_run_is_passed_over(tree, tmp_path):
    shim = script(tmp_path / "shim", "exit 127")
    done = make(tree, "test", path={"python3.11": shim})
    assert done.returncode != 0 and "Found: python3.11 (does not run)." in done.stdout


def test_a_named_python_that_is_not_there_is_said_so(tree):
    done = make(tree, "test", "PYTHON=/nowhere/python3.11", path={})
    assert done.returncode != 0 and "Found: /nowhere/python3.11 (not found)." in done.stdout


OTHER = "python3.12" if sys.version_info[:2] != (3, 12) else "python3.11"


@pytest.mark.parametrize("asked, what", [(OTHER, "{asked} (does not run)"), ("/nowhere", "{asked} (not found)")])
def test_where_another_python_would_do_the_one_asked_for_is_named_and_the_way_out_is_to_leave_it_out(
    tree, tmp_path, asked, what
):
    minor = "{}.{}".format(*sys.version_info[:2])
    does_not_run = script(tmp_path / "shim", "exit 127")
    done = make(tree, "test", f"PYTHON={asked}", path={f"python{minor}": sys.executable, OTHER: does_not_run})
    assert done.returncode != 0 and what.format(asked=asked) + " was requested" in done.stdout
    assert f"python{minor} ({minor}.{sys.version_info[2]}) is available: omit PYTHON" in done.stdout
    assert "No suitable Python" not in done.stdout and not (tree / ".venv").exists()


@pytest.mark.fault("a Python without ensurepip")
def test_a_python_without_ensurepip_names_the_package_to_install(tree, tmp_path):
    python = stand_in(tmp_path, ensurepip="raise ImportError")  # as on Debian without python3-venv
    done = make(tree, "test", path={"python3": python})
    minor = "{}.{}".format(*sys.version_info[:2])
    assert done.returncode != 0
    assert f"apt-get install python{minor}-venv" in done.stdout


@pytest.mark.fault("an installation that fails")
def test_an_installation_that_fails_is_not_taken_for_a_finished_one(tree):
    (tree / ".venv" / "bin").mkdir(parents=True)  # what an interruption may leave
    left = tree / ".venv" / "left"
    left.touch()
    done = make(tree, "test", f"PYTHON={sys.executable}", PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert done.returncode != 0
    assert "Making .venv" in done.stdout and "pip could not install the requirements" in done.stdout
    assert not left.exists()
    assert not (tree / ".venv" / "ready").exists()


def test_another_python_or_other_requirements_make_the_venv_anew(tree):
    def plan(*arguments):
        return make(tree, "-n", "test", *arguments).stdout

    ready = tree / ".venv" / "ready"
    venv.create(str(ready.parent), symlinks=True)
    ready.write_text("{}.{}.{}\n".format(*sys.version_info[:3]))
    same = f"PYTHON={sys.executable}"
    assert "make_venv" not in plan() and "make_venv" not in plan(same)
    os.utime(str(tree / "requirements/constraints.txt"), (2e9, 2e9))
    assert "make_venv" in plan()
    os.utime(str(tree / "requirements/constraints.txt"), (1e9, 1e9))
    ready.write_text("3.8.0\n")
    assert "make_venv" not in plan() and "make_venv" in plan(same)


@pytest.mark.fault("a .venv that lost a package or its Python", tries=4)
def test_a_venv_that_was_changed_by_hand_is_repaired(tree):
    def plan():
        return "make_venv" in make(tree, "-n", "test").stdout

    own = tree / ".venv"
    venv.create(str(own), symlinks=True)
    (site,) = own.glob("lib/python*/site-packages")
    (site / "numpy-1.23.5.dist-info").mkdir()
    (own / "packages").write_text("numpy-1.23.5.dist-info\n")
    (own / "ready").touch()
    assert not plan()
    (site / "numpy-1.23.5.dist-info").rename(site / "numpy-2.4.1.dist-info")
    assert plan() and run("sh", "tools/make_venv.sh", "--changed", cwd=tree).stdout == "numpy-1.23.5\n"
    (site / "numpy-2.4.1.dist-info").rmdir()
    assert plan()
    (site / "numpy-1.23.5.dist-info").mkdir()
    assert not plan()
    for python in own.glob("bin/python*"):
        python.unlink()
    assert plan()
    script(own / "bin" / "python", "exit 127")
    assert plan()


@pytest.mark.fault("a system's Python that was updated after set-up")
def test_a_venv_is_remade_after_its_python_was_updated(tree):
    python = on_this_machine("python3.8")  # up to 3.10, the Python in a .venv cannot remake it
    assert run(python, "-m", "venv", "--without-pip", ".venv", cwd=tree).returncode == 0
    ready = tree / ".venv" / "ready"
    ready.write_text("3.8.0\n")
    os.utime(str(ready), (0, 0))
    done = make(tree, ".venv/ready", PIP_NO_INDEX="1")
    assert f"Making .venv with {os.path.realpath(python)} (3.8." in done.stdout
    assert "pip could not install the requirements" in done.stdout
    assert run(str(tree / ".venv" / "bin" / "python"), "-m", "pip", "--version").returncode == 0
    # unfinished, it still keeps its Python, for which this wheelhouse is not
    (tree / "3.7-any.txt").touch()
    (tree / "SHA256SUMS").write_text(f"{hashlib.sha256().hexdigest()}  3.7-any.txt\n")
    assert "not for 3.8 on " in make(tree, ".venv/ready", f"WHEELHOUSE={tree}").stdout


@pytest.mark.fault("a clone that cannot be written")
def test_set_up_explains_that_a_clone_is_not_writable(tree):
    tree.chmod(0o555)
    done = run(*without("dac_override"), "sh", "tools/make_venv.sh", sys.executable, cwd=tree)
    assert done.returncode == 1 and f"WRONG  {tree} cannot hold .venv: Permission denied" in done.stdout
    assert "to do: copy the project" in done.stdout


def test_help_lists_every_target():
    targets = re.search(r"^\.PHONY: FORCE (.*)$", (TOP / "Makefile").read_text(), re.MULTILINE).group(1).split()
    listed = re.findall(r"^  make (\S+)", run("make", "help", cwd=TOP).stdout, re.MULTILINE)
    assert "compare" in listed and sorted(listed) == sorted(targets)


# Files that must agree


def requirements(name, python):
    """{package: version} of a requirements or constraints file, or an extra, on that Python (Linux on x86-64)."""
    environment = {
        "python_version": python,
        "python_full_version": python + ".18",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    pins = {}
    extras = PYPROJECT["project"]["optional-dependencies"]
    for line in extras[name] if name in extras else (TOP / name).read_text().splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line or line.startswith("-c "):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            package = requirement.name.lower().replace("_", "-")
            (pin,) = requirement.specifier
            assert pin.operator == "==" and package not in pins, line
            pins[package] = pin.version
    return pins


OVERRIDDEN = set(re.findall(r"^[a-z-]+$", (TOP / "requirements/overrides.in").read_text(), re.MULTILINE))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements.txt", "requirements/test.txt", "requirements/book.txt"])
def test_what_is_required_is_what_is_locked(name, python):
    locked = requirements("requirements/constraints.txt" if python in OLD else "requirements/locked-3.12.txt", python)
    required = requirements(name, python)
    if python not in OLD:
        required = {package: pin for package, pin in required.items() if package not in OVERRIDDEN}
    assert {package: locked.get(package) for package in required} == required
    assert required or (name, python) in {("requirements/book.txt", "3.8"), ("requirements/book.txt", "3.9")}
    assert len(locked) > 80  # with everything below them


def test_the_package_asks_for_the_versions_of_the_requirements():
    old, new = requirements("requirements.txt", "3.11"), requirements("requirements/locked-3.12.txt", "3.12")
    markers = {None, 'python_version < "3.12"', 'python_version < "3.13"', 'python_version >= "3.12"'}
    for line in PYPROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        marker = requirement.marker and str(requirement.marker)
        assert marker in markers
        if marker != 'python_version >= "3.12"':
            assert str(requirement.specifier) == f"=={old[requirement.name]}"
        if marker != 'python_version < "3.12"':
            assert requirement.specifier.contains(new[requirement.name])


def test_the_lock_for_new_pythons_overrides_what_d2l_pins_and_nothing_more():
    old, new = (
        requirements("requirements/constraints.txt", "3.11"),
        requirements("requirements/locked-3.12.txt", "3.12"),
    )
    assert "numpy" in OVERRIDDEN and all(package in old and package in new for package in OVERRIDDEN)
    assert [new[package] for package in ("mxnet", "d2l")] == ["1.9.1", "1.0.3"]
    assert int(new["numpy"].split(".")[0]) >= 2


@pytest.mark.parametrize("python", PYTHONS)
def test_the_extra_for_a_classroom_asks_for_the_versions_of_the_tests(python):
    extra = requirements("classroom", python)
    pins = requirements("requirements/test.txt", python)
    assert "nbgrader" in extra and {name: pins[name] for name in extra} == extra


@pytest.mark.parametrize(
    "folder, names",
    [
        ("gluon_bn", ["requirements.txt", "classroom"]),
        ("tests", ["requirements.txt", "requirements/test.txt", "requirements/book.txt"]),
    ],
)
def test_what_is_imported_is_required(folder, names):
    imported = set()
    files = list((TOP / folder).rglob("*.py"))
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    ours = {"gluon_bn", *(file.stem for file in [*files, *TOP.glob("tools/*.py")])}
    # importlib.util.find_spec tells where a module lives: Python's own are not in site-packages
    foreign = {
        name
        for name in imported - ours - set(sys.builtin_module_names)
        if "site-packages" in str(getattr(importlib.util.find_spec(name), "origin", "site-packages"))
    }
    required = {package.replace("-", "_") for name in names for package in requirements(name, "3.11")}
    # torch: one column of the benchmark; IPython: there wherever a notebook runs; tomllib: Python's own from 3.11 on,
    # tomli before
    # nbclient, nbformat: JupyterLab's own; latex2mathml: ziamath's
    optional = {"torch", "IPython", "tomllib", "tomli", "nbclient", "nbformat", "latex2mathml"}
    assert "mxnet" in foreign and foreign - required - optional == set()


def test_the_package_and_the_doctor_accept_the_same_pythons():
    accepted = SpecifierSet(PYPROJECT["project"]["requires-python"])
    for minor in range(6, 16):
        assert check_python((3, minor, 1), "cpython").ok == accepted.contains(f"3.{minor}.1")
    assert [python for python in PYTHONS if accepted.contains(python)] == PYTHONS


def test_no_file_names_the_host_of_a_package_registry():
    # whoever installs has set up an index; a host written here would go around it
    hosts = re.compile(
        "|".join(
            re.escape(host).replace("_", r"\.")
            for host in ("pypi_org", "pythonhosted_org", "download_pytorch", "anaconda_org", "deb_debian_org")
        )
    )
    if not shutil.which("git"):
        pytest.skip("no git on this machine")
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=TOP)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [TOP / name for name in listed.stdout.splitlines() if (TOP / name).is_file()]
    assert TOP / "Makefile" in files
    assert [str(file) for file in files if hosts.search(file.read_text(encoding="utf-8", errors="replace"))] == []
