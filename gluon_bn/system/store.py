"""Files that are whole or not there."""
from __future__ import annotations

import contextlib
import os
import secrets
import time


def store(content, path):
    """Write bytes to a path so that it holds all of them or what it held before, even if the process is killed.

    Raises: OSError if the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in path.parent.glob(f'.{path.name}.*.part'):
        with contextlib.suppress(FileNotFoundError):  # its writer may be done in this moment
            if time.time() - part.stat().st_mtime > 3600:  # of a killed process; a younger one may be at work
                part.unlink()
    part = path.with_name(f'.{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part')
    try:
        with open(part, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a loss of power could leave the new name on an empty file
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()


def check_writable(folder):
    """Make the folder of what is about to be fetched or measured. Raises: OSError if it cannot be made or written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError('it is read-only')
