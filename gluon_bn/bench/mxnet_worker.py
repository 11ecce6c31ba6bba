"""MXNet: layers and epochs with `batch_norm`, both paths of `fused_batch_norm`, and Gluon's layer."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Sequence

import mxnet as mx
from mxnet import autograd, nd
from mxnet.gluon import Block, nn

from ..data import Minibatches, load_data_fashion_mnist
from ..model import compiled, lenet
from ..norm import BatchNorm, batch_norm, batch_norm_portable, choose, fused_batch_norm
from ..training import seed_everything, train
from .accuracy import DEPTH, errors, make_arrays
from .rounds import Description, EpochTurn, Profiled

# name -> layer of (num_features, num_dims)
LAYERS: Dict[str, Callable[[int, int], Block]] = {
    'scratch': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm),
    'portable': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm_portable),
    'native': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=fused_batch_norm),
    'gluon': lambda num_features, num_dims: nn.BatchNorm(in_channels=num_features),
}

# column -> the arguments of lenet, unless the column has the name of its norm
NETS: Dict[str, Dict[str, Any]] = {
    'native': {'norm': 'fused'},
    'sigmoid': {'norm': 'fused', 'fuse_sigmoid': True},
    'portable': {'norm': LAYERS['portable']},
}


def _net(column: str) -> nn.Sequential:
    return lenet(**NETS.get(column, {'norm': column}))


class Framework:
    def describe(self) -> Description:
        path, reason = choose()
        missing = {} if path == 'native' else {'native': reason}
        return Description([name for name in LAYERS if name not in missing], {'mxnet': mx.__version__}, missing)

    def prepare(self, shape: Sequence[int], threads: int, mean: float = 0) -> None:
        """Make arrays of this shape and new layers of each kind. MXNet takes its threads from the environment."""
        self.arrays = make_arrays(shape, mean)
        self.X, self.dY = nd.array(self.arrays.X, dtype='float32'), nd.array(self.arrays.dY, dtype='float32')
        self.X.attach_grad()
        self.layers: Dict[str, List[Any]] = {
            name: [make(shape[1], len(shape)) for _ in range(DEPTH)] for name, make in LAYERS.items()
        }
        for stack in self.layers.values():
            for layer in stack:
                layer.initialize()
                layer.gamma.set_data(nd.array(self.arrays.gamma).reshape(layer.gamma.shape))
                layer.beta.set_data(nd.array(self.arrays.beta).reshape(layer.beta.shape))

    def time_layer(self, column: str, mode: str, repeat: int) -> float:
        """Return the seconds of one layer in a stack, forward or forward + backward, in training mode."""
        layers = self.layers[column]
        if repeat > 1:
            self.run(layers, mode)  # warms the cache
        nd.waitall()
        start = time.perf_counter()
        for _ in range(repeat):
            self.run(layers, mode)
        nd.waitall()  # only once, because a training loop does not wait for each layer either
        return (time.perf_counter() - start) / repeat / DEPTH

    def run(self, layers: Sequence[Any], mode: str) -> nd.NDArray:
        with autograd.record():
            Y = self.X
            for layer in layers:
                Y = layer(Y)
        if mode == 'both':
            Y.backward(self.dY)
        return Y

    def measure_errors(self, column: str) -> Dict[str, float]:
        layer = self.layers[column][0]
        Y = self.run([layer], 'both')
        results = Y, self.X.grad, layer.gamma.grad(), layer.beta.grad()
        return errors(self.arrays, *(array.asnumpy() for array in results))

    def load_data(self, root: Any, batch_size: int, threads: int) -> None:
        self.data, self.batch_size = load_data_fashion_mnist(batch_size, root), batch_size

    def first(self, part: Minibatches, count: int) -> Minibatches:
        return Minibatches(part.X[:count], part.y[:count], self.batch_size, shuffle=True)

    def time_epoch(self, column: str, num_train: int, lr: float) -> EpochTurn:
        """Train a new LeNet on the first num_train examples in this package's loop, then measure its test accuracy."""
        train_iter, test_iter = self.data
        train_iter = self.first(train_iter, num_train)
        seed_everything(0)
        net = compiled(_net(column))
        start = time.perf_counter()
        (epoch,) = train(net, train_iter, test_iter, 1, lr, progress=False, plot=False)
        total = time.perf_counter() - start
        return EpochTurn(epoch.seconds, total - epoch.seconds, epoch.loss, epoch.train_acc, epoch.test_acc)

    def profile_epoch(self, column: str, num_train: int, lr: float) -> Profiled:
        """Profile a minibatch of training with MXNet's profiler, after a warm-up epoch."""
        # one test example, because testing is profiled too
        train_iter, test_iter = (self.first(part, count) for part, count in zip(self.data, (num_train, 1)))
        net = _net(column)  # not compiled, which would group the operators
        found: Dict[str, float] = {}
        train(net, train_iter, test_iter, 1, lr, progress=False, plot=False)
        with _profiled(found, len(train_iter)):
            (epoch,) = train(net, train_iter, test_iter, 1, lr, progress=False, plot=False, initialize=False)
        return Profiled(epoch.seconds / len(train_iter), found)

    def profile_layer(self, column: str, repeat: int) -> Profiled:
        """Profile one layer in a stack, forward + backward."""
        found: Dict[str, float] = {}
        self.time_layer(column, 'both', repeat)
        with _profiled(found, (repeat + 1) * DEPTH):  # one run warms the cache
            seconds = self.time_layer(column, 'both', repeat)
        return Profiled(seconds, found)


@contextlib.contextmanager
def _profiled(found: Dict[str, float], times: int = 1) -> Iterator[None]:
    """Profile the body of the with statement, and fill found with the seconds of each operator, divided by times."""
    with tempfile.TemporaryDirectory() as folder:
        # In a new folder, because MXNet first deletes whatever has the file's name, even a device.
        operators_only = dict(profile_symbolic=True, profile_imperative=True, profile_memory=False, profile_api=False)
        mx.profiler.set_config(**operators_only, aggregate_stats=True, filename=f'{folder}/profile.json')
        nd.waitall()
        mx.profiler.set_state('run')
        try:
            yield
            nd.waitall()
        finally:
            mx.profiler.set_state('stop')
        table = json.loads(mx.profiler.dumps(reset=True, format='json'))['Time']
    found.update({name: entry['Total'] / 1e3 / times for name, entry in table['operator'].items()})  # from ms
