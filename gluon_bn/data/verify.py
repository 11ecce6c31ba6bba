"""What a file must hold, and the only way in which one is read: bounded, unpacked, its SHA-256 compared."""
from __future__ import annotations

import gzip
import hashlib
import zlib
from typing import NamedTuple

from ..errors import InputError

GZIP = b'\x1f\x8b'  # how a gzip file starts


class WrongFile(InputError):
    """A file is not the expected one; the message says what is wrong with it."""


class File(NamedTuple):
    """What a file holds when unpacked; gzip containers differ between sources, their contents do not."""

    size: int
    sha256: str


def unpack(stream, expected) -> bytes:
    """Return the content of an open file, packed by gzip or not, if it is the expected one.

    Never takes more memory than the expected size, whatever the file or a header in it claims.
    Raises: WrongFile.
    """
    packed = stream.read(2) == GZIP
    stream.seek(0)
    try:
        # one byte more than expected is enough to know that it is too long
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
