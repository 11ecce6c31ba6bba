"""The arguments of training and evaluation: checked before the first step, and split among the devices."""

from __future__ import annotations

import contextlib
import math
import numbers
from typing import Any, Iterable, Iterator, List, Optional, Tuple

import mxnet as mx
import numpy
from mxnet import MXNetError, autograd, gluon
from mxnet.gluon import Block, nn
from mxnet.ndarray import NDArray

from ..data import Minibatches
from ..errors import InputError
from ..system.arguments import check_count
from .blocks import axis_of, describe, inputs_seen, is_sync, norm_layers, paths_of
from .totals import check_labels, check_output

MOVE = 'move net by net.collect_params().reset_ctx(device)'


def check_schedule(num_epochs: Any, lr: Any) -> Tuple[int, float]:
    """Return both as plain numbers. Raises: InputError unless num_epochs is a count and lr finite and positive."""
    num_epochs = check_count('num_epochs', num_epochs)
    try:
        rate = float(lr) if isinstance(lr, numbers.Real) and not isinstance(lr, bool) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        rate = math.inf
    if not 0 < rate < math.inf:
        raise InputError(f'must be a finite number > 0, got {lr!r}; LeNet with batch normalization takes 1.0', 'lr')
    return num_epochs, rate


def check_block(net: Any) -> None:
    """Raise InputError unless net is a Gluon block."""
    if not isinstance(net, Block):
        raise InputError(f"must be a Gluon block, got {net!r}; lenet('fused') makes one", 'net')


def check_net(net: Any, devices: List[mx.Context]) -> None:
    """Raise InputError unless net is a Gluon block that is initialized on the devices."""
    check_block(net)
    for parameter in net.collect_params().values():
        try:
            present = parameter.list_ctx()
        except RuntimeError:  # raised by Gluon
            what = f'must be initialized, but {parameter.name} is not'
            raise InputError(f'{what}; call net.initialize()', 'net') from None
        if parameter.grad_req != 'null' and not set(devices) <= set(present):
            expected = f'must be among {present}, where net has its parameters, got {devices}'
            raise InputError(f'{expected}; name those, or {MOVE}', 'device')


def check_trainable(net: Block, devices: List[mx.Context]) -> None:
    """Raise InputError unless net, after a first run, has parameters to train, of known size, on just these devices."""
    parameters = net._collect_params_with_prefix()
    trained = [parameter for parameter in parameters.values() if parameter.grad_req != 'null']
    if not trained:
        raise InputError('must have parameters to train, got none', 'net')
    for parameter in trained:
        if set(parameter.list_ctx()) != set(devices):
            expected = f'must name all of {parameter.list_ctx()}, where net has its parameters, got {devices}'
            raise InputError(f'{expected}; {MOVE}', 'device')
    unknown = [name for name, parameter in parameters.items() if not all(size > 0 for size in parameter.shape)]
    if unknown:
        got = f'after a minibatch the sizes of {", ".join(unknown)} are unknown'
        raise InputError(f'must use each of its layers, but {got}; call that layer in forward, or remove it', 'net')


def check_countable(name: str, data_iter: Any) -> None:
    """Raise InputError unless data_iter has a length of at least 1 and can be iterated over repeatedly."""
    if not hasattr(data_iter, '__len__') or not hasattr(data_iter, '__iter__'):
        expected = 'must be minibatches (X, y) with a length that can be iterated over again each epoch'
        remedy = 'use load_data_fashion_mnist, a DataLoader or a list'
        raise InputError(f'{expected}, got {type(data_iter).__name__}; {remedy}', name)
    if len(data_iter) == 0:
        raise InputError('must give at least one minibatch (X, y), got none', name)


