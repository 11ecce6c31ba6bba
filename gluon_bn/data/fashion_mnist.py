"""Finds the four files of Fashion-MNIST on this machine or downloads them, and verifies them either way.

This module does not import MXNet, so `python -m gluon_bn doctor` can look for the data on any machine.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import ContextManager, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from ..errors import InputError, explained
from ..system.settings import check_path, folder_from, home
from ..system.store import check_writable, store
from .download import FAILURES, fetch, fetch_debian
from .errors import DataMissing, DataUnavailable, DataWarning
from .verify import FASHION_MNIST, GZIP, DataSet, WrongFile, unpack


class Found(NamedTuple):
    """One verified file: its path, where it was found, and its unpacked content."""

    path: Path
    source: str
    content: bytes


class _Place(NamedTuple):
    """A folder to search, and what to call it."""

    source: str
    folder: Path
    named: bool  # by the user: a wrong file in it is an error


NO_FOLDER = 'no such folder'
Root = Union[str, 'os.PathLike[str]', None]


def find_files(root: Root = None, download: bool = True, dataset: DataSet = FASHION_MNIST) -> Dict[str, Found]:
    """Find the four files, each in the first place that has it, and return {name: Found}.

    Places: `root`; `$GLUON_BN_DATA`; MXNet's cache (`$MXNET_HOME` or `~/.mxnet`, then `datasets/fashion-mnist`);
    the environment's `share/datasets/fashion-mnist`, if set-up made one; `/usr/share/datasets/fashion-mnist`; then, if
    `download`, the public mirrors and Debian's package. A file may be packed (`<name>.gz`) or not (`<name>`). Its
    unpacked content must always have the known size and SHA-256.

    A download goes to `root`, else `$GLUON_BN_DATA`, else MXNet's cache, and appears there once it is verified.
    A wrong file in a folder that the user named (`root`, `$GLUON_BN_DATA`) is an error: no other file replaces it.
    A wrong file in MXNet's cache or in `/usr/share` gives a warning, and the search continues. Folders that cannot
    be entered are treated the same way.

    Raises: DataUnavailable, which lists each place tried with its reason, and what to do.
    """
    found: Dict[str, Found] = {}
    tried: List[Tuple[str, str]] = []
    places = _places(root, dataset)
    for place in places:
        _search(place, dataset, found, tried)
    if download:
        own = [place.folder for place in places if place.source not in ('the environment', 'the system')]
        _download(own[0] if own else None, dataset, found, tried)
    else:
        tried.append(('download', ': not allowed by the caller'))
    missing = [name for name in dataset.files if name not in found]
    if missing:
        raise DataMissing(missing, tried, dataset.package)
    return {name: found[name] for name in dataset.files}


def lacking(found: Mapping[str, Found], root: Root = None, options: Optional[Mapping[str, str]] = None) -> List[str]:
    """Say for each folder that the user named which files it lacks and which folder they were taken from.

    options: the user's name for root, if it differs: see `GluonBnError.message`. Returns: a line per folder.
    """
    lines = []
    for source, folder, named in _places(root, FASHION_MNIST):
        others = {name: file.path.parent for name, file in found.items() if file.path.parent != folder}
        if named and others:
            what = 'none of the files' if len(others) == len(found) else f'no {", no ".join(others)}'
            called, elsewhere = (options or {}).get(source, source), ', '.join(sorted(set(map(str, others.values()))))
            lines.append(f'{called}, {folder}: {_why_unreadable(folder) or what}; taken from {elsewhere}')
    return lines


def taken_instead(root: Root, options: Optional[Mapping[str, str]] = None) -> List[str]:
    """Find the files and say what is `lacking`. Raises: InputError if root does not exist; as `find_files` does."""
    if root is None and not folder_from('GLUON_BN_DATA'):
        return []
    if root is not None and not check_path('root', root, 'a folder').is_dir():
        raise InputError(
            f'must be an existing folder, got {root}; leave it out, and the files are found or fetched', 'root'
        )
    return lacking(find_files(root), root, options)


def _places(root: Root, dataset: DataSet) -> List[_Place]:
    """The folders to search, in order."""
    places = []
    if root is not None:
        places.append(_Place('root', check_path('root', root, 'the folder of the data', 'leave it out'), True))
    folder = folder_from('GLUON_BN_DATA')
    if folder:
        places.append(_Place('$GLUON_BN_DATA', folder, True))
    home_folder = home()
    mxnet_home = folder_from('MXNET_HOME') or (home_folder and home_folder / '.mxnet')
    if mxnet_home:
        places.append(_Place("MXNet's cache", mxnet_home / 'datasets' / 'fashion-mnist', False))
    if dataset.environment and dataset.environment.is_dir():
        places.append(_Place('the environment', dataset.environment, False))
    return [*places, _Place('the system', dataset.system, False)]


def _search(place: _Place, dataset: DataSet, found: Dict[str, Found], tried: List[Tuple[str, str]]) -> None:
    """Look in a folder for the missing files; add what it has to `found`, and what it lacks to `tried`."""
    source, folder, named = place
    missing = [name for name in dataset.files if name not in found]
    unreadable = _why_unreadable(folder) if missing else None
    if unreadable:
        tried.append((source, f', {folder}: {unreadable}'))
        if unreadable != NO_FOLDER:
            reason = f', {folder}, cannot be read: {unreadable}.'
            if named:
                raise DataUnavailable(f'{reason} Name a folder that you can read.', source)
            warnings.warn(f'{source}{reason} Looking elsewhere.', DataWarning, stacklevel=4)
        return
    lacks = []
    for name in missing:
        wrong = []
        for path in (folder / f'{name}.gz', folder / name):
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    raise WrongFile('it is not a regular file')  # opening a pipe could block forever
                with open(path, 'rb') as stream:
                    found[name] = Found(path, source, unpack(stream, dataset.files[name]))
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, WrongFile) as error:
                wrong.append(f'{path}: {_reason(error)}')
        else:
            reasons = '; '.join(wrong)
            lacks.append(reasons or f'no {name}')
            if wrong and named:
                remedy = 'Remove it, so that the right one can be found or downloaded, or replace it with a good copy.'
                raise DataUnavailable(f' holds a wrong file. {reasons}. {remedy}', source)
            if wrong:
                warnings.warn(f'{reasons}. Looking elsewhere for {name}.', DataWarning, stacklevel=4)
    if lacks:
        tried.append((source, f', {folder}: {"; ".join(lacks)}'))


def _why_unreadable(folder: Path) -> Optional[str]:
    """Return why a folder cannot be read, or None if it can."""
    try:
        os.stat(os.path.join(folder, '.'))  # '.' also needs the permission to enter
    except (FileNotFoundError, NotADirectoryError):
        return NO_FOLDER
    except OSError as error:
        return _reason(error)
    return None


def _download(folder: Optional[Path], dataset: DataSet, found: Dict[str, Found], tried: List[Tuple[str, str]]) -> None:
    """Fetch what is missing into a folder: from the mirrors in turn, then from Debian's package."""

    def missing() -> List[str]:
        return [name for name in dataset.files if name not in found]

    if not missing():
        return
    if folder is None:
        raise DataUnavailable(
            'Fashion-MNIST cannot be stored: this user has no home folder, and HOME is not set. Set '
            'GLUON_BN_DATA to a writable folder with 31 MB free.'
        )
    for mirror in dataset.mirrors:
        for name in missing():
            url, expected = f'{mirror}/{name}.gz', dataset.files[name]
            with _storing_in(folder):
                check_writable(folder / f'{name}.gz')  # before fetching megabytes for it
            try:
                # gzip never makes its input longer by more than this
                packed = fetch(url, limit=expected.size + expected.size // 1000 + 1024)
                content = unpack(io.BytesIO(packed), expected)
            except FAILURES as error:
                tried.append((url, f': {_reason(error)}'))
                break  # give up this mirror: each of its other files could take as long to fail
            found[name] = _store_file(folder, name, url, packed, content)
    if not missing() or not dataset.package:
        return
    with _storing_in(folder):
        check_writable(folder / f'{missing()[0]}.gz')
    source, members = f"Debian's package {dataset.package}", {}
    for name in missing():
        members[str(dataset.system / f'{name}.gz').lstrip('/')] = name
    try:
        files = fetch_debian(dataset.package, members, max(file.size for file in dataset.files.values()) + 1024)
    except FAILURES as error:
        tried.append((source, f': {_reason(error)}'))
        return
    for member, name in members.items():
        try:
            content = unpack(io.BytesIO(files[member]), dataset.files[name])
        except (WrongFile, KeyError) as error:
            tried.append((source, f', {member}: {"not in it" if isinstance(error, KeyError) else error}'))
        else:
            found[name] = _store_file(folder, name, source, files[member], content)


def _store_file(folder: Path, name: str, source: str, packed: bytes, content: bytes) -> Found:
    path = folder / (f'{name}.gz' if packed.startswith(GZIP) else name)
    with _storing_in(folder):
        store(packed, path)
    return Found(path, source, content)


def _storing_in(folder: Path) -> ContextManager[None]:
    """Turn an OSError into DataUnavailable: the folder cannot be written."""
    return explained(
        lambda why: DataUnavailable(
            f'Fashion-MNIST cannot be stored in {folder}: {why}. Set GLUON_BN_DATA to '
            'a writable folder with 31 MB free, and pass no other folder.'
        )
    )


def _reason(error: BaseException) -> str:
    """Return the reason, without the errno and the path, which the line around it gives already."""
    cause = getattr(error, 'reason', None)  # that of a URLError; an HTTPError's own text says more
    error = cause if isinstance(cause, OSError) else error
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__
