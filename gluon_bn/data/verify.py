"""What each file must hold, and the one function that reads it: bounded in size, unpacked, its SHA-256 checked."""

from __future__ import annotations

import gzip
import hashlib
import sys
import zlib
from pathlib import Path
from typing import IO, Dict, NamedTuple, Optional, Tuple

from ..errors import InputError

GZIP = b'\x1f\x8b'  # how a gzip file starts


class WrongFile(InputError):
    """A file is not the expected one; the message says why."""


class File(NamedTuple):
    """The unpacked content of a file; gzip containers differ between sources, their contents do not."""

    size: int
    sha256: str


class DataSet(NamedTuple):
    """The files by name, and where to download them, each as `<name>.gz`."""

    files: Dict[str, File]
    mirrors: Tuple[str, ...]
    package: str  # Debian's
    system: Path  # where that package installs them
    environment: Optional[Path] = None  # where set-up from a wheelhouse puts the files, for all users


FASHION_MNIST = DataSet(
    files={
        'train-images-idx3-ubyte': File(47_040_016, 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888'),
        'train-labels-idx1-ubyte': File(60_008, 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9'),
        't10k-images-idx3-ubyte': File(7_840_016, '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b'),
        't10k-labels-idx1-ubyte': File(10_008, '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34'),
    },
    mirrors=(
        'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',  # Zalando's
        'https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/fashion-mnist',  # MXNet's
        'https://storage.googleapis.com/tensorflow/tf-keras-datasets',  # Keras's
    ),
    package='dataset-fashion-mnist',
    system=Path('/usr/share/datasets/fashion-mnist'),
    environment=Path(sys.prefix, 'share', 'datasets', 'fashion-mnist'),
)


def unpack(stream: IO[bytes], expected: File) -> bytes:
    """Return the content of an open file, gzipped or not, if it is the expected one.

    Never uses more memory than the expected size, whatever the file or its header claims.
    Raises: WrongFile.
    """
    packed = stream.read(2) == GZIP
    stream.seek(0)
    try:
        # one byte more than expected shows that it is too long
        content = (gzip.GzipFile(fileobj=stream) if packed else stream).read(expected.size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WrongFile(f'its gzip data is truncated or corrupted ({error})') from error
    if len(content) != expected.size:
        size = 'more' if len(content) > expected.size else f'{len(content):,} bytes'
        kind = 'unpacks to' if packed else f'is not gzip (it starts with {content[:15]!r}) and holds'
        raise WrongFile(f'it {kind} {size}, expected {expected.size:,} bytes')
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected.sha256:
        raise WrongFile(f'its content has the SHA-256 {sha256}, expected {expected.sha256}')
    return content
