"""The blocks of a net: their paths, those with moving statistics (ours, Gluon's and custom ones), and their inputs."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple, TypeVar

from mxnet.gluon import Block, HybridBlock, Parameter, nn
from mxnet.gluon.contrib.nn import SyncBatchNorm
from mxnet.ndarray import NDArray

GLUONS = (nn.BatchNorm, nn.BatchNormReLU, SyncBatchNorm)
NAMES = (('moving_mean', 'moving_var'), ('running_mean', 'running_var'))  # the book's and ours; Gluon's
Key = TypeVar('Key')


def blocks_of(net: Block) -> List[Block]:
    """Return net and all blocks in it, children before parents."""
    found: List[Block] = []
    net.apply(found.append)
    return found


def paths_of(block: Block, path: str = '') -> Iterator[Tuple[str, Block]]:
    """Yield (path, block) for the blocks inside, inner ones first; paths are those of save_parameters: '4', '0.4'."""
    for name, child in block._children.items():
        yield from paths_of(child, f'{path}{name}.')
        yield f'{path}{name}', child


def describe(path: str, layers: Dict[str, Block]) -> str:
    """Describe a layer by its path and settings, in one line."""
    return f'layer {path}, {" ".join(repr(layers[path]).split())},'


@contextlib.contextmanager
def eager(net: Block) -> Iterator[None]:
    """Run net without compiled graphs, which would skip the hooks of inner layers."""
    hybrid = [(block, block._active, dict(block._flags)) for block in blocks_of(net) if isinstance(block, HybridBlock)]
    for block, active, _ in hybrid:
        if active:
            block.hybridize(False)
    try:
        yield
    finally:
        if any(active for _, active, _ in hybrid):
            for block, active, flags in reversed(hybrid):  # parents first, because hybridize overwrites the children
                block.hybridize(active, **flags)


@contextlib.contextmanager
def inputs_seen(net: Block, layers: Mapping[Key, Block], see: Callable[[Key, Any], None]) -> Iterator[None]:
    """Run net eagerly, and call see(key, input) before each of the layers."""
    with eager(net), contextlib.ExitStack() as stack:
        for key, layer in layers.items():
            hook = layer.register_forward_pre_hook(lambda layer, inputs, key=key: see(key, inputs[0]))
            stack.callback(hook.detach)
        yield


def norm_layers(net: Block) -> List[Block]:
    """Return the layers that use minibatch statistics in training and moving statistics in prediction."""
    return [
        block
        for block in blocks_of(net)
        if statistic_names(block) and not (isinstance(block, GLUONS) and block._kwargs['use_global_stats'])
    ]


def is_sync(block: Block) -> bool:
    """Return whether a layer uses the statistics of all workers."""
    return getattr(getattr(block, 'fn', None), 'merges_shares', False)


def statistic_names(block: Block) -> Tuple[str, ...]:
    """Return the names of a block's moving mean and variance; () if it has none."""
    for names in NAMES:
        if all(isinstance(getattr(block, name, None), (Parameter, NDArray)) for name in names):
            return names
    return ()


def statistics_of(layer: Block) -> Tuple[Any, Any]:
    """Return the moving mean and variance of a layer: parameters, or plain arrays of a custom layer."""
    mean, var = statistic_names(layer)
    return getattr(layer, mean), getattr(layer, var)


def axis_of(layer: Block) -> int:
    """Return the channel axis of a layer's input."""
    return layer._kwargs.get('axis', 1) if isinstance(layer, GLUONS) else 1
