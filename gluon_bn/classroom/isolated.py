"""Running one submission: somebody else's code, in folders of its own, and with an end."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil

from . import assignment
from .assignment import KERNEL, NAME
from .confined import confined

# What a submission sees of this process's environment.
KEPT = ("LANG", "LC_ALL", "PATH", "PYTHONPATH", "TZ", "LD_LIBRARY_PATH")
MARK = "GLUON_BN_GRADING"  # finds what a submission left running
PROCESSES, FILE_BLOCKS = 64, 2 ** 21  # the most at a time, and the largest file: 1 or 2 GB, as the shell counts


class Outcome(NamedTuple):
    reason: str  # why there is no grade; "" if it ran
    seconds: float


def run(submission, course, data, limits):
    """Run one submission in folders of its own; what it comes to goes to course/submitted."""
    start, token, home = time.monotonic(), uuid.uuid4().hex, Path(tempfile.mkdtemp(prefix="grading-"))
    own, place = home / "course", Path("submitted") / submission.student / NAME
    try:
        for name in ("home", "tmp", "data"):
            (home / name).mkdir()
        for name, file in data.items():
            (home / "data" / name).write_bytes(file.content)
            (home / "data" / name).chmod(0o444)
        shutil.copytree(course, own, ignore=shutil.ignore_patterns("submitted", "autograded", "source", "release"))
        (own / place).mkdir(parents=True)
        notebook = nbformat.read(str(submission.notebook), as_version=4)
        notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)  # the student's has another name on many machines
        nbformat.write(notebook, str(own / place / f"{NAME}.ipynb"))
        reason, code, said = autograde(submission.student, home, own, token, limits)
        done = own / "autograded" / submission.student / NAME / f"{NAME}.ipynb"
        # nbgrader writes it once before it runs it: without an exit code of 0 it is full of tests that never failed
        if not reason and (code != 0 or not done.is_file()):
            reason = why(code, said, limits)
        if not reason:
            (course / place).mkdir(parents=True)
            shutil.copyfile(done, course / place / f"{NAME}.ipynb")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return Outcome(reason, time.monotonic() - start)


def autograde(student, home, own, token, limits):
    """Let nbgrader run a student's notebook; returns why it was stopped, or "", its exit code and what it said."""
    known = assignment.environment()
    environment = {name: known[name] for name in KEPT if name in known}
    environment.update({
        "HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "GLUON_BN_DATA": str(home / "data"),
        "GLUON_BN_FUSED": "portable",  # nothing to compile
        "MPLBACKEND": "agg", MARK: token,
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // limits.jobs))})
    command = [sys.executable, "-m", "nbgrader", "autograde", NAME, f"--student={student}",
               f"--Execute.timeout={limits.cell_seconds}"]
    command = ["sh", "-c", f'ulimit -f {FILE_BLOCKS} && exec "$@"', "sh", *confined(command, home)]
    with open(home / "log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, cwd=own, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            reason = watch(process, token, limits)
        finally:
            end(process, token)
        log.seek(0)
        return reason, process.returncode, log.read()


def watch(process, token, limits):
    """Wait until a process has ended, or takes too much; then returns why it must be stopped."""
    deadline = time.monotonic() + limits.seconds
    while True:
        try:
            process.wait(0.25)
            return ""
        except subprocess.TimeoutExpired:
            pass
        running, memory = family(process, token), 0
        for one in running:
            try:
                used = one.memory_full_info()
                memory += getattr(used, "pss", used.uss)  # what forks share counts once
            except psutil.Error:  # gone
                pass
        if len(running) > PROCESSES:
            return f"stopped: it ran more than {PROCESSES} processes at a time"
        if memory > limits.gigabytes * 2 ** 30:
            return f"stopped: it took more than {limits.gigabytes:g} GB of memory"
        if time.monotonic() > deadline:
            return f"stopped: it took more than {limits.seconds} seconds"


def family(process, token):
    """Every process of a submission: those that carry its token, and those that descend from its first."""
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


def end(process, token):
    """End all that a submission has left running; again, while what is ended starts others."""
    for _ in range(100):
        left = family(process, token)
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


def why(code, said, limits):
    """Why a run has no result, from its exit code and what nbgrader said."""
    if "CellTimeoutError" in said or "UnresponsiveKernelError" in said:
        return f"stopped: a cell took more than {limits.cell_seconds} seconds and could not be interrupted"
    if "DeadKernelError" in said or "Kernel died" in said:
        return "the notebook ended its own Python: exit(), os._exit(), too much memory, or a crash"
    missing = re.search(r"KeyError: '([\w-]+)'\s*$", said, re.MULTILINE)
    if missing:  # nbgrader brings back a test that was deleted, but not if the cell before it is gone, too
        return f"the cell {missing.group(1)} is missing; copy the answers into a new copy of the notebook"
    lines = [line.strip() for line in said.splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b", line)]
    return f"nbgrader could not run it: {lines[-1][:200] if lines else f'exit code {code}'}"
