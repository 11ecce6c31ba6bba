"""The layer: it holds the parameters and the moving statistics, and leaves the maths to a function."""

from __future__ import annotations

from typing import Any, Callable, Optional, Tuple

import numpy
from mxnet.gluon import Parameter, nn
from mxnet.ndarray import NDArray
from mxnet.symbol import Symbol

from ..errors import InputError
from ..system.arguments import is_whole, look_up
from .definition import batch_norm, check_array, check_constants
from .fused import choose, fused_batch_norm, fused_in_place
from .native_op import trace, view_of_variable

# the signature of batch_norm
Maths = Callable[[NDArray, NDArray, NDArray, NDArray, NDArray, float, float], Tuple[NDArray, NDArray, NDArray]]


ACTIVATIONS = {name: name for name in ('relu', 'sigmoid', 'softrelu', 'softsign', 'tanh')}


class BatchNorm(nn.HybridBlock):
    """A batch normalization layer whose maths is `fn`.

        Y, moving_mean, moving_var = fn(X, gamma, beta, moving_mean, moving_var, eps, momentum)

    num_features: outputs of a dense layer (d) or channels of a convolution (c).
    num_dims: 2 for a dense layer, X (m, d); 4 for a convolution, X (m, c, h, w).
    fn: the maths: `batch_norm`, `fused_batch_norm`, or any function with that signature.
    moving_var_initializer: 'zeros' as in the chapter; 'ones' as in d2l 1.0 and in Gluon.
    activation: applied to fn's Y, as in Gluon's Dense: 'relu', 'sigmoid', 'softrelu', 'softsign' or 'tanh'. On
    fused_batch_norm's native path, one operator does both for 'sigmoid', so the values before it are never stored.

    Parameters, each (1, d) or (1, c, 1, 1): gamma (initially 1) and beta (0) are learned;
    moving_mean (0) and moving_var (0) have no gradient, but are saved, loaded and moved to
    a device like the others. Read one by `layer.moving_mean.data()`, and keep it by `.copy()`: with
    fused_batch_norm, the next training step may write to the same array.

    Raises: InputError for invalid sizes or constants, or an X that does not match them.
    Note: with fn=fused_batch_norm on the native path, hybridize() compiles it, alone or with the net
    around it, and its results stay the same, bit for bit (but dropout elsewhere in the net draws other
    masks). Any other maths always runs eagerly; to compile the layers around it, put it in an
    `nn.Sequential`.
    """

    def __init__(
        self,
        num_features: int,
        num_dims: int,
        fn: Maths = batch_norm,
        eps: float = 1e-5,
        momentum: float = 0.9,
        moving_var_initializer: str = 'zeros',
        activation: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not is_whole(num_features):
            raise InputError(
                f'must be a whole number >= 1, got {num_features!r}; '
                'give the number of outputs or channels of the layer before',
                'num_features',
            )
        if not is_whole(num_dims) or num_dims not in (2, 4):
            raise InputError(
                f'must be 2 (after a dense layer) or 4 (after a convolution), got {num_dims!r}', 'num_dims'
            )
        if not callable(fn):
            raise InputError(f'must be a function like batch_norm, got {fn!r}; pass the function, not its name', 'fn')
        check_constants(eps, momentum)
        self.num_features, self.num_dims = num_features, num_dims = int(num_features), int(num_dims)
        self.fn, self.eps, self.momentum = fn, eps, momentum
        self._sigmoid = activation == 'sigmoid'
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        with self.name_scope():
            self.gamma = self.params.get('gamma', shape=shape, init='ones')
            self.beta = self.params.get('beta', shape=shape, init='zeros')
            self.moving_mean = self.params.get(
                'moving_mean', shape=shape, init='zeros', grad_req='null', differentiable=False
            )
            self.moving_var = self.params.get(
                'moving_var', shape=shape, init=moving_var_initializer, grad_req='null', differentiable=False
            )
            self.act = None if activation is None else nn.Activation(look_up('activation', activation, ACTIVATIONS))

    @property
    def compiles(self) -> bool:
        """Whether hybridize() can compile this layer into a graph: not on a GPU, and not in float16."""
        devices = self.gamma.list_ctx() if self.gamma._data is not None else []
        return (
            self.fn is fused_batch_norm
            and numpy.dtype(self.gamma.dtype) != numpy.float16
            and all(device.device_type != 'gpu' for device in devices)
            and choose()[0] == 'native'
        )

    def hybrid_forward(self, F: Any, X: Any, gamma: Any, beta: Any, moving_mean: Any, moving_var: Any) -> Any:
        """Return the symbol of Y. Gluon calls this once per graph; without a graph, `forward` computes Y."""
        Y = trace(X, gamma, beta, moving_mean, moving_var, self.eps, self.momentum, self._sigmoid)
        return Y if self._sigmoid else self._activate(Y)

    def forward(self, X: NDArray) -> NDArray:
        if (self._active or isinstance(X, Symbol)) and self.compiles:
            if not isinstance(X, Symbol):
                self._check(X)
            traced: NDArray = super().forward(X)
            return traced
        if not isinstance(X, NDArray):
            self._check(X)
        device = X.context
        gamma, beta = self.gamma.data(device), self.beta.data(device)
        for statistic in (self.moving_mean, self.moving_var):
            if device not in statistic.list_ctx():
                statistic.reset_ctx(device)
        moving_mean, moving_var = self.moving_mean.data(device), self.moving_var.data(device)
        if self.fn is fused_batch_norm:
            if 'add' in (self.gamma.grad_req, self.beta.grad_req):
                gamma, beta = view_of_variable(gamma), view_of_variable(beta)
            arrays = X, gamma, beta, moving_mean, moving_var
            Y = fused_in_place(device, arrays, self.eps, self.momentum, self._sigmoid)
            if Y is not None:
                return Y if self._sigmoid else self._activate(Y)
        self._check(X)
        Y, *new = self.fn(X, gamma, beta, moving_mean, moving_var, self.eps, self.momentum)
        for statistic, old, array in zip((self.moving_mean, self.moving_var), (moving_mean, moving_var), new):
            if array is not old:
                self._store(statistic, old, array)
        activated: NDArray = self._activate(Y)
        return activated

    def _activate(self, Y: Any) -> Any:
        return Y if self.act is None else self.act(Y)

    @staticmethod
    def _store(statistic: Parameter, old: NDArray, array: NDArray) -> None:
        if array.shape != old.shape:
            raise InputError(
                f'must return statistics of shape {old.shape}, like those it was given, got {array.shape}; '
                'keep the reduced axes: mean(axis, keepdims=True)',
                'fn',
            )
        # Replaces the old array, as in the chapter: copying into it would cost an operator per step.
        # Detached, whatever fn returned: bookkeeping is not part of the gradient.
        statistic.list_data()[statistic.list_ctx().index(old.context)] = array.detach()

    def _check(self, X: NDArray) -> None:
        if isinstance(X, Symbol):
            raise InputError(
                'must be an MXNet array, got a Symbol; BatchNorm cannot be traced into a graph: '
                'put it in an nn.Sequential, whose hybridize() compiles the layers around it. '
                'Only fn=fused_batch_norm can be traced, on its native path, in float32 or float64',
                'X',
            )
        check_array(X)
        shape = X.shape
        if len(shape) != self.num_dims:
            raise InputError(
                f'must have {self.num_dims} axes, as num_dims={self.num_dims} says, got {shape}; '
                'num_dims is 2 after a dense layer, 4 after a convolution',
                'X',
            )
        if shape[1] != self.num_features:
            raise InputError(
                f'must have {self.num_features} channels (axis 1), as num_features={self.num_features} '
                f'says, got {shape}; set num_features={shape[1]}, or check the layer before',
                'X',
            )

    def __repr__(self) -> str:
        name = getattr(self.fn, '__name__', repr(self.fn))
        activation = '' if self.act is None else f', activation={self.act._act_type!r}'
        return (
            f'BatchNorm({self.num_features}, num_dims={self.num_dims}, fn={name}, '
            f'eps={self.eps}, momentum={self.momentum}{activation})'
        )
