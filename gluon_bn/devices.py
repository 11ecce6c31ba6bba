"""Checks the devices that an argument names."""

from __future__ import annotations

from typing import List, Sequence, Union

from .system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
import mxnet as mx

from .errors import InputError

Device = Union[None, mx.Context, Sequence[mx.Context]]


def check_devices(device: Device, name: str = 'device') -> List[mx.Context]:
    """Return the devices as a list, the CPU for None. Raises: InputError if one is invalid, unavailable or repeated."""
    devices = list(device) if isinstance(device, (list, tuple)) else [mx.cpu() if device is None else device]
    if not devices or not all(isinstance(each, mx.Context) for each in devices):
        raise InputError(f'must be a context, such as mx.cpu(), or a list of them, got {device!r}', name)
    if len(set(devices)) < len(devices):
        raise InputError(f'must name each device once, got {devices}', name)
    gpus = mx.context.num_gpus()
    if any(each.device_type == 'gpu' and each.device_id >= gpus for each in devices):
        raise InputError(f'must be available, got {devices}, but MXNet finds {gpus} GPUs; use mx.cpu()', name)
    return devices
