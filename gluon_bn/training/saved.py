"""Saved parameters, loaded across functions, layers and fronts."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import mxnet as mx
import numpy
from mxnet.gluon import Block, Parameter
from mxnet.gluon.parameter import DeferredInitializationError

from . import params_file

OURS = {'running_mean': 'moving_mean', 'running_var': 'moving_var'}  # what Gluon calls it: what we do
OF_A_NORM = ('gamma', 'beta', 'moving_mean', 'moving_var')


def load_parameters(net: Block, path: Union[str, Path], device: Optional[mx.Context] = None) -> None:
    """Load into net what `save_parameters` has written for a net of the same layers, with whichever norm.

    The nets may differ in the function of their `BatchNorm`, have Gluon's layer in its place (with the
    same eps, and scale=True), or be of the other front (`mx.nd`, or `mx.np` under `npx.set_np()`), and
    predict the same:

        lenet('scratch') <-> lenet('fused') <-> lenet('gluon')

    Gluon's layer calls the statistics running_mean and running_var, and holds one value a channel in
    an array (c,), this package's in the shape that broadcasts over X. The rest is equal, names and
    all. What is already initialized stays on its devices; the rest goes to device, the CPU by default.

    Shapes: (c,), (1, c) and (1, c, 1, 1) are one for gamma, beta, mean and variance; others must fit.
    Raises: ValueError, and nothing is loaded, if the file is foreign, truncated or garbled, if a
    parameter is missing in it (statistics among them), is not net's, or has another shape or type.
    """
    # by position in the net, as save_parameters names them
    parameters = _ours(path, net._collect_params_with_prefix())
    saved = _ours(path, params_file.read(path))
    _check_names(path, parameters, saved)
    values = {name: _fit(path, name, parameter, saved[name]) for name, parameter in parameters.items()}
    # MXNet's own array: one of NumPy cannot be written into a weight that oneDNN keeps in a layout of its own
    array = mx.np.array if mx.util.is_np_array() else mx.nd.array
    for name, parameter in parameters.items():
        _make_ready(parameter, values[name].shape, device or mx.cpu())
        parameter.set_data(array(values[name], dtype=values[name].dtype))


def _ours(path: Union[str, Path], by_name: Dict[str, Any]) -> Dict[str, Any]:
    """The dict with the names that this package has for the statistics."""
    renamed = {}
    for name, value in by_name.items():
        prefix, dot, last = name.rpartition('.')
        renamed[prefix + dot + OURS.get(last, last)] = value
    if len(renamed) < len(by_name):
        raise ValueError(f'{path} must hold moving_mean or running_mean of a layer, but holds both; save it again')
    return renamed


def _check_names(path: Union[str, Path], parameters: Dict[str, Parameter], saved: Dict[str, numpy.ndarray]) -> None:
    missing = [name for name in parameters if name not in saved]
    foreign = [name for name in saved if name not in parameters]
    if missing and not foreign and all(name.endswith(tuple(OURS.values())) for name in missing):
        raise ValueError(f'{path} must hold the moving statistics, but {_some(missing)} are missing: the layer that '
                         'was saved kept them in plain arrays, which save_parameters leaves out; train with '
                         'gluon_bn.BatchNorm, which saves them')
    if missing or foreign:
        differences = [f'{what} {_some(names)}' for what, names in (('lacks', missing), ('has', foreign)) if names]
        raise ValueError(f'{path} must hold the parameters of this net, but it {" and ".join(differences)}: it was '
                         'saved from another net; build that one, with its layers in the same order')


def _some(names: List[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _fit(path: Union[str, Path], name: str, parameter: Parameter, value: numpy.ndarray) -> numpy.ndarray:
    """The saved value in the parameter's own shape and type."""
    shape = tuple(known if known > 0 else 0 for known in parameter.shape)  # 0: not yet inferred
    wanted, found = (shape, value.shape) if name.rpartition('.')[2] not in OF_A_NORM else (
        _channels(shape), _channels(value.shape))
    if len(wanted) != len(found) or any(known not in (0, size) for known, size in zip(wanted, found)):
        raise ValueError(f'{name} in {path} must be {shape}, as the net has it, got {value.shape}: it was saved from a '
                         'net of other sizes; build the net as it was then')
    dtype = numpy.dtype(parameter.dtype)
    if not numpy.can_cast(value.dtype, dtype):
        raise ValueError(f'{name} in {path} must be {dtype}, as the net has it, got {value.dtype}, which would be '
                         f"rounded; cast the net first: net.cast('{value.dtype}')")
    return value.reshape(found if 0 in shape else shape).astype(dtype)


def _channels(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """(c,) for the shape of one value a channel, in any of its three forms."""
    return shape[1:2] if len(shape) > 1 and shape[0] == 1 and shape[2:] in ((), (1, 1)) else shape


def _make_ready(parameter: Parameter, shape: Tuple[int, ...], device: mx.Context) -> None:
    """Give a parameter that has no array yet one of this shape."""
    try:
        parameter.list_data()
    except DeferredInitializationError:
        parameter.shape = shape
        parameter.initialize(ctx=parameter.list_ctx())
    except RuntimeError:  # never initialized
        parameter.shape = shape
        parameter.initialize(ctx=device)
