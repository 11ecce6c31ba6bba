"""LeNet in variants: which layers are normalized, by which function, what is frozen, and another activation."""
from __future__ import annotations

from typing import Any, Callable, Iterable, List, Sequence, Tuple

from mxnet import autograd, init, nd
from mxnet.gluon import Block, nn
from mxnet.gluon.contrib.nn import Identity
from mxnet.ndarray import NDArray

from ..norm import BatchNorm, blend, fused_batch_norm

# LeNet's places for a norm, from below, by their number of channels or units.
PLACES = {'conv 1': 6, 'conv 2': 16, 'dense 1': 120, 'dense 2': 84}


def norm_by(fn: Callable[..., Any] = fused_batch_norm, places: Iterable[str] = tuple(PLACES),
            frozen: Sequence[str] = ()) -> Callable[[int, int], Block]:
    """A norm for `lenet`: the layer `BatchNorm` with the maths fn at these PLACES, nothing at the others.

    frozen: which of 'gamma' and 'beta' stay as they start, 1 and 0.
    """
    unknown = set(places) - set(PLACES)
    if unknown:
        raise ValueError(f"places must be of {', '.join(PLACES)}; got {', '.join(sorted(unknown))}")

    def norm(num_features: int, num_dims: int) -> Block:
        if num_features not in [PLACES[place] for place in places]:
            return Identity()
        layer = BatchNorm(num_features, num_dims, fn=fn)
        for name in frozen:
            getattr(layer, name).grad_req = 'null'
        return layer

    return norm


def mean_only(X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float,
              momentum: float) -> Tuple[NDArray, NDArray, NDArray]:
    """Y = gamma * (X - mean) + beta: each unit is centred, its spread is left. The signature is batch_norm's."""
    mean = moving_mean
    if autograd.is_training():
        mean = mean_of(X)
        moving_mean = blend(moving_mean, mean.detach(), momentum)
    return gamma * (X - mean) + beta, moving_mean, moving_var


def variance_only(X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float,
                  momentum: float) -> Tuple[NDArray, NDArray, NDArray]:
    """Y = gamma * X / sqrt(var + eps) + beta: each unit gets the variance 1, its mean is scaled but left."""
    var = moving_var
    if autograd.is_training():
        var = mean_of(nd.square(X - mean_of(X)))
        moving_var = blend(moving_var, var.detach(), momentum)
    return gamma / nd.sqrt(var + eps) * X + beta, moving_mean, moving_var


def mean_of(X: NDArray) -> NDArray:
    """The mean of each unit or channel, in the shape that broadcasts over X: (1, d) or (1, c, 1, 1)."""
    return X.mean(axis=(0,) if X.ndim == 2 else (0, 2, 3), keepdims=True)


def with_activation(net: nn.Sequential, activation: str) -> nn.Sequential:
    """The same net with another activation, such as 'relu', in the place of the sigmoid."""
    return _rebuilt(net, lambda block: [nn.Activation(activation) if isinstance(block, nn.Activation) else block])


def with_dropout(net: nn.Sequential, rate: float = 0.5) -> nn.Sequential:
    """The same net with dropout behind the activation of each dense layer."""
    dense: List[Block] = []

    def blocks(block: Block) -> List[Block]:
        dense.extend([block] if isinstance(block, nn.Dense) else [])
        return [block, nn.Dropout(rate)] if dense and isinstance(block, nn.Activation) else [block]

    return _rebuilt(net, blocks)


def freeze_lower(net: nn.Sequential, num_layers: int) -> nn.Sequential:
    """The same net, whose lowest affine layers, and the norms behind them, keep their initial parameters."""
    affine = 0
    for block in net:
        affine += isinstance(block, (nn.Conv2D, nn.Dense))
        if affine <= num_layers:
            block.collect_params().setattr('grad_req', 'null')
    return net


def initialize(net: nn.Sequential, X: NDArray) -> nn.Sequential:
    """Draw new Xavier weights for net, all of them now, from the sizes that the minibatch X leads to.

    Left to the first training step, dropout would draw its masks in between: one seed, other weights.
    """
    net.initialize(init.Xavier(), force_reinit=True)
    with autograd.predict_mode():
        net(X)
    return net


def _rebuilt(net: nn.Sequential, blocks: Callable[[Block], List[Block]]) -> nn.Sequential:
    new = nn.Sequential()
    for block in net:
        new.add(*blocks(block))
    return new
