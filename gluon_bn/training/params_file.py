"""Reads the files that `save_parameters` writes: memory is bounded by the file's size, and nothing is executed.

MXNet's own reader accepts only files of the active front, and trusts the sizes in a file: a damaged one makes it
allocate until memory runs out.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, Tuple

import numpy

from ..errors import InputError

LIST = 0x112  # a file's first number
ARRAY_ND, ARRAY_NP = 0xF993FAC9, 0xF993FACA  # an array's first number, as written by mx.nd and by mx.np
DENSE = 0
TYPES = {0: 'float32', 1: 'float64', 2: 'float16', 3: 'uint8', 4: 'int32', 5: 'int8', 6: 'int64', 7: 'bool'}
MOST_AXES = 32  # as in NumPy


def read(path: Any) -> Dict[str, numpy.ndarray[Any, Any]]:
    """Return the arrays of a file by name.

    Raises: InputError, which names the file, if it cannot be read, is of another kind, truncated, or garbled.
    Source: MXNet 1.9.1, NDArray::Save in src/ndarray/ndarray.cc; all numbers are little-endian.
    """
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise OSError('it is not a regular file')  # a folder; or a pipe or a device, which may never end
        file = open(path, 'rb')
    except (OSError, TypeError) as error:  # TypeError: not a path
        raise InputError(
            f'must be a file of saved parameters, got {path!r}: {getattr(error, "strerror", None) or error}', 'path'
        ) from error
    with file:
        return _read(_Cursor(path, file))


def _read(cursor: _Cursor) -> Dict[str, numpy.ndarray[Any, Any]]:
    start = cursor.file.read(16)
    if start != struct.pack('<QQ', LIST, 0):
        raise InputError(
            f"{cursor.path} must be a file written by MXNet's save_parameters, but it begins with "
            f'{start!r}; give the file that net.save_parameters(path) made'
        )
    arrays = [_array(cursor) for _ in range(cursor.count(at_least=16))]
    names = [cursor.take(cursor.count(at_least=1)) for _ in range(cursor.count(at_least=8))]
    if len(names) != len(arrays) or len(set(names)) != len(names) or cursor.left:
        raise cursor.garbled(f'it has {len(arrays)} arrays, {len(set(names))} names and {cursor.left} bytes after them')
    try:
        return {name.decode(): array for name, array in zip(names, arrays)}
    except UnicodeDecodeError:
        raise cursor.garbled('a name is not text') from None


def _array(cursor: _Cursor) -> numpy.ndarray[Any, Any]:
    magic, storage, axes = cursor.numbers('Iii')
    if magic not in (ARRAY_ND, ARRAY_NP) or storage != DENSE:
        raise cursor.garbled('an array in it is sparse, or from MXNet before 1.5')
    if not 0 <= axes <= MOST_AXES:
        raise cursor.garbled(f'an array in it has {axes} axes')
    shape = cursor.numbers('q' * axes)
    _device, _number, kind = cursor.numbers('iii')
    if kind not in TYPES or min(shape, default=0) < 0:
        raise cursor.garbled(f'an array in it has shape {shape} and type {kind}')
    dtype = numpy.dtype(TYPES[kind])
    content = cursor.take(math.prod(shape) * dtype.itemsize)
    values: numpy.ndarray[Any, Any] = numpy.frombuffer(content, dtype.newbyteorder('<'))
    try:
        return values.reshape(shape)
    except ValueError:  # an axis is 0 and another is huge, so that it takes no space in the file
        raise cursor.garbled(f'an array in it has shape {shape}') from None


class _Cursor:
    """A cursor over the file's bytes, which never reads past the end."""

    def __init__(self, path: Any, file: BinaryIO) -> None:
        self.path, self.file, self.size = path, file, os.stat(file.fileno()).st_size

    @property
    def left(self) -> int:
        return self.size - self.file.tell()

    def take(self, size: int) -> bytes:
        content = self.file.read(size) if size <= self.left else b''
        if len(content) < size:
            raise InputError(
                f'{self.path} must hold {size} more bytes after byte {self.file.tell()}, but has '
                f'{self.left}: it is truncated or garbled; copy it anew, or save the parameters again'
            )
        return content

    def numbers(self, kinds: str) -> Tuple[int, ...]:
        return struct.unpack('<' + kinds, self.take(struct.calcsize('<' + kinds)))

    def count(self, at_least: int) -> int:
        """Read and return the number of items that follow, each of at least so many bytes."""
        (number,) = self.numbers('Q')
        if number * at_least > self.left:
            self.take(number * at_least)
        return number

    def garbled(self, why: str) -> InputError:
        return InputError(
            f'{self.path} must be a file of parameters as save_parameters writes it, but {why}; '
            'copy it anew, or save the parameters again'
        )
