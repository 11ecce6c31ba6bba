"""The folder of a comparison: made once, gone on with later, written by one process at a time."""
from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os

from .. import __version__
from ..errors import InputError
from ..system.settings import check_path
from ..system.store import store
from .configuration import Configuration

NAME = 'configuration.json'
RESULTS = ('report.md', 'curves.svg', 'curves.png', 'summary.json', 'metrics.jsonl', 'nets')
NAME_IT = 'name the folder that the comparison said it writes to'
ANEW = 'start anew in another folder'


@contextlib.contextmanager
def new(out, configuration):
    """Make the folder `out` for a new comparison and lock it.

    Raises: InputError if it cannot be written, is locked, or has a file already that would be written over.
    """
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out, 'out'))
            found = [name for name in (NAME, *RESULTS) if (out / name).exists()]
            if found:
                raise InputError(f'must be a folder without results in it, got {out}, which has '
                                 f'{", ".join(found)}; name a new one'
                                 + (f', or go on with this one by --resume {out}' if NAME in found else ''), 'out')
            store(json.dumps(dataclasses.asdict(configuration), indent=1).encode() + b'\n', out / NAME)
        except OSError as error:
            raise InputError(f'must be a folder that can be written, got {out}: {error.strerror or error}; '
                             'name another', 'out') from error
        yield


def configuration_of(folder):
    """The `Configuration` of the comparison in a folder. Raises: InputError if there is none, or it is damaged."""
    folder = check_path('resume', folder, 'the folder of a comparison', NAME_IT)

    def refused(why, remedy):
        return InputError(f'must be the folder of a comparison, got {folder}{why}; {remedy}', 'resume')

    try:
        text = (folder / NAME).read_text(encoding='utf-8')
    except (FileNotFoundError, NotADirectoryError):
        lacks = f'has no {NAME}' if folder.is_dir() else f'is no folder in {os.getcwd()}'
        raise refused(f', which {lacks}', NAME_IT) from None
    except OSError as error:
        raise refused(f', whose {NAME} cannot be read: {error.strerror or error}', 'check its permissions') from error
    except UnicodeDecodeError:
        raise refused(f', whose {NAME} is damaged: it is no text', ANEW) from None
    try:
        content = json.loads(text)
    except ValueError as error:  # of json
        raise refused(f', whose {NAME} is damaged: {error}', ANEW) from error
    if not isinstance(content, dict):
        raise refused(f', whose {NAME} is damaged: it holds no JSON object, but {text.strip()[:40]}', ANEW)
    unknown = sorted(set(content) - set(Configuration.__dataclass_fields__))
    if unknown:
        raise refused(f', whose {NAME} has {", ".join(unknown)}, which this version, {__version__}, does not know',
                      'go on with the version that began it, or start anew in another folder')
    try:
        return Configuration(**{key: tuple(value) if isinstance(value, list) else value
                                for key, value in content.items()})
    except InputError as error:
        raise refused(f', whose {NAME} is damaged: {error}', ANEW) from error


def check_same(configuration, folder):
    """Refuse a configuration other than that of the comparison in a folder."""
    for key, expected in dataclasses.asdict(configuration_of(folder)).items():
        came = getattr(configuration, key)
        if came != expected:
            raise InputError(f'must be {expected!r}, as it was when {folder} was begun, got {came!r}; '
                             'leave it out, or start anew in another folder', key)


@contextlib.contextmanager
def locked(folder, name='resume', wait=False):
    """Keep other processes from writing to the same folder; the lock ends with this process at the latest.

    name: of the argument that names the folder, for the error; wait: for the other process, in place of the error.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f'must be a folder that can be read, got {folder}: {error.strerror or error}; '
                         'check its permissions', name) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait:
                print(f'waiting for the process that uses {folder}', flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            else:
                raise InputError(f'must be a folder that no other process uses, got {folder}; wait for that process, '
                                 'or end it', name) from None
        yield
    finally:
        os.close(descriptor)
