"""`python -m gluon_bn doctor`: checks what works on this machine, and says what to do about the rest.

It imports only the standard library and runs on Python 3.7, because it must work where nothing else does.
Each package is tried in a separate Python process, so that even a crash is reported.
The arguments of each check are what it examines; they default to this machine.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

from .errors import InputError
from .system.interpreter import command_line
from .system.settings import check_before_matplotlib, check_before_mxnet, folder_from

NEW_PYTHON = sys.version_info >= (3, 12)  # uses NumPy 2, to which we add the names that MXNet needs
PYTHON_REMEDY = "use Python 3.11 (3.8 to 3.14 work): `make PYTHON=/path/to/python3.11 compare`"
REQUIREMENTS = "--no-deps -r requirements/locked-3.12.txt" if NEW_PYTHON else "-r requirements.txt"
INSTALL = f"`pip install {REQUIREMENTS}` in a virtual environment, or `make test`, which makes one"

# what MXNet's wheel needs from the system and a bare container lacks; installing g++ provides them
SYSTEM_LIBRARIES = {"libgomp.so.1": "libgomp1", "libquadmath.so.0": "libquadmath0", "libstdc++.so.6": "libstdc++6"}


class Result(NamedTuple):
    name: str
    ok: bool
    text: str  # what was found
    remedy: str = ""  # what to do; empty if all is well


class Answer(NamedTuple):
    text: str  # "" if there was an error
    error: str = ""  # the last line of the traceback, "" if there was none


def ask(code: str) -> Answer:
    """Run `code` in another Python process; return the last line that it prints, or its error."""
    # -W ignore: MXNet triggers a page of NumPy's deprecation warnings
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return Answer("", "no answer within three minutes")
    if done.returncode < 0:
        return Answer("", f"crashed with signal {-done.returncode}")
    if done.returncode:
        return Answer("", (done.stderr.strip().splitlines() or ["failed without a message"])[-1])
    return Answer((done.stdout.strip().splitlines() or [""])[-1])


def version_of(module: str) -> Answer:
    """Import `module` in another Python process; return its package's version, or the error."""
    names = "from gluon_bn.system.missing_names import give_names; give_names(); " if "mxnet" in module else ""
    return ask(f"{names}import sys, {module}; print(sys.modules['{module.split('.')[0]}'].__version__)")


def check_python(
    version: Sequence[int] = sys.version_info[:3],
    implementation: str = sys.implementation.name,
    free_threaded: bool = bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
) -> Result:
    text = f"{implementation} {'.'.join(str(part) for part in version[:3])}"
    if implementation != "cpython":
        return Result("Python", False, text + ": MXNet's wheels are for CPython", PYTHON_REMEDY)
    if free_threaded:
        return Result("Python", False, text + ", free-threaded: MXNet 1.9.1 is not tested on it", PYTHON_REMEDY)
    if tuple(version[:2]) >= (3, 15):
        return Result("Python", False, text + ": MXNet 1.9.1 is not tested on Python after 3.14", PYTHON_REMEDY)
    if tuple(version[:2]) < (3, 8):
        return Result("Python", False, text + ": d2l 1.0.3 needs Python 3.8 or later", PYTHON_REMEDY)
    return Result("Python", True, text)


