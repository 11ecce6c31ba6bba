"""What a submission can reach: Python, the data and its own notebook to read; a small disk of its own to write.

bubblewrap (https://github.com/containers/bubblewrap) keeps it so. It needs Linux, but neither root nor a set-up. Some
machines forbid it what it needs, user namespaces.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

from .assignment import TOP

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/sys", "/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache",
          "/etc/localtime", "/etc/passwd")
DISK, SHARED_MEMORY = 2 ** 30, 2 ** 28  # bytes that a submission may write, in all
HOME = Path("/student")


def missing() -> Optional[str]:
    """Why submissions cannot be confined here, and what to do; None if they can."""
    if not shutil.which("bwrap"):
        return "bubblewrap is missing; install it (Debian, Ubuntu: apt-get install bubblewrap)"
    done = subprocess.run([*wrapped(), "--", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        return (f"bubblewrap does not work here: {done.stderr.strip() or f'exit code {done.returncode}'}; it must be "
                "0.7 or newer, and the system must allow user namespaces")
    return None


def wrapped(*options: str) -> List[str]:
    """bwrap and its options: no network, processes and users of its own, a read-only system, HOME to write."""
    packages = os.environ.get("PYTHONPATH", "").split(os.pathsep) + os.environ.get("LD_LIBRARY_PATH", "").split(":")
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *filter(None, packages)]
    command = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--proc", "/proc",
               "--dev", "/dev", "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm", "--size", str(DISK),
               "--tmpfs", str(HOME), "--dir", str(HOME / "tmp")]
    for path in (*SYSTEM, *python, str(TOP / "gluon_bn")):
        command += ["--ro-bind-try", path, path]
    return [*command, *options, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(HOME)]
