"""LeNet, with or without batch normalization."""

from __future__ import annotations

import functools
from typing import Callable, Dict, Optional, Union

from .system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
from mxnet.gluon import Block, HybridBlock, nn
from mxnet.gluon.contrib.nn import Identity

from .errors import InputError
from .norm import BatchNorm, MaxPool2D, batch_norm, choose, fused_batch_norm, sync_batch_norm
from .system.arguments import check_count, look_up

POOLS = {'max': MaxPool2D, 'avg': nn.AvgPool2D}

Norm = Callable[[int, int], Block]  # (num_features, num_dims) -> layer

# None: no normalization at all
NORMS: Dict[str, Optional[Norm]] = {
    'none': None,
    'scratch': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=batch_norm),
    'fused': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=fused_batch_norm),
    'sync': lambda num_features, num_dims: BatchNorm(num_features, num_dims, fn=sync_batch_norm),
    'gluon': lambda num_features, num_dims: nn.BatchNorm(),  # infers its sizes from the first input
}


def lenet(
    norm: Union[str, Norm] = 'none', pool: str = 'max', num_classes: int = 10, fuse_sigmoid: bool = False
) -> nn.Sequential:
    """Build LeNet-5 with sigmoid units, and a norm between each affine map and its activation.

        X -> [conv 5x5 -> norm -> sigmoid -> pool 2x2] x 2 -> [dense -> norm -> sigmoid] x 2 -> dense

    norm: 'none'; 'scratch' or 'fused', this package's layer; 'sync', the same for workers that train together;
    'gluon', Gluon's layer; or a function (num_features, num_dims) -> Block, called for 6 and 16 channels, 120 and
    84 units.
    pool: 'max' or 'avg'.
    fuse_sigmoid: with norm='fused', each `BatchNorm` applies the sigmoid, too; the native path computes both in
    one operator.

    Shapes: X (m, 1, 28, 28) to logits (m, num_classes). The net is returned uninitialized. With
    'none', 'gluon', and 'fused' on the native path, it is an nn.HybridSequential, which hybridize() compiles as a
    whole; otherwise an nn.Sequential, whose hybridize() compiles the layers around the norms.
    Raises: InputError for an unknown name, a norm that does not return a block, fewer than 1 class, or fuse_sigmoid
    with another norm.
    Source: LeCun et al. (1998), with the norms where Ioffe and Szegedy (2015) put them. The
    affine maps keep their biases (redundant before a norm in training), so that the nets differ only in the norm.
    """
    otherwise = ', or a function (num_features, num_dims) -> Block'
    make_norm = norm if callable(norm) else look_up('norm', norm, NORMS, otherwise)
    if isinstance(norm, type) and norm.__module__.startswith('mxnet.'):  # its first argument is an axis
        raise InputError(
            f"must take (num_features, num_dims), got Gluon's {norm.__name__}; 'gluon' is its BatchNorm, "
            f'or write lambda num_features, num_dims: nn.{norm.__name__}()',
            'norm',
        )
    make_pool = look_up('pool', pool, POOLS)
    num_classes = check_count('num_classes', num_classes)
    if fuse_sigmoid:
        if norm != 'fused':
            raise InputError(f"needs norm='fused', got norm={norm!r}; leave out fuse_sigmoid", 'fuse_sigmoid')
        make_norm = functools.partial(BatchNorm, fn=fused_batch_norm, activation='sigmoid')
    compiles = norm in ('none', 'gluon') or norm == 'fused' and choose()[0] == 'native'
    net = nn.HybridSequential() if compiles else nn.Sequential()

    def add(affine: Block, num_features: int, num_dims: int) -> None:
        net.add(affine)
        if make_norm is not None:
            layer = make_norm(num_features, num_dims)
            if not isinstance(layer, Block):
                raise InputError(f'must return a Gluon block, got {layer!r} for ({num_features}, {num_dims})', 'norm')
            net.add(layer)
        # the same number of blocks, so that a net with fuse_sigmoid loads the parameters of one without
        net.add(Identity() if fuse_sigmoid else nn.Activation('sigmoid'))

    with net.name_scope():
        add(nn.Conv2D(6, kernel_size=5), 6, 4)
        net.add(make_pool(pool_size=2, strides=2))
        add(nn.Conv2D(16, kernel_size=5), 16, 4)
        net.add(make_pool(pool_size=2, strides=2))
        add(nn.Dense(120), 120, 2)
        add(nn.Dense(84), 84, 2)
        net.add(nn.Dense(num_classes))
    return net


def compiled(net: Block) -> Block:
    """Hybridize a net of `lenet` if possible: the same results, bit for bit, with less Python overhead per minibatch.

    If the compiled operator is loaded, an export of the net needs it, too.
    """
    if isinstance(net, HybridBlock):
        net.apply(lambda block: setattr(block, 'compiles', True) if isinstance(block, MaxPool2D) else None)
        net.hybridize(static_alloc=True, static_shape=True)
    return net
