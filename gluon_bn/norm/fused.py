"""`fused_batch_norm`: the maths of `batch_norm` at the speed of a compiled layer, on one of two paths."""

from __future__ import annotations

import functools
import os
import shlex
import sys
from typing import Any, Optional, Tuple

import numpy
from mxnet import Context, MXNetError
from mxnet.ndarray import NDArray

from ..errors import InputError
from . import native
from .definition import check_input
from .native import NativeError
from .native_op import batch_norm_in_place, batch_norm_native
from .portable import batch_norm_portable

Arrays = Tuple[NDArray, NDArray, NDArray, NDArray, NDArray]  # X, gamma, beta, moving_mean, moving_var


def fused_batch_norm(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """A fast drop-in replacement for `batch_norm`.

        Y = gamma * X_hat + beta,    X_hat = (X - mean) / sqrt(var + eps)
        dX = gamma / sqrt(var + eps) * (dY - mean(dY) - X_hat * mean(dY * X_hat))

    On the CPU in float32 and float64 it runs an operator compiled from native.cc; elsewhere,
    or if it cannot be compiled, `batch_norm_portable`. `status()` says which and why;
    set GLUON_BN_FUSED to native or portable to choose by hand.

    Shapes, Units, Raises: as for `batch_norm`; also NativeError if GLUON_BN_FUSED=native
    and the native path is unavailable.
    Note: the returned statistics carry no gradient. Second-order gradients (`create_graph=True`) are unavailable
    in MXNet 1.9.1, here and in `batch_norm`: some of their operators lack one.
    Source: Ioffe and Szegedy (2015), section 3, where the gradients are derived.
    """
    arrays = (X, gamma, beta, moving_mean, moving_var)
    check_input(arrays, eps, momentum)
    function = batch_norm_native if _is_native(X.context, X.dtype) else batch_norm_portable
    return function(*arrays, eps, momentum)


def _is_native(device: Context, dtype: Any) -> bool:
    return device.device_type != 'gpu' and dtype != numpy.float16 and choose()[0] == 'native'


def fused_in_place(device: Context, arrays: Arrays, eps: float, momentum: float, sigmoid: bool) -> Optional[NDArray]:
    """Like `fused_batch_norm`, but return only Y and update the moving statistics in place, on the native path.

    device: that of X. sigmoid: return sigmoid(Y) instead.
    Nothing is checked here: the operator itself refuses arrays that do not fit together, at less cost.
    Returns: None, with nothing changed, if these arrays are wrong or need another path.
    """
    if len(set(map(type, arrays))) > 1 or not _is_native(device, arrays[0].dtype):
        return None
    try:
        return batch_norm_in_place(*arrays, eps, momentum, sigmoid)
    except MXNetError:
        return None


@functools.lru_cache(maxsize=None)
def choose() -> Tuple[str, str]:
    """Return ('native' or 'portable', why), decided at the first call and cached; compiles if necessary.

    Raises: InputError if GLUON_BN_FUSED is not native, portable or auto, or this processor lacks GLUON_BN_ISA;
    NativeError if it is native and the native path is unavailable.
    """
    setting = os.environ.get('GLUON_BN_FUSED') or 'auto'
    if setting not in ('native', 'portable', 'auto'):
        raise InputError(f'must be native, portable or auto, got {setting!r}; unset it for auto', 'GLUON_BN_FUSED')
    if setting == 'portable':
        return 'portable', 'GLUON_BN_FUSED=portable asks for it'
    try:
        native.load()
    except NativeError as error:
        if setting == 'native':
            raise NativeError(
                f'GLUON_BN_FUSED=native, but {error}, or unset GLUON_BN_FUSED to take the portable path'
            ) from error
        print(f'gluon_bn: fused_batch_norm takes its slower, portable path: {error}', file=sys.stderr)
        return 'portable', str(error)
    name, _ = native.instruction_set()
    built_for = '' if name == 'native' else f' for {name}'
    return 'native', f'compiled by {shlex.join(native.find_compiler())}{built_for} into {native.cache_folder()}'


def status() -> str:
    """Say in one line which path fused_batch_norm takes on this CPU, and why."""
    try:
        path, reason = choose()
    except (NativeError, InputError) as error:
        return f'none: {error}'
    return f'{path}: {reason}'
