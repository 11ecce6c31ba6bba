"""A disk small enough to fill up."""

import os
import shutil
import subprocess

import pytest


def small_disk(folder, kib):
    """The words before a command that runs it with a disk of so many KiB at folder, which no other process sees."""
    mount = (
        "unshare",
        "--mount",
        *(() if os.geteuid() == 0 else ("--map-root-user",)),
        "sh",
        "-c",
        f'mount -t tmpfs -o size={kib}k tmpfs "$0" && exec "$@"',
        str(folder),
    )
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    return mount
