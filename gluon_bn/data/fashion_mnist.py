"""Where the four files of Fashion-MNIST are: found on this machine or downloaded, and verified either way.

This module imports no MXNet, so that `python -m gluon_bn doctor` can look for the data on any machine.
"""
from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import GluonBnError
from ..system.settings import check_path, folder_from, home
from ..system.store import check_writable, store
from .download import FAILURES, fetch, fetch_debian
from .verify import GZIP, File, WrongFile, unpack


class DataSet(NamedTuple):
    """The files by name, and where the world keeps them, each as `<name>.gz`."""

    files: Dict[str, File]
    mirrors: Tuple[str, ...]
    package: str  # Debian's
    system: Path  # where that package installs them


class Found(NamedTuple):
    """One verified file: where it is, where it comes from, what it holds (unpacked)."""

    path: Path
    source: str
    content: bytes


class DataUnavailable(GluonBnError, OSError):
    """Fashion-MNIST cannot be had, or a folder that the user named holds a wrong file; the message says what to do.

    source: what the message begins with, if that is where the data was looked for: 'root' is an argument.
    """

    def __init__(self, text: str, source: str = '') -> None:
        super().__init__(source + text)
        self.text, self.source = text, source

    def message(self, options: Mapping[str, str]) -> str:
        return options.get(self.source, self.source) + self.text


class DataMissing(DataUnavailable):
    """No place has the files. tried: (source, what was found there) of each."""

    def __init__(self, missing: List[str], tried: List[Tuple[str, str]], package: str) -> None:
        self.missing, self.tried, self.package = missing, tried, package
        super().__init__(self.message({}))

    def __reduce__(self):  # or a process that is sent one could not make it from the message alone
        return DataMissing, (self.missing, self.tried, self.package)

    def message(self, options: Mapping[str, str]) -> str:
        return (f'Fashion-MNIST is not complete: {", ".join(self.missing)} cannot be had. Tried:\n'
                + ''.join(f'  - {options.get(source, source)}{text}\n' for source, text in self.tried)
                + 'Ways out:\n'
                f'  - on Debian or Ubuntu: sudo apt-get update && sudo apt-get install {self.package}\n'
                '  - copy the four .gz files from a machine that has them into a folder, and set GLUON_BN_DATA to it\n'
                '  - behind a proxy: set http_proxy and https_proxy, and try again')


class DataWarning(UserWarning):
    """A place that the user did not name holds a wrong file or cannot be read; the search goes on."""


