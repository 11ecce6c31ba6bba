"""Checks of the machine: its Python, its platform, its settings, its folders and its compiler."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from ..errors import InputError
from ..system.settings import check_before_matplotlib, check_before_mxnet, folder_from, home
from ..system.threads import is_left_alone, policy
from .result import Result

CLONE = Path(__file__).resolve().parents[2]
PYTHON_REMEDY = "use Python 3.11 (3.8 to 3.14 work): `make PYTHON=/path/to/python3.11 compare`"
CONTAINER = "open this folder in its container (.devcontainer; see the README)"
SETUP_SPACE = 1000  # MB that set-up needs for .venv
DATA_SPACE = 50  # MB for Fashion-MNIST, the compiled operator, and a few runs

# MXNet's wheel for x86-64 needs these from the system; a bare container lacks them; g++ brings them along
SYSTEM_LIBRARIES = {"libgomp.so.1": "libgomp1", "libquadmath.so.0": "libquadmath0", "libstdc++.so.6": "libstdc++6"}


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


@dataclass(frozen=True)
class Platform:
    """The facts that decide whether MXNet has a wheel."""

    system: str  # as platform.system() says
    machine: str  # as platform.machine() says: that of the kernel
    libc: str = ""  # glibc, musl or ""
    bits: int = 64  # of this Python, which may be 32 on a 64-bit kernel


def this_platform(lib: Path = Path("/lib")) -> Platform:
    libc = platform.libc_ver()[0]  # not reliable without glibc
    if libc != "glibc":
        libc = "musl" if any(lib.glob("ld-musl-*")) else ""
    return Platform(platform.system(), platform.machine(), libc, 64 if sys.maxsize > 2**32 else 32)


def check_platform(found: Platform | None = None) -> Result:
    found = found or this_platform()
    text, kind = f"{found.system} {found.machine}", found.machine.lower()
    if found.bits == 32:
        why, remedy = ", a 32-bit Python: MXNet's wheels are 64-bit only", "install a 64-bit Python, or a 64-bit system"
    elif found.system == "Windows":
        why, remedy = ": MXNet 1.9.1 has no wheels for Windows", f"{CONTAINER}, or work in WSL2 (`wsl --install`)"
    elif found.system == "Darwin" and kind == "arm64":
        why = ": MXNet 1.9.1 has no wheels for Apple silicon"
        remedy = f"{CONTAINER}, or use an x86-64 Python under Rosetta: `arch -x86_64 /usr/local/bin/python3.11`"
    elif found.system == "Linux" and found.libc != "glibc":
        why = f", {found.libc or 'no glibc'}: MXNet's wheels need glibc"
        remedy = f"use a glibc distribution, such as Debian, instead of Alpine, or {CONTAINER}"
    elif (found.system, kind) in {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")}:
        return Result("platform", True, text)
    else:
        why = ": MXNet 1.9.1 has wheels for Linux on x86-64 and aarch64 and for macOS on x86-64 only"
        remedy = "use one of these, for example in a container or a virtual machine"
    return Result("platform", False, text + why, remedy)


def check_libraries(found: Platform | None = None, missing: Sequence[str] | None = None) -> Result:
    """Check for the system libraries that MXNet needs."""
    if (found or this_platform()) != Platform("Linux", "x86_64", "glibc"):
        return Result("libraries", True, "not examined on this platform")
    if missing is None:
        missing = [library for library in SYSTEM_LIBRARIES if not loads(library)]
    if missing:
        return Result("libraries", False, f"MXNet needs {', '.join(missing)}", install_libraries(missing))
    return Result("libraries", True, f"{', '.join(SYSTEM_LIBRARIES)} can be loaded")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install_libraries(missing: Iterable[str]) -> str:
    packages = " ".join(SYSTEM_LIBRARIES[library] for library in missing)
    return f"install what is missing, or g++, which includes it; on Debian: `sudo apt-get install {packages}`"


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


def check_threads(left_alone: bool | None = None) -> Result:
    """Report the thread policy. left_alone: whether libgomp was loaded before gluon_bn could set its variables."""
    if is_left_alone() if left_alone is None else left_alone:
        text = "libgomp was loaded before gluon_bn, so the thread policy does not apply"
        return Result("threads", True, text, "to apply it, import gluon_bn before MXNet and PyTorch")
    alone, several = (" ".join(f"{name}={value}" for name, value in policy(one).items()) for one in (True, False))
    return Result("threads", True, f"a single run: {alone}; each of several: {several}")


def check_setup(clone: Path = CLONE, packages: bool | None = None, ensurepip: bool | None = None) -> Result:
    """Check whether `make` has made .venv; packages: this Python has MXNet; ensurepip: it can make a .venv."""
    ready, venv = clone / ".venv" / "ready", clone / ".venv"
    if packages is None:
        packages = importlib.util.find_spec("mxnet") is not None
    if ensurepip is None:
        ensurepip = all(importlib.util.find_spec(name) for name in ("ensurepip", "venv"))
    if ready.is_file():
        return Result("set-up", True, f"{venv} is complete, with Python {ready.read_text().strip()}")
    if packages or not (clone / "Makefile").is_file():
        return Result("set-up", True, f"not made by make: the packages are in {sys.prefix}")
    reason = why_unusable(venv if venv.is_dir() else clone, SETUP_SPACE)
    if reason:
        remedy = "copy the project to a folder of your own with 1 GB free"
        return Result("set-up", False, f"{clone} cannot hold .venv: {reason}", remedy)
    if not ensurepip:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        text = "no .venv, and this Python cannot make one: ensurepip is missing"
        return Result("set-up", False, text, f"on Debian: `sudo apt-get install {package}`; then `make .venv/ready`")
    text = "is unfinished: set-up failed or was interrupted" if venv.exists() else "does not exist yet"
    return Result("set-up", False, f"{venv} {text}", "`make .venv/ready` makes it, or says why it cannot")


def check_folders() -> Result:
    """Check that the home and temporary folders have space for the data and the compiled operator."""
    remedy = "free some space, or set {} to a folder that can be written"
    try:
        folders = {"TMPDIR": Path(tempfile.gettempdir())}
    except FileNotFoundError:
        text = "no folder accepts temporary files: all are full or read-only"
        return Result("folders", False, text, remedy.format("TMPDIR"))
    own = home()
    if own and not (os.environ.get("GLUON_BN_DATA") and os.environ.get("GLUON_BN_CACHE")):
        folders["HOME"] = own
    for name, folder in folders.items():
        reason = why_unusable(folder, DATA_SPACE)
        if reason:
            return Result("folders", False, f"{name}, {folder}: {reason}", remedy.format(name))
    return Result("folders", True, f"{', '.join(map(str, folders.values()))} can be written")


def why_unusable(folder: Path, megabytes: int) -> str:
    """Return why so many megabytes cannot be written to a folder; "" if they can."""
    try:
        free = shutil.disk_usage(folder).free // 10**6
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return f"{free} MB are free, {megabytes:,} MB are needed" if free < megabytes else ""


def check_compiler() -> Result:
    """Report the C++ compiler; having none is ok too: the portable path is slower but just as correct."""
    try:
        words = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:  # from shlex.split: an unbalanced quote
        return Result("compiler", False, f"CXX must be a command: {error}", "unset CXX, or set it to a compiler")
    found = next((path for path in map(shutil.which, words[:1] or ("g++", "clang++")) if path), None)
    if found:
        return Result("compiler", True, found)
    text = f"no {words[0]}, which CXX names" if words else "neither g++ nor clang++"
    text += ": fused_batch_norm takes its portable path, which is about ten times as slow"
    return Result("compiler", True, text, "to speed it up, install g++; on Debian: `sudo apt-get install g++`")
