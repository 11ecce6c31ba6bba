"""MXNet's side: layers and epochs with `batch_norm`, both paths of `fused_batch_norm`, and Gluon's own layer."""
from __future__ import annotations

import contextlib
import json
import tempfile
import time

import mxnet as mx
from mxnet import autograd, nd
from mxnet.gluon import nn

from ..data import Minibatches, load_data_fashion_mnist
from ..model import lenet
from ..norm import BatchNorm, batch_norm, batch_norm_portable, choose, fused_batch_norm
from ..training import seed_everything, train
from .accuracy import DEPTH, errors, make_arrays

# name -> layer of (num_features, num_dims)
LAYERS = {
    'scratch': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm),
    'portable': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm_portable),
    'native': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=fused_batch_norm),
    'gluon': lambda num_features, num_dims: nn.BatchNorm(in_channels=num_features),
}

_case: dict = {}


def describe():
    """What can be measured here, why the rest cannot, and what it is."""
    path, reason = choose()
    missing = {} if path == 'native' else {'native': reason}
    return {'columns': [name for name in LAYERS if name not in missing], 'missing': missing,
            'versions': {'mxnet': mx.__version__}}


def prepare(shape, threads, mean=0):
    """Make the arrays of this shape and a fresh layer of each kind. MXNet has its threads from the environment."""
    arrays = make_arrays(shape, mean)
    X, dY = nd.array(arrays.X, dtype='float32'), nd.array(arrays.dY, dtype='float32')
    X.attach_grad()
    layers = {name: [make(shape[1], len(shape)) for _ in range(DEPTH)] for name, make in LAYERS.items()}
    for stack in layers.values():
        for layer in stack:
            layer.initialize()
            layer.gamma.set_data(nd.array(arrays.gamma).reshape(layer.gamma.shape))
            layer.beta.set_data(nd.array(arrays.beta).reshape(layer.beta.shape))
    _case.update(arrays=arrays, X=X, dY=dY, layers=layers)


def time_layer(column, mode, repeat):
    """Seconds of one layer of a stack, forward or forward + backward, in training mode with all its bookkeeping."""
    X, dY, layers = _case['X'], _case['dY'], _case['layers'][column]
    if repeat > 1:
        run(layers, X, dY, mode)  # what ran before took the cache
    nd.waitall()
    start = time.perf_counter()
    for _ in range(repeat):
        run(layers, X, dY, mode)
    nd.waitall()  # once: a training loop does not wait for a layer either
    return (time.perf_counter() - start) / repeat / DEPTH


def run(layers, X, dY, mode):
    with autograd.record():
        Y = X
        for layer in layers:
            Y = layer(Y)
    if mode == 'both':
        Y.backward(dY)
    return Y


def measure_errors(column):
    X, dY, layer = _case['X'], _case['dY'], _case['layers'][column][0]
    Y = run([layer], X, dY, 'both')
    results = Y, X.grad, layer.gamma.grad(), layer.beta.grad()
    return errors(_case['arrays'], *(array.asnumpy() for array in results))


def load_data(root, batch_size, threads):
    _case.update(data=load_data_fashion_mnist(batch_size, root), batch_size=batch_size)


def time_epoch(column, num_train, lr):
    """Train a new LeNet on the first num_train examples, in this package's loop; then measure its test accuracy."""
    train_iter, test_iter = _case['data']
    train_iter = Minibatches(train_iter.X[:num_train], train_iter.y[:num_train], _case['batch_size'], shuffle=True)
    seed_everything(0)
    net = lenet(LAYERS.get(column, 'none'))
    start = time.perf_counter()
    epoch, = train(net, train_iter, test_iter, 1, lr, progress=False, plot=False)
    total = time.perf_counter() - start
    return {'train': epoch.seconds, 'test': total - epoch.seconds, 'loss': epoch.loss, 'train_acc': epoch.train_acc,
            'test_acc': epoch.test_acc}


def profile_epoch(column, num_train, lr):
    """What MXNet's profiler says of a minibatch of training, after an epoch that warms up."""
    # hardly a test, since it is profiled too
    train_iter, test_iter = (Minibatches(each.X[:count], each.y[:count], _case['batch_size'], shuffle=True)
                             for each, count in zip(_case['data'], (num_train, 1)))
    net = lenet(LAYERS.get(column, 'none'))
    found: dict = {}

    def train_an_epoch(initialize):
        return train(net, train_iter, test_iter, 1, lr, progress=False, plot=False, initialize=initialize)[0]

    train_an_epoch(initialize=True)
    with _profiled(found):
        epoch = train_an_epoch(initialize=False)
    return {'seconds': epoch.seconds / len(train_iter), 'operators': _each(found, len(train_iter))}


def profile_layer(column, repeat):
    """What it says of one layer of a stack, forward + backward."""
    found: dict = {}
    time_layer(column, 'both', repeat)
    with _profiled(found):
        seconds = time_layer(column, 'both', repeat)
    return {'seconds': seconds, 'operators': _each(found, (repeat + 1) * DEPTH)}  # one run warms the cache


@contextlib.contextmanager
def _profiled(found):
    """Profile what happens inside; afterwards found has the seconds by operator."""
    with tempfile.TemporaryDirectory() as folder:
        # A file of its own: MXNet removes what bears the name before it writes, were it a device.
        mx.profiler.set_config(profile_symbolic=True, profile_imperative=True, profile_memory=False, profile_api=False,
                               aggregate_stats=True, filename=f'{folder}/profile.json')
        nd.waitall()
        mx.profiler.set_state('run')
        try:
            yield
            nd.waitall()
        finally:
            mx.profiler.set_state('stop')
        table = json.loads(mx.profiler.dumps(reset=True, format='json'))['Time']
    found.update({name: entry['Total'] / 1e3 for name, entry in table['operator'].items()})  # from ms


def _each(operators, times):
    return {name: total / times for name, total in operators.items()}
