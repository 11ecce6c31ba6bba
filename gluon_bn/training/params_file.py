"""Reading the files that `save_parameters` writes: bounded by the file's own size, and nothing in them is executed.

MXNet's own reader takes only files of the front that is switched on, and believes what a file says of its sizes: a
damaged one has it allocate until memory ends.
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
ARRAY_ND, ARRAY_NP = 0xF993FAC9, 0xF993FACA  # an array's first number, as mx.nd and as mx.np write it
DENSE = 0
TYPES = {0: 'float32', 1: 'float64', 2: 'float16', 3: 'uint8', 4: 'int32', 5: 'int8', 6: 'int64', 7: 'bool'}
MOST_AXES = 32  # as in NumPy


def read(path: Any) -> Dict[str, numpy.ndarray[Any, Any]]:
    """Return the arrays of a file by their names.

    Raises: InputError, which names the file, if it cannot be read, is no such file, truncated, or garbled.
    Source: MXNet 1.9.1, NDArray::Save in src/ndarray/ndarray.cc; all numbers are little-endian.
    """
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise OSError('it is no regular file')  # a folder; or a pipe or a device, which may never end
        file = open(path, 'rb')
    except (OSError, TypeError) as error:  # TypeError: of what is no path
        raise InputError(
            f'must be a file of saved parameters, got {path!r}: {getattr(error, "strerror", None) or error}', 'path'
        ) from error
    with file:
        return _read(_Cursor(path, file))


def _read(cursor: _Cursor) -> Dict[str, numpy.ndarray[Any, Any]]:
    start = cursor.file.read(16)
    if start != struct.pack('<QQ', LIST, 0):
        raise InputError(
            f'{cursor.path} must be a file that save_parameters of MXNet has written, but it begins with '
            f'{start!r}; give the file that net.save_parameters(path) made'
        )
    arrays = [_array(cursor) for _ in range(cursor.count(at_least=16))]
    names = [cursor.take(cursor.count(at_least=1)) for _ in range(cursor.count(at_least=8))]
    if len(names) != len(arrays) or len(set(names)) != len(names) or cursor.left:
        raise cursor.garbled(f'it has {len(arrays)} arrays, {len(set(names))} names and {cursor.left} bytes after them')
    try:
        return {name.decode(): array for name, array in zip(names, arrays)}
    except UnicodeDecodeError:
        raise cursor.garbled('a name is no text') from None


def _array(cursor: _Cursor) -> numpy.ndarray[Any, Any]:
    magic, storage, axes = cursor.numbers('Iii')
    if magic not in (ARRAY_ND, ARRAY_NP) or storage != DENSE:
        raise cursor.garbled('an array in it is sparse, or of an MXNet before 1.5')
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
    except ValueError:  # it has an axis of 0 and others of any size, so that it takes no room in the file
        raise cursor.garbled(f'an array in it has shape {shape}') from None


class _Cursor:
    """A cursor over the file's bytes, which reads nothing that is not there."""

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
        """Return a number of things to come, each of so many bytes or more."""
        (number,) = self.numbers('Q')
        if number * at_least > self.left:
            self.take(number * at_least)
        return number

    def garbled(self, why: str) -> InputError:
        return InputError(
            f'{self.path} must be a file of parameters as save_parameters writes it, but {why}; '
            'copy it anew, or save the parameters again'
        )
