"""The environment variables that the package reads, each checked where it is used.

Imports only the standard library, because the doctor checks the settings even where nothing else works.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any, Optional

from ..errors import InputError

MOST_THREADS = 1024  # MXNet crashes if the system refuses it a thread
# MXNet reads these as numbers or switches: any other text kills the process at import, or at first use.
MXNET_THREADS = re.compile(r'MXNET_(\w+_NTHREADS|OMP_MAX_THREADS|MP_OPENCV_NUM_THREADS)')
AT_LEAST_ONE = re.compile(r'MXNET_(CPU|GPU)_\w+')  # the others may be 0
MXNET_NUMBERS = re.compile(
    r'MXNET_(\w+_(TEMP|RAND)_COPY|PROFILER_(AUTOSTART|MODE)|CPU_PARALLEL_SIZE|EXEC_BULK_EXEC_MAX_NODE_TRAIN\w*'
    r'|EXEC_INPLACE_GRAD_SUM_CAP|KVSTORE_(BIGARRAY_BOUND|SLICE_THRESHOLD)|MKLDNN_CACHE_NUM'
    r'|DISABLE_MKLDNN_(\w+_OPT|FUSE_CONV_\w+)|USE_NUM_CORES_OPERATOR_TUNING)'
)
MXNET_SWITCHES = re.compile(
    r'MXNET_(DISABLE_MKLDNN_\w+|MKLDNN_(DEBUG|ENABLED|FORCE_\w+)|ELIMINATE_COMMON_EXPR|ENGINE_INFO'
    r'|EXEC_BULK_EXEC_(TRAIN|INFERENCE)|\w+_VERBOSE_LOGGING|KVSTORE_(LOGTREE|USETREE)|OUTPUT_TUNING_DATA'
    r'|VERBOSE_TUNING_INFO)'
)
MXNET_ENGINES = ('NaiveEngine', 'ThreadedEngine', 'ThreadedEnginePerDevice')


def check_before_mxnet() -> None:
    """Raise InputError for a setting that would make MXNet kill the process, at import or later."""
    for name, value in os.environ.items():
        unset = f'got {value!r}; MXNet reads it: unset it'
        if not value:
            continue
        if name == 'OMP_NUM_THREADS' and not _is_whole(value, 1, MOST_THREADS):
            raise InputError(
                f'must be a whole number from 1 to {MOST_THREADS}, got {value!r}; set it to the number of '
                'threads of each run, or unset it',
                name,
            )
        least = 1 if AT_LEAST_ONE.fullmatch(name) else 0
        if MXNET_THREADS.fullmatch(name) and not _is_whole(value, least, MOST_THREADS):
            raise InputError(f'must be a whole number from {least} to {MOST_THREADS}, {unset}', name)
        if MXNET_NUMBERS.fullmatch(name):
            if not _is_whole(value):
                raise InputError(f'must be a whole number, {unset}', name)
        elif MXNET_SWITCHES.fullmatch(name) and value.lower() not in ('0', '1', 'false', 'true'):
            raise InputError(f'must be 0 or 1, {unset}', name)
        if name == 'MXNET_ENGINE_TYPE' and value not in MXNET_ENGINES:
            raise InputError(f'must be one of {", ".join(MXNET_ENGINES)}, {unset}', name)


def check_path(name: str, value: Any, expected: str = 'a path', remedy: str = 'leave it out for the default') -> Path:
    """Return value as a Path, with ~ expanded. Raises: InputError, which begins with name, if it cannot be a path."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value) or '\0' in os.fsdecode(os.fspath(value)):
        raise InputError(f'must be {expected}, got {value!r}; {remedy}', name)
    path = Path(os.path.expanduser(os.fsdecode(os.fspath(value))))
    if path.parts and path.parts[0].startswith('~'):  # neither HOME nor an entry for this user, or no such user
        user = path.parts[0][1:]
        why = f'there is no user {user} here' if user else 'this user has no home folder, and HOME is not set'
        raise InputError(f'must be {expected}, got {value}, but {why}; write the whole path', name)
    return path


def folder_from(variable: str) -> Optional[Path]:
    """Return the folder that an environment variable names, or None if it is unset or empty."""
    value = os.environ.get(variable)
    return check_path(variable, value, 'a folder', 'unset it') if value else None


def home() -> Optional[Path]:
    """Return the user's home folder; None if there is none, as in a container run under a foreign user ID."""
    found = os.path.expanduser('~')
    return None if os.environ.get('HOME') == '' or found in ('~', '.') else Path(found)


def new_folder(kind: str) -> Path:
    """Return a new path below runs/, or below ~/gluon_bn/runs if runs/ cannot be written, as in a shared clone."""
    runs, home_folder = Path('runs'), home()
    if home_folder and not os.access(runs if runs.exists() else '.', os.W_OK):
        runs = home_folder / 'gluon_bn' / 'runs'
    return runs / time.strftime(f'{kind}-%Y%m%d-%H%M%S')


def check_before_matplotlib() -> None:
    """Raise InputError if there is no home folder, because importing matplotlib would fail."""
    if home() is None:
        raise InputError(
            'must be set if the user has no entry in passwd, because matplotlib needs a home folder, got '
            'nothing; set it to a folder that you can write to',
            'HOME',
        )


def _is_whole(text: str, least: int = -(2**31), most: int = 2**31 - 1) -> bool:
    return re.fullmatch(r'\s*[+-]?[0-9]{1,10}\s*', text) is not None and least <= int(text) <= most
