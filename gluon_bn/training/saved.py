"""Loads saved parameters across functions, layers and fronts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Collection, Dict, List, Match, Optional, Set, Tuple, Union

import mxnet as mx
import numpy
from mxnet.gluon import Block, Parameter

from ..devices import check_devices
from ..errors import InputError
from . import params_file
from .inputs import check_block

NORM_PARAMETERS = ('gamma', 'beta', 'moving_mean', 'moving_var')


def load_parameters(net: Block, path: Union[str, Path], device: Optional[mx.Context] = None) -> None:
    """Load a file that `save_parameters` wrote for a net of the same layers, with any norm.

    The nets may differ in the function of their `BatchNorm`, use Gluon's layer instead (with the
    same eps, and scale=True), or be of the other front (`mx.nd`, or `mx.np` under `npx.set_np()`).
    They predict the same:

        lenet('scratch') <-> lenet('fused') <-> lenet('gluon')

    Gluon's layer calls the statistics running_mean and running_var, and keeps one value per channel in
    an array (c,); this package's keeps them in the shape that broadcasts over X. All else is equal,
    names included. Files of `save_parameters(deduplicate=True)`, `collect_params().save` and `export` load too:
    the latter two name layers by type and number, and are matched by the order of creation.
    Initialized parameters stay on their devices; the others go to device, the CPU by default.

    Shapes: for gamma, beta, mean and variance, (c,), (1, c) and (1, c, 1, 1) are equivalent; others must match.
    Raises: InputError, without loading anything, if the file cannot be read, is of another kind, truncated or
    garbled, if it lacks a parameter or statistic of net or has others, or if a shape or type differs.
    """
    check_block(net)
    devices = check_devices(device)
    # by position in the net, as save_parameters names them
    parameters = _with_our_names(path, net._collect_params_with_prefix())
    saved = _with_our_names(path, params_file.read(path))
    saved = _by_position(parameters, saved)
    _check_names(path, parameters, saved)
    values = {name: _converted(path, name, parameter, saved[name]) for name, parameter in parameters.items()}
    # an MXNet array, because a NumPy array cannot be written into a weight that oneDNN keeps in its own layout
    array = mx.np.array if mx.util.is_np_array() else mx.nd.array
    for name, parameter in parameters.items():
        if parameter._data is None:  # not yet allocated: use the devices of its deferred initialization, or these
            parameter.shape = values[name].shape
            parameter.initialize(ctx=parameter.list_ctx() if parameter._deferred_init else devices)
        parameter.set_data(array(values[name], dtype=values[name].dtype))


def _with_our_names(path: Union[str, Path], by_name: Dict[str, Any]) -> Dict[str, Any]:
    """Return the dict with this package's names for the statistics."""
    renamed = {_our_name(name): value for name, value in by_name.items()}
    if len(renamed) < len(by_name):
        raise InputError(f'{path} must hold moving_mean or running_mean for a layer, but holds both; save it again')
    return renamed


def _our_name(name: str) -> str:
    return re.sub('running_(mean|var)$', r'moving_\1', name)


def _by_position(parameters: Dict[str, Parameter], saved: Dict[str, Any]) -> Dict[str, Any]:
    """Return the saved values under the names in parameters, matched by order of creation if no name fits."""
    names_of: Dict[Parameter, List[str]] = {}  # several for a parameter that layers share
    for name, parameter in parameters.items():
        names_of.setdefault(parameter, []).append(name)
    if not set(saved) & set(parameters):  # perhaps Gluon's own names of the parameters match
        ours = _ranked([_our_name(parameter.name) for parameter in names_of])
        theirs = _ranked([name.partition(':')[2] or name for name in saved])  # arg:, aux:
        if set(ours) == set(theirs) and len(ours) == len(theirs) == len(names_of):
            by_rank = dict(zip(theirs, saved.values()))
            saved = {names[-1]: by_rank[rank] for rank, names in zip(ours, names_of.values())}
    for names in names_of.values():
        present = [name for name in names if name in saved]
        if present:
            saved = {**dict.fromkeys(names, saved[present[-1]]), **saved}
    return saved


def _ranked(names: List[str]) -> List[str]:
    """Return Gluon's names without their common prefix, each number replaced by its rank.

    sequential3_dense5_weight and sequential3_dense8_weight become dense0_weight and dense1_weight: Gluon counts the
    layers of a type as they are created, in a net or in the whole process.
    """
    names = [name[os.path.commonprefix(names).rfind('_') + 1 :] for name in names]
    numbers: Dict[str, Set[int]] = {}  # by the text before them
    for name in names:
        for match in re.finditer(r'\d+(?=_)', name):
            numbers.setdefault(name[: match.start()], set()).add(int(match[0]))

    def rank(match: Match[str]) -> str:
        return str(sorted(numbers[match.string[: match.start()]]).index(int(match[0])))

    return [re.sub(r'\d+(?=_)', rank, name) for name in names]


def _check_names(path: Union[str, Path], parameters: Collection[str], saved: Collection[str]) -> None:
    missing = [name for name in parameters if name not in saved]
    foreign = [name for name in saved if name not in parameters]
    if missing and not foreign and all(name.endswith(('moving_mean', 'moving_var')) for name in missing):
        why = 'the saved layer kept them in plain arrays, which save_parameters leaves out'
        remedy = 'train with gluon_bn.BatchNorm, which saves them'
        names = _abbreviated(missing)
        raise InputError(f'{path} must hold the moving statistics, but {names} are missing: {why}; {remedy}')
    if missing or foreign:
        has = [f'{verb} {_abbreviated(names)}' for verb, names in (('lacks', missing), ('has', foreign)) if names]
        what = f'must hold the parameters of this net, but it {" and ".join(has)}: it was saved from another net'
        remedy = 'build that one, with its layers in the same order'
        if not any('.' in name for name in saved):
            remedy += (
                ', or save it with save_parameters: collect_params().save and export name layers by type and number'
            )
        raise InputError(f'{path} {what}; {remedy}')


def _abbreviated(names: List[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def _converted(
    path: Union[str, Path], name: str, parameter: Parameter, value: numpy.ndarray[Any, Any]
) -> numpy.ndarray[Any, Any]:
    """Return the saved value in the parameter's shape and type."""
    expected = shape = tuple(known if known > 0 else 0 for known in parameter.shape)  # 0: not yet inferred
    actual = value.shape
    if name.rpartition('.')[2] in NORM_PARAMETERS:
        expected, actual = _channels(shape), _channels(actual)
    if len(expected) != len(actual) or any(known not in (0, size) for known, size in zip(expected, actual)):
        what = f'must be {shape}, as the net has it, got {value.shape}'
        raise InputError(
            f'{name} in {path} {what}: it was saved from a net of other sizes; build the net with those sizes'
        )
    dtype = numpy.dtype(parameter.dtype)
    if not numpy.can_cast(value.dtype, dtype):
        what = f'must be {dtype}, as the net has it, got {value.dtype}, which would be rounded'
        raise InputError(f"{name} in {path} {what}; cast the net first: net.cast('{value.dtype}')")
    converted: numpy.ndarray[Any, Any] = value.reshape(actual if 0 in shape else shape).astype(dtype)
    return converted


def _channels(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """Return (c,) for the shape of one value per channel, in any of its three forms."""
    return shape[1:2] if len(shape) > 1 and shape[0] == 1 and shape[2:] in ((), (1, 1)) else shape