def check_platform(
    system: str = platform.system(), machine: str = platform.machine(), libc: str = platform.libc_ver()[0]
) -> Result:
    text, kind = f"{system} {machine}", machine.lower()
    if system == "Windows":
        why = ": MXNet 1.9.1 has no wheels for Windows"
        remedy = "work in WSL2 (`wsl --install`, then follow the README inside it), or in a Linux container"
    elif system == "Darwin" and kind == "arm64":
        why = ": MXNet 1.9.1 has no wheels for Apple silicon"
        remedy = (
            "work in a Linux container (aarch64 has wheels), or with an x86-64 Python under Rosetta: "
            "`arch -x86_64 /usr/local/bin/python3.11`"
        )
    elif system == "Linux" and libc != "glibc":
        why, remedy = ": MXNet's wheels need glibc", "use a glibc distribution, such as Debian, instead of Alpine"
    elif (system, kind) in {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")}:
        return Result("platform", True, text)
    else:
        why = ": MXNet 1.9.1 has wheels for Linux on x86-64 and aarch64 and for macOS on x86-64 only"
        remedy = "work on one of these, for example in a container or a virtual machine"
    return Result("platform", False, text + why, remedy)


def check_settings() -> Result:
    """Check the environment variables that can make MXNet or matplotlib fail, and those of this package."""
    try:
        check_before_mxnet()
        check_before_matplotlib()
        for variable in ("GLUON_BN_DATA", "GLUON_BN_CACHE", "XDG_CACHE_HOME", "MXNET_HOME"):
            folder_from(variable)
    except InputError as error:
        what, _, remedy = str(error).rpartition("; ")
        return Result("settings", False, what, remedy)
    return Result("settings", True, "the environment variables are valid")


def check_numpy(found: Answer | None = None, new_python: bool = NEW_PYTHON) -> Result:
    version, error = found or version_of("numpy")
    if error:
        return Result("NumPy", False, error, INSTALL)
    if not new_python and tuple(int(part) for part in version.split(".")[:2]) >= (1, 24):
        why = ": MXNet 1.9.1 uses np.bool, which NumPy 1.24 removed"
        return Result("NumPy", False, version + why, "`pip install numpy==1.23.5`")
    return Result("NumPy", True, version)


def check_mxnet(found: Answer | None = None) -> Result:
    version, error = found or version_of("mxnet")
    for library, debian in SYSTEM_LIBRARIES.items():
        if library in error:
            return Result("MXNet", False, error, f"install that library; on Debian: `sudo apt-get install {debian}`")
    if "has no attribute 'bool'" in error:
        return Result("MXNet", False, error, "NumPy is too new for MXNet: `pip install numpy==1.23.5`")
    if "distutils" in error:
        return Result("MXNet", False, error, "`pip install setuptools`, which provides it")
    if error:
        return Result("MXNet", False, error, INSTALL)
    if version != "1.9.1":
        return Result("MXNet", False, f"{version}: gluon_bn is for 1.9.1", "`pip install mxnet==1.9.1`")
    return Result("MXNet", True, version)


def check_d2l(found: Answer | None = None) -> Result:
    version, error = found or version_of("d2l.mxnet")
    if error:
        return Result("d2l", False, error, "fix NumPy and MXNet first, if they are not ok; then " + INSTALL)
    if version != "1.0.3":
        return Result("d2l", False, f"{version}: gluon_bn is for 1.0.3", "`pip install d2l==1.0.3`")
    return Result("d2l", True, version)


def check_matplotlib(found: Answer | None = None) -> Result:
    version, error = found or version_of("matplotlib")
    if "Key backend" in error:
        return Result("matplotlib", False, error, "unset MPLBACKEND")
    return Result("matplotlib", not error, error or version, INSTALL if error else "")


def check_data(find: Callable[..., Any] | None = None) -> Result:
    from .data import DataMissing, find_files

    fetch = f"`{command_line('data')}`"
    with warnings.catch_warnings(record=True) as caught:  # wrong files in folders that the user did not name
        warnings.simplefilter("always")
        try:
            found = (find or find_files)(download=False)
        except DataMissing:
            if not caught:
                return Result("data", True, f"not here yet; the first run fetches it (30 MB), or {fetch} now")
            wrong = "; ".join(str(w.message) for w in caught)
            return Result("data", False, wrong, f"{fetch} looks, downloads and verifies")
        except (OSError, InputError) as error:  # a wrong file in a folder that the user named, or an invalid folder
            remedy = f"remove it, or the setting that names its folder; then {fetch} looks, downloads and verifies"
            return Result("data", False, str(error).splitlines()[0], remedy)
    folders = sorted({str(file.path.parent) for file in found.values()})
    text = "; ".join([f"Fashion-MNIST, verified, in {', '.join(folders)}", *(str(w.message) for w in caught)])
    return Result("data", True, text)


def check_fused(found: Answer | None = None) -> Result:
    """Report the path of fused_batch_norm; the portable one is ok too, because it is slower but just as correct."""
    text, error = found or ask("from gluon_bn.norm import status; print(status())")
    if error:
        return Result("fused path", False, error, "fix MXNet first, if it is not ok")
    return Result("fused path", True, text)


def own_python() -> str:
    """Return the Python of the project's .venv; "" if there is none, or if it is running this."""
    folder = Path(__file__).resolve().parents[1] / ".venv"
    python = folder / "bin" / "python"
    return os.path.relpath(python) if python.exists() and Path(sys.prefix).resolve() != folder.resolve() else ""


CHECKS: dict[str, Callable[[], Result]] = {
    "python": check_python,
    "platform": check_platform,
    "settings": check_settings,
    "numpy": check_numpy,
    "mxnet": check_mxnet,
    "d2l": check_d2l,
    "matplotlib": check_matplotlib,
    "data": check_data,
    "fused": check_fused,
}


def main(names: Sequence[str] = ()) -> int:
    """Run all checks, or those named, and print a line for each; return 0 if all are ok, else 1."""
    all_ok, own = True, "" if names else own_python()
    if own:
        print(f"This is not .venv's Python: use {shlex.quote(own)} -m gluon_bn doctor", flush=True)
    for name in names or CHECKS:
        result = CHECKS[name]()
        print(f"{result.name:11} {'ok    ' if result.ok else 'WRONG '} {result.text}", flush=True)
        if result.remedy and not (own and "pip install" in result.remedy):  # packages belong into .venv
            print(f"{'':11} to do: {result.remedy}", flush=True)
        all_ok = all_ok and result.ok
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
