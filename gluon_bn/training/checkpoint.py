"""Saves the state of a training after each epoch, so that it can continue after an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import mxnet as mx
import numpy
from mxnet.gluon import Block, Parameter

from ..errors import InputError, OutputError, explained
from ..system.arguments import is_whole
from ..system.store import DISK_FULL, store
from .totals import Epoch

MAGIC = b'gluon_bn checkpoint 1 '


class Checkpoint:
    """A file from which `train` continues after an epoch, to the same metrics bit for bit.

    It holds the parameters and statistics, the state of NumPy's generator, the history, and the
    configuration: a dict of what was trained, with its 'seed'. SGD without momentum has no state of its
    own. The state of MXNet's generator cannot be read, so it is reseeded from the seed and the epoch after
    each epoch, whether the training was interrupted or not. results: what was measured after the training.

    Format: one line with the magic and the SHA-256 of the rest; then arrays in NumPy's .npz format, one of
    which holds JSON as bytes. Nothing in it is ever unpickled.

    Raises: InputError if path cannot be a file, or if the configuration has no seed or does not fit in JSON.
    """

    def __init__(self, path: Union[str, os.PathLike[str]], configuration: Dict[str, Any]) -> None:
        if not isinstance(path, (str, os.PathLike)) or os.path.isdir(path):
            raise InputError(f'must be a file to write, got {path!r}', 'path')
        if not isinstance(configuration, dict) or not is_whole(configuration.get('seed'), 0):
            expected = "must be a dict of what is trained, with its seed, such as {'seed': 0, 'lr': 1.0}"
            raise InputError(f'{expected}, got {configuration!r}', 'configuration')
        self.path = Path(path)
        try:  # a round trip through JSON: tuples become lists, NumPy's numbers become Python's
            written = json.dumps(configuration, allow_nan=False, default=lambda value: value.item())
        except (TypeError, ValueError, AttributeError) as error:  # NaN, a cycle, a bad key; no .item; an array
            expected = f'must hold only what JSON can store, such as numbers and strings, got {configuration!r}'
            raise InputError(f'{expected}: {error}', 'configuration') from error
        self.configuration = json.loads(written)

    def save(self, net: Block, history: List[Epoch], results: Optional[Dict[str, Any]] = None) -> None:
        """Replace the saved state with the current one, atomically."""
        arrays = {
            f'parameter {name} {i}': array.asnumpy()
            for name, parameter in _parameters(net).items()
            for i, array in enumerate(parameter.list_data())
        }
        state: Any = numpy.random.get_state()
        _, arrays['random'], *random = state
        content = {
            'configuration': self.configuration,
            'random': random,
            'results': results,
            'history': [dataclasses.asdict(epoch) for epoch in history],
        }
        arrays['content'] = numpy.frombuffer(json.dumps(content, allow_nan=False).encode(), numpy.uint8)
        buffer = io.BytesIO()
        numpy.savez(buffer, **arrays)
        packed = buffer.getvalue()
        try:
            store(MAGIC + hashlib.sha256(packed).hexdigest().encode() + b'\n' + packed, self.path)
        except OSError as error:
            remedy = '; free some space, and resume from it' if error.errno in DISK_FULL else ''
            raise OutputError(
                f'the checkpoint {self.path} cannot be written: {error.strerror or error}; what it held '
                f'before is intact{remedy}'
            ) from error
        self._seed_mxnet(len(history))

    def load(self, net: Block) -> List[Epoch]:
        """Restore the saved state of net and both generators; return the history, empty if there is no file.

        The net must be initialized, on as many devices as when it was saved; its shapes need not be known yet.
        Raises: InputError if the file cannot be read, is damaged, or is of another configuration or net.
        """
        state = self._read()
        if state is None:
            return []
        arrays, content = state
        parameters = _parameters(net)
        expected = {
            f'parameter {name} {i}' for name, parameter in parameters.items() for i in range(len(parameter.list_ctx()))
        }
        differing = sorted(expected ^ {name for name in arrays if name.startswith('parameter ')})
        if differing:
            others = ', '.join(differing[:3])
            what = f'must hold the parameters of this net on its devices, got others: {others}'
            raise self._refused(f'{what}; remove it to train anew')
        for name, parameter in parameters.items():
            first, shape, dtype = arrays[f'parameter {name} 0'], parameter.shape, numpy.dtype(parameter.dtype)
            if len(shape) != first.ndim or any(size not in (0, -1, found) for size, found in zip(shape, first.shape)):
                what = f'must hold {name} of shape {shape}, as this net has it, got {first.shape}'
                raise self._refused(f'{what}; remove it to train anew')
            if first.dtype != dtype:
                what = f'must hold {name} of type {dtype}, as this net has it, got {first.dtype}'
                raise self._refused(f"{what}; cast the net: net.cast('{first.dtype}')")
        for name, parameter in parameters.items():
            parameter.shape = arrays[f'parameter {name} 0'].shape
            parameter.initialize(ctx=parameter.list_ctx(), force_reinit=True)  # Gluon now knows the shapes
            for i, array in enumerate(parameter.list_data()):
                array[:] = arrays[f'parameter {name} {i}']
        numpy.random.set_state(('MT19937', arrays['random'], *content['random']))
        history = [Epoch(**epoch) for epoch in content['history']]
        self._seed_mxnet(len(history))
        return history

    def peek(self) -> Tuple[List[Dict[str, Any]], Optional[Dict[str, Any]]]:
        """Return the file's (history, results), or ([], None) if there is no file. Raises: as `load` does."""
        found = self._read()
        return (found[1]['history'], found[1]['results']) if found else ([], None)

    def _read(self) -> Optional[Tuple[Dict[str, numpy.ndarray[Any, Any]], Dict[str, Any]]]:
        with explained(lambda why: self._refused(f'cannot be read: {why}; check its permissions')):
            try:
                line, _, packed = self.path.read_bytes().partition(b'\n')
            except FileNotFoundError:
                return None
        if line != MAGIC + hashlib.sha256(packed).hexdigest().encode():
            raise self._refused('is damaged: its SHA-256 does not match its content; remove it to train this run anew')
        with numpy.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            arrays = dict(arrays)
        content = json.loads(arrays['content'].tobytes())
        for key, expected in self.configuration.items():
            actual = content['configuration'].get(key)
            if actual != expected:
                what = f'is of another configuration: {key} must be {expected!r}, got {actual!r}'
                raise self._refused(f'{what}; train with {key} {actual!r}, or start anew in another folder')
        return arrays, content

    def _refused(self, text: str) -> InputError:
        return InputError(f'the checkpoint {self.path} {text}')

    def _seed_mxnet(self, epoch: int) -> None:
        mx.random.seed((self.configuration['seed'] + 1_000_003 * epoch) % 2**31)


def _parameters(net: Block) -> Dict[str, Parameter]:
    parameters: Dict[str, Parameter] = net._collect_params_with_prefix()
    return parameters  # by the names that Gluon's save_parameters uses