def pairs(name: str, data_iter: Iterable[Any], labelled: bool = True) -> Iterator[Tuple[Any, Any]]:
    """Yield the minibatches of data_iter, and check the types and shapes of each, without blocking on a device.

    Raises: InputError if one is not a pair of arrays (X, y) with one label per example, or if there is none.
    """
    if not hasattr(data_iter, '__iter__') and not hasattr(data_iter, '__getitem__'):
        raise InputError(f'must give minibatches (X, y), got {type(data_iter).__name__}', name)
    number = 0
    for number, minibatch in enumerate(data_iter, 1):
        if not isinstance(minibatch, (list, tuple)) or len(minibatch) != 2:
            got = f'{len(minibatch)} of them' if isinstance(minibatch, (list, tuple)) else type(minibatch).__name__
            raise InputError(f'must give pairs of arrays (X, y), got {got} as minibatch {number}', name)
        X, y = minibatch
        where = f'in minibatch {number} of {name}'
        for what, array in (('X', X), ('y', y))[: 1 + labelled]:
            if not isinstance(array, NDArray) and not (isinstance(array, numpy.ndarray) and array.dtype.kind in 'biuf'):
                got = f'an array of {array.dtype}' if isinstance(array, numpy.ndarray) else type(array).__name__
                raise InputError(f'must be an array of numbers, of MXNet or NumPy, got {got} {where}', what)
        if X.ndim == 0 or len(X) == 0:
            raise InputError(f'must hold examples, got shape {X.shape} {where}', 'X')
        if labelled and y.shape != (len(X),):
            remedy = 'give one for each example'
            if y.shape == (len(X), 1):
                remedy = 'flatten it with y.reshape((-1,))'
            elif y.ndim == 2 and len(y) == len(X):
                remedy = 'for one-hot rows, take y.argmax(axis=1)'
            expected = f'must be labels of shape ({len(X)},) for {len(X)} examples'
            raise InputError(f'{expected}, got shape {y.shape} {where}; {remedy}', 'y')
        yield X, y
    if not number:
        raise InputError('must give minibatches (X, y), got none; create a new iterator if this one is exhausted', name)


def shares(net: Block, X: Any, y: Any, devices: List[mx.Context]) -> List[Tuple[NDArray, NDArray]]:
    """Split a minibatch among the devices, as arrays of the active front."""
    return list(zip(to_devices(net, X, devices), to_devices(net, y, devices, label=True)))


def to_devices(net: Block, array: Any, devices: List[mx.Context], label: bool = False) -> List[NDArray]:
    """Split one array of a minibatch among the devices. A NumPy array gets the dtype of the net's parameters."""
    is_np = mx.util.is_np_array()
    if isinstance(array, numpy.ndarray):
        first = next(iter(net.collect_params().values()), None)
        dtype = 'float32' if label or first is None else first.dtype
        array = (mx.np if is_np else mx.nd).array(array, dtype=dtype, ctx=devices[0])
    else:
        array = array.as_np_ndarray() if is_np else array.as_nd_ndarray()
        if label and array.dtype == numpy.bool_:  # the loss does not accept bool
            array = array.astype('int32')
    arrays: List[NDArray] = gluon.utils.split_and_load(array, devices, even_split=False)
    return arrays


def check_minibatch(net: Block, X: Any, y: Any, devices: List[mx.Context]) -> None:
    """Run two examples of a minibatch in prediction mode, and check all its labels.

    Raises: InputError if X does not fit the net, the output is not a row of scores, or a label is out of range.
    """
    output = run(net, X[:2], devices[0])
    check_output(output, len(X[:2]))
    values = numpy.asarray(y if isinstance(y, numpy.ndarray) else y.asnumpy(), 'float64')
    classes = output.shape[1]
    check_labels((numpy.floor(numpy.clip(values, 0, classes - 1)) != values).sum(), len(values), classes)


def run(net: Block, X: Any, device: mx.Context) -> Any:
    """Return net's output for X in prediction mode. Raises: InputError if a layer rejects its input."""
    (X,) = to_devices(net, X, [device])
    try:
        with autograd.pause():
            return net(X)
    except (MXNetError, ValueError) as error:  # of MXNet and Gluon for shapes and types; any other is re-raised
        reason = _describe_misfit(net, X, error)
        if reason is None:
            raise
        raise InputError(reason, 'X') from error


