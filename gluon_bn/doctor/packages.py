"""Checks of the packages and the data. Each package is imported in a separate Python process."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..system.interpreter import ADVICE, command_line
from .machine import CLONE, SYSTEM_LIBRARIES, install_libraries, loads
from .result import Result

NEW_PYTHON = sys.version_info >= (3, 12)  # there, we use NumPy 2 and add the names that MXNet needs
REQUIREMENTS = "--no-deps -r requirements/locked-3.12.txt" if NEW_PYTHON else "-r requirements.txt"
if (CLONE / "requirements.txt").is_file():
    INSTALL = f"`pip install {REQUIREMENTS}` in a virtual environment, or `make test`, which makes one"
else:  # gluon_bn was installed by pip; pyproject.toml gives the reason
    INSTALL = f"`pip install {'--no-deps ' * NEW_PYTHON}mxnet==1.9.1 d2l==1.0.3` in this environment"


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
        said = [line for line in done.stderr.strip().splitlines() if not line.endswith(ADVICE)]  # to ask the doctor
        return Answer("", (said or ["failed without a message"])[-1])
    return Answer((done.stdout.strip().splitlines() or [""])[-1])


def version_of(module: str) -> Answer:
    """Import `module` in another Python process; return its package's version, or the error."""
    names = "from gluon_bn.system.missing_names import give_names; give_names(); " if "mxnet" in module else ""
    return ask(f"{names}import sys, {module}; print(sys.modules['{module.split('.')[0]}'].__version__)")


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
    if any(library in error for library in SYSTEM_LIBRARIES):  # the error names only one: say what else is missing
        remedy = install_libraries(library for library in SYSTEM_LIBRARIES if library in error or not loads(library))
        return Result("MXNet", False, error, remedy)
    if "libarmpl" in error:
        remedy = "`sudo apt-get install liblapacke libopenblas0-pthread`; `make .venv/ready` links them in its place"
        return Result("MXNet", False, error, remedy)
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


def check_matplotlib() -> Result:
    version, error = version_of("matplotlib")
    if "Key backend" in error:
        return Result("matplotlib", False, error, "unset MPLBACKEND")
    return Result("matplotlib", not error, error or version, INSTALL if error else "")


def check_data() -> Result:
    from ..data import DataMissing, find_files

    fetch = f"`{command_line('data')}`"
    with warnings.catch_warnings(record=True) as caught:  # wrong files in folders that the user did not name
        warnings.simplefilter("always")
        try:
            found = find_files(download=False)
        except DataMissing:
            if not caught:
                return Result("data", True, f"not here yet; the first run fetches it (30 MB), or {fetch} now")
            wrong = "; ".join(str(w.message) for w in caught)
            return Result("data", False, wrong, f"{fetch} finds, downloads and verifies it")
        except (OSError, InputError) as error:  # a wrong file in a folder that the user named, or an invalid folder
            remedy = f"remove it, or the setting that names its folder; then {fetch} finds, downloads and verifies it"
            return Result("data", False, str(error).splitlines()[0], remedy)
    folders = sorted({str(file.path.parent) for file in found.values()})
    text = "; ".join([f"Fashion-MNIST, verified, in {', '.join(folders)}", *(str(w.message) for w in caught)])
    return Result("data", True, text)


def check_fused() -> Result:
    """Report the path of fused_batch_norm; the portable one is ok too: it is slower but just as correct."""
    if not (Path(__file__).parents[1] / "norm").is_dir():  # the copy for students
        return Result("fused path", True, "not part of this copy")
    text, error = ask("from gluon_bn.norm import status; print(status())")
    if error:
        return Result("fused path", False, error, "fix MXNet first, if it is not ok")
    if text.startswith("none: "):  # a setting asks for what is unavailable
        what, _, remedy = text[len("none: ") :].rpartition("; ")
        return Result("fused path", False, what, remedy)
    return Result("fused path", True, text)
