"""What a submission can reach, where bubblewrap works: its own folder, and Python. Nothing else of the disk is there.

https://github.com/containers/bubblewrap needs Linux, no root and no set-up (Debian: apt-get install bubblewrap). Some
machines forbid it what it needs, user namespaces; there, and on a Mac, submissions run without it.
"""
from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .assignment import TOP

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/sys", "/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache",
          "/etc/localtime", "/etc/passwd")


@functools.lru_cache(maxsize=None)
def works():
    """Whether bubblewrap is there and may do what it is to do."""
    if not shutil.which("bwrap"):
        return False
    return subprocess.run([*wrapped(Path("/usr")), "true"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def confined(command, home):
    """The command in bubblewrap if that works, else as it is."""
    return [*wrapped(home), *command] if works() else list(command)


def wrapped(home):
    """bwrap and its options: no network, no other process, and of the disk `home` to write and Python to read."""
    packages = os.environ.get("PYTHONPATH", "").split(os.pathsep) + os.environ.get("LD_LIBRARY_PATH", "").split(":")
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *filter(None, packages)]
    options = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
    for path in (*SYSTEM, *python, str(TOP / "gluon_bn")):
        options += ["--ro-bind-try", path, path]
    return [*options, "--bind", str(home), str(home)]
