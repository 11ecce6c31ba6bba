"""The folder of a comparison: created once, resumable, and written by one process at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
from typing import Dict, Iterator, Mapping, Tuple, Union

from .. import __version__
from ..errors import InputError, explained
from ..system.settings import check_path
from ..system.store import store
from .configuration import Configuration

FILE = 'configuration.json'
RESULTS = ('report.md', 'curves.svg', 'curves.png', 'summary.json', 'metrics.jsonl', 'nets')
NAME_IT = 'name the folder that the comparison said it writes to'


@contextlib.contextmanager
def create(out: Path, configuration: Configuration, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """Create the folder `out` for a new comparison, and lock it. environment: the variables to set for its runs.

    Raises: InputError if it cannot be written, is locked, or already has a file that would be overwritten.
    """
    expected = f'must be a folder that can be written, got {out}'
    with contextlib.ExitStack() as stack:
        with explained(lambda why: InputError(f'{expected}: {why}; name another', 'out')):
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out, 'out'))
            found = [name for name in (FILE, *RESULTS) if (out / name).exists()]
            if found:
                resume = f', or continue this one with --resume {out}' if FILE in found else ''
                has = f'got {out}, which has {", ".join(found)}'
                raise InputError(f'must be a folder without results in it, {has}; name a new one{resume}', 'out')
            content = {**dataclasses.asdict(configuration), 'environment': dict(environment)}
            store(json.dumps(content, indent=1).encode() + b'\n', out / FILE)
        yield


def configuration_of(folder: Union[str, Path]) -> Configuration:
    """Return the `Configuration` of the comparison in a folder. Raises: InputError if it is missing or damaged."""
    return _read(folder)[0]


def environment_of(folder: Path) -> Dict[str, str]:
    """Return the variables set for the runs of a comparison. Version 0.1.0 used one thread and did not record it."""
    return _read(folder)[1] or {'OMP_NUM_THREADS': '1'}


def _read(folder: Union[str, Path]) -> Tuple[Configuration, Dict[str, str]]:
    folder = check_path('resume', folder, 'the folder of a comparison', NAME_IT)

    def refused(why: str, remedy: str) -> InputError:
        return InputError(f'must be the folder of a comparison, got {folder}, {why}; {remedy}', 'resume')

    def damaged(why: object) -> InputError:
        return refused(f'whose {FILE} is damaged: {why}', 'start anew in another folder')

    with explained(lambda why: refused(f'whose {FILE} cannot be read: {why}', 'check its permissions')):
        try:
            text = (folder / FILE).read_text(encoding='utf-8')
            content = json.loads(text)
        except (FileNotFoundError, NotADirectoryError):
            lacks = f'has no {FILE}' if folder.is_dir() else f'is not a folder in {os.getcwd()}'
            raise refused(f'which {lacks}', NAME_IT) from None
        except ValueError as error:  # from json or the decoding
            raise damaged('it is not text' if isinstance(error, UnicodeDecodeError) else error) from None
    if not isinstance(content, dict):
        raise damaged(f'it must hold a JSON object, got {text.strip()[:40]}')
    environment = content.pop('environment', {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise damaged(f'environment must map names to strings, got {environment}')
    unknown = sorted(set(content) - set(Configuration.__dataclass_fields__))
    if unknown:
        raise refused(
            f'whose {FILE} has {", ".join(unknown)}, which this version, {__version__}, does not know',
            'continue with the version that started it, or start anew in another folder',
        )
    try:
        return Configuration(**content), environment
    except InputError as error:
        raise damaged(error) from error


def check_same(configuration: Configuration, folder: Path) -> None:
    """Refuse a configuration other than that of the comparison in a folder."""
    for key, expected in dataclasses.asdict(configuration_of(folder)).items():
        actual = getattr(configuration, key)
        if actual != expected:
            raise InputError(
                f'must be {expected!r}, as {folder} was started with, got {actual!r}; '
                'leave it out, or start anew in another folder',
                key,
            )


@contextlib.contextmanager
def locked(folder: Path, name: str = 'resume', wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing to the same folder; the lock ends with this process at the latest.

    name: the argument that names the folder, for the error. wait: wait for the other process, instead of raising.
    """
    expected = f'must be a folder that can be read, got {folder}'
    with explained(lambda why: InputError(f'{expected}: {why}; check its permissions', name)):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                expected = f'must be a folder that no other process uses, got {folder}'
                raise InputError(f'{expected}; wait for that process, or end it', name) from None
            print(f'waiting for another process that uses {folder}', flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
