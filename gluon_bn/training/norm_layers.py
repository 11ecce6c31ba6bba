"""Which layers of a net keep moving statistics, and where: ours, Gluon's, and custom ones."""

from __future__ import annotations

from typing import Any, List, Tuple

from mxnet.gluon import Block, Parameter, nn
from mxnet.gluon.contrib.nn import SyncBatchNorm
from mxnet.ndarray import NDArray

from .hooks import blocks_of

GLUONS = (nn.BatchNorm, nn.BatchNormReLU, SyncBatchNorm)
NAMES = (('moving_mean', 'moving_var'), ('running_mean', 'running_var'))  # the book's and ours; Gluon's


def norm_layers(net: Block) -> List[Block]:
    """Return the layers that use minibatch statistics in training and moving statistics in prediction."""
    return [
        block
        for block in blocks_of(net)
        if statistic_names(block) and not (isinstance(block, GLUONS) and block._kwargs['use_global_stats'])
    ]


def statistic_names(block: Block) -> Tuple[str, ...]:
    """Return the names of a block's moving mean and variance; () if it has none."""
    return next(
        (
            names
            for names in NAMES
            if all(isinstance(getattr(block, name, None), (Parameter, NDArray)) for name in names)
        ),
        (),
    )


def statistics_of(layer: Block) -> Tuple[Any, Any]:
    """Return the moving mean and variance of a layer: parameters, or plain arrays of a custom layer."""
    mean, var = statistic_names(layer)
    return getattr(layer, mean), getattr(layer, var)


def axis_of(layer: Block) -> int:
    """Return the channel axis of a layer's input."""
    return layer._kwargs.get('axis', 1) if isinstance(layer, GLUONS) else 1
