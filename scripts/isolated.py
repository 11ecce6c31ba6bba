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

import assignment
import psutil
from assignment import NAME

# What a submission sees of this process's environment.
KEPT = ("LANG", "LC_ALL", "PATH", "PYTHONPATH", "TZ", "LD_LIBRARY_PATH")
MARK = "GLUON_BN_GRADING"  # finds what a submission left running


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
        shutil.copytree(course, own, ignore=shutil.ignore_patterns("submitted"))
        (own / place).mkdir(parents=True)
        shutil.copyfile(submission.notebook, own / place / f"{NAME}.ipynb")
        code, said = autograde(submission.student, home, own, token, limits)
        done = own / "autograded" / submission.student / NAME / f"{NAME}.ipynb"
        reason = why(code, said, limits) if code != 0 or not done.is_file() else ""
        if not reason:
            (course / place).mkdir(parents=True)
            shutil.copyfile(done, course / place / f"{NAME}.ipynb")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return Outcome(reason, time.monotonic() - start)


def autograde(student, home, own, token, limits):
    """Let nbgrader run a student's notebook; returns its exit code (None: out of time) and what it said."""
    known = assignment.environment()
    environment = {name: known[name] for name in KEPT if name in known}
    environment.update({
        "HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "GLUON_BN_DATA": str(home / "data"),
        "GLUON_BN_FUSED": "portable",  # nothing to compile
        "MPLBACKEND": "agg", MARK: token,
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // limits.jobs))})
    command = [sys.executable, "-m", "nbgrader", "autograde", NAME, f"--student={student}",
               f"--Execute.timeout={limits.cell_seconds}"]
    with open(home / "log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, cwd=own, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(token)
            process.wait()
        log.seek(0)
        return code, log.read()


def end(token):
    """End every process that carries a submission's token: its kernel, and what that has left behind."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token:
                process.kill()
        except psutil.Error:  # another user's, or gone
            pass


def why(code, said, limits):
    """Why a run has no result, from its exit code (None: out of time) and what nbgrader said."""
    if code is None:
        return f"stopped: it took more than {limits.seconds} seconds"
    if "CellTimeoutError" in said or "UnresponsiveKernelError" in said:
        return f"stopped: a cell took more than {limits.cell_seconds} seconds and could not be interrupted"
    if "DeadKernelError" in said or "Kernel died" in said:
        return "the notebook ended its own Python: exit(), os._exit(), too much memory, or a crash"
    lines = [line.strip() for line in said.splitlines() if re.match(r"\s*[\w.]*(Error|Exception)\b", line)]
    return f"nbgrader could not run it: {lines[-1][:200] if lines else f'exit code {code}'}"
