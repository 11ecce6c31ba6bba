"""Reports an unexpected error, usually a bug: one line for the screen, and the traceback in a file."""

from __future__ import annotations

import os
import tempfile
import traceback
from pathlib import Path
from typing import Optional

PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def describe_and_keep(error: BaseException, log: Optional[Path] = None) -> str:
    """Return a line with the error's type, message, place and the file to which its traceback is appended.

    log: that file; None creates one in the folder for temporary files. If it cannot be written, the traceback is
    returned too.
    """
    frames = [f'{frame.filename}:{frame.lineno}' for frame in traceback.extract_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.startswith(PACKAGE)]
    place = frames[-1] if frames else 'unknown'
    if ours and ours[-1] != place:
        place += f', called from {ours[-1]}'
    text = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
    first = (str(error).strip().splitlines() or ['no message'])[0]
    line = f'unexpected {type(error).__name__}: {first} (at {place})'
    try:
        if log is None:
            descriptor, name = tempfile.mkstemp(prefix='gluon_bn-', suffix='.traceback.txt')
            os.close(descriptor)
            log = Path(name)
        with open(log, 'a', encoding='utf-8', errors='backslashreplace') as file:
            file.write(text)
    except OSError as why:
        return f'{line}; its traceback cannot be written: {why.strerror or why}\n{text.rstrip()}'
    return f'{line}; the traceback is in {log}'