FASHION_MNIST = DataSet(
    files={
        'train-images-idx3-ubyte': File(
            47_040_016, 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888'),
        'train-labels-idx1-ubyte': File(
            60_008, 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9'),
        't10k-images-idx3-ubyte': File(
            7_840_016, '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b'),
        't10k-labels-idx1-ubyte': File(
            10_008, '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34'),
    },
    mirrors=(
        'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',  # Zalando's
        'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/fashion-mnist',  # MXNet's
        'https://storage.googleapis.com/tensorflow/tf-keras-datasets',  # Keras's
    ),
    package='dataset-fashion-mnist',
    system=Path('/usr/share/datasets/fashion-mnist'),
)
NO_FOLDER = 'no such folder'
NO_OPTIONS: Mapping[str, str] = {}


def find_files(root=None, download=True, dataset=FASHION_MNIST) -> Dict[str, Found]:
    """Find the four files, each in the first place that has it, and return {name: Found}.

    Places: `root`; `$GLUON_BN_DATA`; MXNet's cache (`$MXNET_HOME` or `~/.mxnet`, then `datasets/fashion-mnist`);
    `/usr/share/datasets/fashion-mnist`; then, if `download`, the public mirrors and Debian's package. A file may be
    packed (`<name>.gz`) or not (`<name>`). Its unpacked content must have the known size and SHA-256, always.

    A download goes to `root`, else `$GLUON_BN_DATA`, else MXNet's cache, and appears there when it is verified.
    A wrong file in a folder that the user named (`root`, `$GLUON_BN_DATA`) is an error: nothing takes its place.
    A wrong file in MXNet's cache or in `/usr/share` gives a warning, and the search goes on. The same holds of a
    folder that cannot be entered.

    Raises: DataUnavailable, which lists each place tried with its reason, and the ways out.
    """
    found: Dict[str, Found] = {}
    tried: List[Tuple[str, str]] = []
    places = _places(root, dataset)
    for source, folder, named in places:
        _search(source, folder, named, dataset, found, tried)
    if download:
        _download(places[0][1] if len(places) > 1 else None, dataset, found, tried)  # the last is the system's own
    missing = [name for name in dataset.files if name not in found]
    if missing:
        if not download:
            tried.append(('download', ': not allowed by the caller'))
        raise DataMissing(missing, tried, dataset.package)
    return {name: found[name] for name in dataset.files}


def lacking(found, root=None, options: Mapping[str, str] = NO_OPTIONS) -> List[str]:
    """Say, a line for each folder that the user named, which of the files found it lacks and which folder has them.

    options: what the reader calls root, if not that: see `GluonBnError.message`.
    """
    lines = []
    for source, folder, named in _places(root, FASHION_MNIST):
        others = {name: file.path.parent for name, file in found.items() if file.path.parent != folder}
        if named and others:
            what = 'none of the files' if len(others) == len(found) else f'no {", no ".join(others)}'
            lines.append(f'{options.get(source, source)}, {folder}: {_closed(folder) or what}; '
                         f'taken from {", ".join(sorted(map(str, set(others.values()))))}')
    return lines


def _places(root, dataset) -> List[Tuple[str, Path, bool]]:
    """The folders to search, in order: (what to call it, the folder, whether the user named it)."""
    places = []
    if root is not None:
        places.append(('root', check_path('root', root, 'the folder of the data', 'leave it out'), True))
    folder = folder_from('GLUON_BN_DATA')
    if folder:
        places.append(('$GLUON_BN_DATA', folder, True))
    mxnet_home, at_home = folder_from('MXNET_HOME'), home()
    if mxnet_home is None and at_home is not None:
        mxnet_home = at_home / '.mxnet'
    if mxnet_home is not None:
        places.append(("MXNet's cache", mxnet_home / 'datasets' / 'fashion-mnist', False))
    places.append(('the system', dataset.system, False))
    return places


def _search(source, folder, named, dataset, found, tried):
    """Add to `found` what a folder has of the files still missing, to `tried` what it lacks."""
    missing = [name for name in dataset.files if name not in found]
    closed = _closed(folder) if missing else None
    if closed:
        tried.append((source, f', {folder}: {closed}'))
        if closed != NO_FOLDER:
            reason = f', {folder}, cannot be read: {closed}.'
            if named:
                raise DataUnavailable(f'{reason} Name a folder that you can read.', source)
            warnings.warn(f'{source}{reason} Looking elsewhere.', DataWarning, stacklevel=4)
        return
    reasons = []
    for name in missing:
        wrong = []
        for path in (folder / f'{name}.gz', folder / name):
            try:
                if not stat.S_ISREG(path.stat().st_mode):
                    raise WrongFile('it is not a regular file')  # and to open a pipe could wait for ever
                with open(path, 'rb') as stream:
                    found[name] = Found(path, source, unpack(stream, dataset.files[name]))
                break
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, WrongFile) as error:
                wrong.append(f'{path}: {_reason(error)}')
        if name not in found:
            reasons += wrong or [f'no {name}']
            if wrong and named:
                raise DataUnavailable(f' holds a wrong file. {"; ".join(wrong)}. Remove it, so that the right '
                                      'one can be found or downloaded, or replace it by a good copy.', source)
            if wrong:
                warnings.warn(f'{"; ".join(wrong)}. Looking elsewhere for {name}.', DataWarning, stacklevel=4)
    if reasons:
        tried.append((source, f', {folder}: {"; ".join(reasons)}'))


def _closed(folder) -> Optional[str]:
    """Why nothing can be read in a folder, if so."""
    try:
        os.stat(os.path.join(folder, '.'))  # of the folder itself it would say nothing of the right to enter it
    except (FileNotFoundError, NotADirectoryError):
        return NO_FOLDER
    except OSError as error:
        return _reason(error)
    return None


def _download(folder, dataset, found, tried):
    """Fetch what is missing into a folder: from the mirrors in turn, then from Debian's package."""
    if folder is None and any(name not in found for name in dataset.files):
        raise DataUnavailable('Fashion-MNIST cannot be kept: this user has no home folder, and HOME is not set. Set '
                              'GLUON_BN_DATA to a folder that you can write, with 31 MB free.')
    for mirror in dataset.mirrors:
        for name in [name for name in dataset.files if name not in found]:
            _check_writable(folder / f'{name}.gz')
            url = f'{mirror}/{name}.gz'
            expected = dataset.files[name]
            try:
                # gzip never grows its input by more than this
                packed = fetch(url, limit=expected.size + expected.size // 1000 + 1024)
                content = unpack(io.BytesIO(packed), expected)
            except FAILURES as error:
                tried.append((url, f': {_reason(error)}'))
                break  # a mirror that fails once has lost its turn: each of its files could take as long to fail
            found[name] = _keep(folder, name, url, packed, content)
    missing = [name for name in dataset.files if name not in found]
    if not missing or not dataset.package:
        return
    _check_writable(folder / f'{missing[0]}.gz')
    source = f"Debian's package {dataset.package}"
    members = {str(dataset.system / f'{name}.gz').lstrip('/'): name for name in missing}
    try:
        packed_files = fetch_debian(dataset.package, members, max(dataset.files[name].size for name in missing) + 1024)
    except FAILURES as error:
        tried.append((source, f': {_reason(error)}'))
        return
    for member, name in members.items():
        try:
            content = unpack(io.BytesIO(packed_files[member]), dataset.files[name])
        except (WrongFile, KeyError) as error:
            tried.append((source, f', {member}: {"not in it" if isinstance(error, KeyError) else error}'))
            continue
        found[name] = _keep(folder, name, source, packed_files[member], content)


def _check_writable(path):
    """Refuse a file that cannot be written before megabytes are fetched for it."""
    try:
        check_writable(path)
    except OSError as error:
        raise _not_kept(path.parent, error) from error


def _keep(folder, name, source, packed, content) -> Found:
    path = folder / (f'{name}.gz' if packed.startswith(GZIP) else name)
    try:
        store(packed, path)
    except OSError as error:
        raise _not_kept(folder, error) from error
    return Found(path, source, content)


def _not_kept(folder, error) -> DataUnavailable:
    return DataUnavailable(f'Fashion-MNIST cannot be kept in {folder}: {_reason(error)}. Set GLUON_BN_DATA to '
                           'a folder that you can write, with 31 MB free, and name no other.')


def _reason(error: Optional[BaseException]) -> str:
    """The reason without the errno and the path that the line around it names already."""
    cause = getattr(error, 'reason', None)  # of a URLError, but an HTTPError's own text says more
    if isinstance(cause, OSError):
        error = cause
    text = getattr(error, 'strerror', None) or str(error)
    return text or type(error).__name__
