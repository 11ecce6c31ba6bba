"""Runs one submission, which is untrusted code, in its own folders and with limits.

bubblewrap (https://github.com/containers/bubblewrap) confines it: it can read Python, the data and its notebook, and
write to a small private disk. bubblewrap needs Linux, but neither root nor configuration. Some machines forbid the
user namespaces that it needs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Set, Tuple

import nbformat
import psutil
from nbformat import NotebookNode

from ...errors import GluonBnError, InputError
from ..assignment import TOP, environment
from . import execute
from .outputs import with_outputs

SYSTEM = (
    "/usr /bin /sbin /lib /lib64 /sys /etc/alternatives /etc/fonts /etc/ld.so.cache /etc/localtime /etc/passwd".split()
)
DISK, SHARED_MEMORY = 2**30, 2**28  # bytes that a submission may write in total
HOME = Path("/student")
# The environment variables that a submission inherits.
KEPT = ("LANG", "LC_ALL", "PATH", "PYTHONPATH", "TZ", "LD_LIBRARY_PATH")
MARK = "GLUON_BN_GRADING"  # identifies the processes of a submission
PROCESSES, FILE_BLOCKS = 64, 2**21  # limits: processes at a time, and file size (1 or 2 GB, depending on the shell)
LOGGED = 10_000  # bytes read from the end of a run's log


@dataclass(frozen=True)
class Limits:
    """The limits of one submission, and whether it is confined."""

    cell_seconds: int = 120
    seconds: int = 900
    gigabytes: float = 4
    threads: int = 1
    unconfined: bool = False


class Stopped(GluonBnError):
    """Grading was stopped while a submission ran."""


def why_unavailable() -> Optional[str]:
    """Return why submissions cannot be confined here, and what to do; None if they can."""
    if not shutil.which("bwrap"):
        return "bubblewrap is missing; install it (Debian, Ubuntu: apt-get install bubblewrap)"
    done = subprocess.run([*wrapped(), "--", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return (
            f"bubblewrap does not work here: {done.stderr.strip() or f'exit code {done.returncode}'}; it must be "
            "0.7 or newer, and the system must allow user namespaces"
        )
    return None


def wrapped(*options: str) -> List[str]:
    """Return bwrap and its options: no network, separate processes and users, a read-only system, a writable HOME."""
    packages = os.environ.get("PYTHONPATH", "").split(os.pathsep) + os.environ.get("LD_LIBRARY_PATH", "").split(":")
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *filter(None, packages)]
    command = "bwrap --unshare-all --unshare-user --die-with-parent --new-session --proc /proc --dev /dev".split()
    command += f"--size {SHARED_MEMORY} --tmpfs /dev/shm --size {DISK} --tmpfs {HOME} --dir {HOME}/tmp".split()
    for path in (*SYSTEM, *python, str(TOP / "gluon_bn")):
        command += ["--ro-bind-try", path, path]
    return [*command, *options, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(HOME)]


def run(notebook: NotebookNode, working: Path, limits: Limits, stop: threading.Event) -> NotebookNode:
    """Run the notebook of one submission, and return it with its outputs.

    working: a folder that holds Fashion-MNIST, in `data`; a temporary folder is created in it.

    Raises: InputError with the reason if there is no result; Stopped if `stop` is set.
    """
    token, folder = uuid.uuid4().hex, Path(tempfile.mkdtemp(dir=working))
    result = folder / "result.ipynb"
    try:
        nbformat.write(notebook, str(folder / "notebook.ipynb"))
        result.touch()
        reason, code, said = _execute(folder, working / "data", token, limits, stop)
        if reason or code:
            raise InputError(reason or _describe_failure(code, said, limits))
        return with_outputs(notebook, result.read_bytes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _execute(folder: Path, data: Path, token: str, limits: Limits, stop: threading.Event) -> Tuple[str, int, str]:
    """Run folder/notebook.ipynb, and return why it was stopped (or ""), its exit code and the end of its log."""
    paths = [execute.__file__, str(folder / "notebook.ipynb"), str(folder / "result.ipynb")]
    if limits.unconfined:
        home, wrapper = folder / "home", []
        shutil.copytree(data, home / "data")  # a copy, because the submission could delete it
        (home / "tmp").mkdir()
    else:
        home, inside = HOME, ["/execute.py", "/in.ipynb", "/out.ipynb"]
        binds = ["--ro-bind", str(data), str(home / "data")]
        for option, path, name in zip(("--ro-bind", "--ro-bind", "--bind"), paths, inside):
            binds += [option, path, name]
        wrapper, paths = [*wrapped(*binds), "--"], inside
    known = environment()
    variables = {
        **{name: known[name] for name in KEPT if name in known},
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "GLUON_BN_DATA": str(home / "data"),
        "GLUON_BN_FUSED": "portable",  # does not need a compiler
        MARK: token,
        "OMP_NUM_THREADS": str(limits.threads),
    }
    command = [*wrapper, sys.executable, *paths, str(limits.cell_seconds)]
    with open(folder / "log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            ["sh", "-c", f'ulimit -f {FILE_BLOCKS} && exec "$@"', "sh", *command],
            cwd=home if limits.unconfined else folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            reason = _watch(process, token, limits, stop)
        finally:
            _kill_all(process, token)
            assert process.stdin
            process.stdin.close()
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - LOGGED))
        return reason, process.returncode, log.read()


def _watch(process: subprocess.Popen[bytes], token: str, limits: Limits, stop: threading.Event) -> str:
    """Wait until a process exits or exceeds a limit; return why it must be stopped, or ""."""
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            process.wait(0.25)
            return ""
        except subprocess.TimeoutExpired:
            pass
        if stop.is_set():
            raise Stopped("stopped")
        running, memory = _processes_of(process, token), 0
        for one in running:
            try:
                used = one.memory_full_info()
                memory += getattr(used, "pss", used.uss)  # counts shared memory once
            except psutil.Error:  # gone
                pass
        if len(running) > PROCESSES:
            return f"stopped: it ran more than {PROCESSES} processes at a time"
        if memory > limits.gigabytes * 2**30:
            return f"stopped: it used more than {limits.gigabytes:g} GB of memory"
        if time.monotonic() > deadline:
            return f"stopped: it took more than {limits.seconds} seconds"


def _processes_of(process: subprocess.Popen[bytes], token: str) -> Set[psutil.Process]:
    """Return every process of a submission: those that carry its token, and the descendants of its first."""
    try:
        found = set(psutil.Process(process.pid).children(recursive=True))
    except psutil.Error:  # the first has ended
        found = set()
    for one in psutil.process_iter():
        try:
            if one.environ().get(MARK) == token:
                found.add(one)
        except psutil.Error:  # another user's, or gone
            pass
    return found


def _kill_all(process: subprocess.Popen[bytes], token: str) -> None:
    """Kill all processes of a submission, repeatedly, because they may start others."""
    for _ in range(100):
        left = _processes_of(process, token)
        if process.poll() is None:
            process.kill()
        for one in left:
            try:
                one.kill()
            except psutil.Error:
                pass
        if not left:
            break
        psutil.wait_procs(left, timeout=0.1)
    process.wait()


def _describe_failure(code: int, said: str, limits: Limits) -> str:
    """Say why a run has no result, from its exit code and its log."""
    if code == execute.STUCK:
        return f"stopped: a cell took more than {limits.cell_seconds} seconds and could not be interrupted"
    if code == execute.DEAD:
        return "the notebook ended its own Python: exit(), os._exit(), too much memory, or a crash"
    number = -code if code < 0 else code - 128  # the convention of shells and bubblewrap
    if number in set(signal.Signals):
        return f"the notebook killed the process that runs it, by {signal.Signals(number).name}"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"it could not be run: {lines[-1][:200] if lines else f'exit code {code}'}"
