"""LeNet, with or without batch normalization."""
from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Union

from mxnet.gluon import Block, nn

from .data import check_count
from .norm import BatchNorm, batch_norm, fused_batch_norm

POOLS = {'max': nn.MaxPool2D, 'avg': nn.AvgPool2D}

Norm = Callable[[int, int], Block]  # (num_features, num_dims) -> layer

# None: no normalization at all
NORMS: Dict[str, Optional[Norm]] = {
    'none': None,
    'scratch': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm),
    'fused': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=fused_batch_norm),
    'gluon': lambda num_features, num_dims: nn.BatchNorm(),  # infers its sizes from the first input
}


def lenet(norm: Union[str, Norm] = 'none', pool: str = 'max', num_classes: int = 10) -> nn.Sequential:
    """LeNet-5 with sigmoid units, and a norm between each affine map and its activation.

        X -> [conv 5x5 -> norm -> sigmoid -> pool 2x2] x 2 -> [dense -> norm -> sigmoid] x 2 -> dense

    norm: 'none'; 'scratch' or 'fused', this package's layer; 'gluon', Gluon's own; or a
    function (num_features, num_dims) -> Block, called for 6 and 16 channels, 120 and 84 units.
    pool: 'max' or 'avg'.

    Shapes: X (m, 1, 28, 28) to logits (m, num_classes). The net is not yet initialized.
    Raises: ValueError for an unknown name, or a number of classes below 1.
    Source: LeCun et al. (1998), with the norms where Ioffe and Szegedy (2015) put them. The
    affine maps keep their biases (redundant before a norm), so that all nets start alike.
    """
    otherwise = ', or a function (num_features, num_dims) -> Block'
    make_norm = norm if callable(norm) else look_up('norm', norm, NORMS, otherwise)
    make_pool = look_up('pool', pool, POOLS)
    check_count('num_classes', num_classes)
    net = nn.Sequential()

    def add(affine: Block, num_features: int, num_dims: int) -> None:
        net.add(affine)
        if make_norm is not None:
            net.add(make_norm(num_features, num_dims))
        net.add(nn.Activation('sigmoid'))

    with net.name_scope():
        add(nn.Conv2D(6, kernel_size=5), 6, 4)
        net.add(make_pool(pool_size=2, strides=2))
        add(nn.Conv2D(16, kernel_size=5), 16, 4)
        net.add(make_pool(pool_size=2, strides=2))
        add(nn.Dense(120), 120, 2)
        add(nn.Dense(84), 84, 2)
        net.add(nn.Dense(num_classes))
    return net


def look_up(what: str, name: str, table: Dict[str, Any], otherwise: str = '') -> Any:
    """The entry of a table. Raises: ValueError, with the names in it, for another name."""
    if name not in table:
        known = ', '.join(repr(key) for key in table)
        raise ValueError(f'{what} must be one of {known}{otherwise}; got {name!r}')
    return table[name]
