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
        why = getattr(error, 'strerror', None) or error
        raise InputError(f'must be a file of saved parameters, got {path!r}: {why}', 'path') from error
    with file:
        start = file.read(16)
        if start != struct.pack('<QQ', LIST, 0):
            what = f"must be a file written by MXNet's save_parameters, but it begins with {start!r}"
            raise InputError(f'{path} {what}; give the file that net.save_parameters(path) made')
        try:
            return _read(file)
        except (ValueError, struct.error) as error:  # the file does not hold what it says
            what = f'must be a file of parameters as save_parameters writes it, but is truncated or garbled: {error}'
            raise InputError(f'{path} {what}; copy it anew, or save the parameters again') from error


def _read(file: BinaryIO) -> Dict[str, numpy.ndarray[Any, Any]]:
    """Return the arrays of a file by name. Raises: ValueError or struct.error if it does not hold what it says."""
    end = os.stat(file.fileno()).st_size

    def take(size: int) -> bytes:
        if size > end - file.tell():  # before so much memory is allocated
            raise ValueError(f'it has no {size} bytes after byte {file.tell()}')
        return file.read(size)

    def numbers(kinds: str) -> Tuple[int, ...]:
        return struct.unpack('<' + kinds, take(struct.calcsize('<' + kinds)))

    def array() -> numpy.ndarray[Any, Any]:
        magic, storage, axes = numbers('Iii')
        if magic not in (ARRAY_ND, ARRAY_NP) or storage != DENSE:
            raise ValueError('an array in it is sparse, or from MXNet before 1.5')
        if not 0 <= axes <= MOST_AXES:
            raise ValueError(f'an array in it has {axes} axes')
        shape = numbers('q' * axes)
        _device, _number, kind = numbers('iii')
        if kind not in TYPES or min(shape, default=0) < 0:
            raise ValueError(f'an array in it has shape {shape} and type {kind}')
        dtype = numpy.dtype(TYPES[kind]).newbyteorder('<')
        values: numpy.ndarray[Any, Any] = numpy.frombuffer(take(math.prod(shape) * dtype.itemsize), dtype)
        return values.reshape(shape)  # raises ValueError if an axis is 0 and another is huge

    arrays = [array() for _ in range(*numbers('Q'))]
    names = [take(*numbers('Q')).decode() for _ in range(*numbers('Q'))]
    if len(names) != len(arrays) or len(set(names)) != len(names) or file.tell() < end:
        raise ValueError(
            f'it has {len(arrays)} arrays, {len(set(names))} names and {end - file.tell()} bytes after them'
        )
    return dict(zip(names, arrays))
