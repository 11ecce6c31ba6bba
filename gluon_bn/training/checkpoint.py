"""The state of a training on disk after each epoch, so that it can go on as if nothing had happened."""
from __future__ import annotations

import dataclasses
import hashlib
import io
import json

import mxnet as mx
import numpy

from ..system.store import store
from .loop import Epoch

MAGIC = b'gluon_bn checkpoint 1 '


class Checkpoint:
    """A file with what `train` needs to go on after an epoch, to the same metrics bit for bit.

    It holds the parameters with their statistics, the state of NumPy's generator, the history, and the
    configuration: a dict of what was trained, with its 'seed'. SGD without momentum has no state of its
    own. MXNet's generator cannot be read: it is seeded anew from the seed and the epoch after each epoch,
    whether the training goes on at once or later. results: what was measured when the training was over.

    Format: one line, the magic and the SHA-256 of the rest; then arrays as NumPy's .npz, and JSON
    as bytes in one of them. Nothing in it is ever unpickled.
    """

    def __init__(self, path, configuration):
        self.path, self.configuration = path, configuration

    def save(self, net, history, results=None):
        """Put the present state in the place of the one before: the file holds one or the other, whole."""
        arrays = {f'parameter {name} {i}': array.asnumpy() for name, parameter in _parameters(net).items()
                  for i, array in enumerate(parameter.list_data())}
        _, keys, *rest = numpy.random.get_state()
        content = {'configuration': self.configuration, 'random': rest, 'results': results,
                   'history': [dataclasses.asdict(epoch) for epoch in history]}
        arrays['random'] = keys
        arrays['content'] = numpy.frombuffer(json.dumps(content, allow_nan=False).encode(), numpy.uint8)
        packed = io.BytesIO()
        numpy.savez(packed, **arrays)
        packed = packed.getvalue()
        try:
            store(MAGIC + hashlib.sha256(packed).hexdigest().encode() + b'\n' + packed, self.path)
        except OSError as error:
            raise OSError(f'the checkpoint {self.path} cannot be written: {error.strerror}; what it held before '
                          'is intact: make room, and go on with --resume') from error
        self._seed_mxnet(len(history))

    def load(self, net):
        """Bring net and both generators to the state that was saved; returns the history, empty if there is none.

        The net is initialized, on any devices as at saving; its shapes need not be known yet.
        Raises: ValueError for a file that is damaged, or of another configuration or net.
        """
        state = self._read()
        if state is None:
            return []
        arrays, content = state
        parameters = _parameters(net)
        expected = {f'parameter {name} {i}' for name, parameter in parameters.items()
                    for i in range(len(parameter.list_ctx()))}
        saved = {name for name in arrays if name.startswith('parameter ')}
        if saved != expected:
            raise ValueError(f'the checkpoint {self.path} must hold the parameters of this net on its devices, got '
                             f'others: {", ".join(sorted(saved ^ expected)[:3])}; remove it to train anew')
        for name, parameter in parameters.items():
            wanted, found = parameter.shape, arrays[f'parameter {name} 0'].shape
            if len(wanted) != len(found) or any(size not in (0, -1, came) for size, came in zip(wanted, found)):
                raise ValueError(f'the checkpoint {self.path} must hold {name} of shape {wanted}, as this net has it, '
                                 f'got {found}; remove it to train anew')
        for name, parameter in parameters.items():
            parameter.shape = arrays[f'parameter {name} 0'].shape
            parameter.initialize(ctx=parameter.list_ctx(), force_reinit=True)  # Gluon now knows the shapes
            for i, array in enumerate(parameter.list_data()):
                array[:] = arrays[f'parameter {name} {i}']
        numpy.random.set_state(('MT19937', arrays['random'], *content['random']))
        history = [Epoch(**epoch) for epoch in content['history']]
        self._seed_mxnet(len(history))
        return history

    def peek(self):
        """(history, results) that the file holds: ([], None) if there is none. Raises: as `load` does."""
        found = self._read()
        return (found[1]['history'], found[1]['results']) if found else ([], None)

    def _read(self):
        try:
            line, packed = self.path.read_bytes().split(b'\n', 1)
        except FileNotFoundError:
            return None
        except ValueError:
            line = packed = b''
        if line != MAGIC + hashlib.sha256(packed).hexdigest().encode():
            raise ValueError(f'the checkpoint {self.path} is damaged: its content has not the SHA-256 that it names; '
                             'remove it to train this run anew')
        with numpy.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            arrays = dict(arrays)
        content = json.loads(arrays['content'].tobytes())
        for key, value in self.configuration.items():
            came = content['configuration'].get(key)
            if came != value:
                raise ValueError(f'the checkpoint {self.path} is of another configuration: {key} must be {value!r}, '
                                 f'got {came!r}; train with {key} {came!r}, or start anew in another folder')
        return arrays, content

    def _seed_mxnet(self, epoch):
        mx.random.seed((self.configuration['seed'] + 1_000_003 * epoch) % 2 ** 31)


def _parameters(net):
    return net._collect_params_with_prefix()  # the names under which Gluon's save_parameters saves them
