"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path
from typing import Optional

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def store(content: bytes, path: Path) -> None:
    """Write bytes to a path atomically: it holds all of them or its old content, even if the process is killed.

    A link stays a link, and its target is written. A file keeps its mode. A pipe or a device is written directly.

    Raises: OSError if the folder cannot be created, or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(content)  # raises for a folder
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    prefix = f'.{path.name[:40]}.'  # shortened, so that the part's name cannot be too long if the file's is not
    for part in path.parent.glob(f'{glob.escape(prefix)}*.part'):
        with contextlib.suppress(FileNotFoundError):  # its writer may just have finished
            if time.time() - part.stat().st_mtime > 3600:  # left by a killed process; a newer one may be in use
                part.unlink()
    part = path.with_name(f'{prefix}{os.getpid()}-{secrets.token_hex(4)}.part')
    try:
        with open(part, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the new name
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        os.replace(part, path)
    finally:
        if part.exists():
            part.unlink()


def check_writable(path: Path) -> None:
    """Create the folder of a file, and check that the file can be written. Raises: OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if mode is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if mode is None or stat.S_ISREG(mode):
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()  # its error says why files cannot be created


def _mode(path: Path) -> Optional[int]:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