def _describe_misfit(net: Block, X: NDArray, error: Exception) -> Optional[str]:
    """Say which of Gluon's layers rejects its input, and what it takes; None if the error has another cause."""
    layers = dict(paths_of(net)) or {'': net}
    reached: List[Tuple[str, Any]] = []
    with inputs_seen(net, layers, lambda path, X: reached.append((path, X))), autograd.pause():
        with contextlib.suppress(MXNetError, ValueError):  # again
            net(X)
    if isinstance(error, InputError) or not reached or not type(layers[reached[-1][0]]).__module__.startswith('mxnet.'):
        return None
    path, got = reached[-1]
    layer, shape = layers[path], ('b', *got.shape[1:])
    takes = f': {str(error).strip().splitlines()[-1]}'
    if hasattr(layer, 'weight') and numpy.dtype(layer.weight.dtype) != got.dtype:
        expected, actual = numpy.dtype(layer.weight.dtype), numpy.dtype(got.dtype)
        remedy = f"convert it by X.astype('{expected}')" + f", or net by net.cast('{actual}')" * (actual.kind == 'f')
        return f'must be {expected}, as the weights of net are, got {actual}; {remedy}'
    if isinstance(layer, nn.Dense) and layer.weight.shape[1] > 0:
        takes = f', which takes {layer.weight.shape[1]} values per example'
    elif isinstance(layer, nn.Conv2D):
        channels = layer.weight.shape[1] * layer._kwargs['num_group'] or 'channels'
        height, width = layer._kwargs['kernel']
        takes = f', which takes (b, {channels}, h, w) with h >= {height} and w >= {width}'
    reason = f'must fit net, got shape {("b", *X.shape[1:])}: {describe(path, layers)} gets {shape}{takes}'
    return reason.replace("'b'", 'b')


def known_sizes(data_iter: Any) -> List[int]:
    """Return sizes of minibatches, including the smallest, as far as they are known before iteration."""
    if isinstance(data_iter, (list, tuple)):
        return [len(X) for X, _ in pairs('train_iter', data_iter)]
    sampler = getattr(data_iter, '_batch_sampler', None)  # a DataLoader's
    if isinstance(data_iter, Minibatches):
        examples, size = len(data_iter.X), data_iter.batch_size
    elif isinstance(sampler, gluon.data.BatchSampler) and sampler._last_batch == 'keep':
        examples, size = len(sampler._sampler), sampler._batch_size
    else:
        return []
    return [examples % size or size]


def check_share(net: Block, X: Any, size: int, devices: List[mx.Context], workers: int = 1) -> None:
    """Raise InputError if a minibatch of this size gives a device no example, or a single one, and a layer needs two.

    X: any minibatch. workers: their number; each has all of these devices.
    """
    share = size // (len(devices) * workers)
    among = f' of each of {workers} workers' if workers > 1 else ''
    got = f'got a minibatch of {size}' + (f' for {len(devices)} devices{among}' if len(devices) * workers > 1 else '')
    remedy = 'take another batch size, or drop that minibatch'
    if share == 0:
        raise InputError(f'must give each device an example, {got}; {remedy}', 'train_iter')
    constant = _constant_layer(net, X, devices[0]) if share == 1 else None
    if constant:
        why = f'{constant} learns nothing from one (its variance is 0)'
        raise InputError(f'must give each device more than one example, because {why}, {got}; {remedy}', 'train_iter')


def _constant_layer(net: Block, X: Any, device: mx.Context) -> Optional[str]:
    """Describe the first batch normalization that gets only one value per channel from one example of a share."""
    layers, norms = {'': net, **dict(paths_of(net))}, norm_layers(net)
    found: List[str] = []

    def look(path: str, X: Any) -> None:
        if X.size == len(X) * X.shape[axis_of(layers[path])]:
            found.append(describe(path, layers))

    with inputs_seen(
        net, {path: layer for path, layer in layers.items() if layer in norms and not is_sync(layer)}, look
    ):
        run(net, X[:2], device)
    return found[0] if found else None
