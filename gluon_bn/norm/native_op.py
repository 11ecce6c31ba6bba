"""The compiled operator, on arrays and as part of a graph. `native.load()` must have loaded it."""

from __future__ import annotations

import functools
import itertools
import math
from threading import get_ident
from typing import Any, Dict, Tuple

from mxnet import autograd, nd, np, sym
from mxnet.ndarray import NDArray

SMALL = 2**16  # values of an X whose time is mostly that of launching the operator
_traced = itertools.count()  # numbers the copies


def batch_norm_native(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """`batch_norm` by the compiled operator; X must be on the CPU, in float32 or float64.

    Source: the formulas at the top of native.cc.
    """
    gamma, beta = view_of_variable(gamma), view_of_variable(beta)
    mean, var = moving_mean.detach(), moving_var.detach()
    if not autograd.is_training():
        return batch_norm_in_place(X, gamma, beta, mean, var, eps, momentum), moving_mean, moving_var
    with autograd.pause():
        mean, var = mean.copy(), var.copy()
    return batch_norm_in_place(X, gamma, beta, mean, var, eps, momentum), mean.detach(), var.detach()


def batch_norm_in_place(
    X: NDArray,
    gamma: NDArray,
    beta: NDArray,
    moving_mean: NDArray,
    moving_var: NDArray,
    eps: float,
    momentum: float,
    sigmoid: bool = False,
) -> NDArray:
    """Like `batch_norm_native`, but return only Y, and in training update moving_mean and moving_var in place.

    sigmoid: return sigmoid(Y) instead.
    Gradients of gamma and beta are written, not added: with grad_req='add', pass them through `view_of_variable`.
    Raises: MXNetError for arrays that do not fit together, before anything is changed.
    """
    is_np, shape = isinstance(X, np.ndarray), X.shape
    if _is_small(shape):
        copied = _is_variable(X)
    else:
        X, copied = view_of_variable(X), False  # a view: a copy would take longer
    graph = _graph(is_np, copied, autograd.is_training(), sigmoid, float(eps), float(momentum), shape, get_ident())
    Y: NDArray = graph(X, gamma, beta, moving_mean, moving_var)
    return Y


def max_pool_native(X: NDArray) -> NDArray:
    """2 x 2 max pooling with stride 2 by the compiled operator. X: (m, c, h, w) on the CPU, h and w even."""
    Y: NDArray = nd.gluon_bn_max_pool(view_of_variable(X).as_nd_ndarray())
    return Y.as_np_ndarray() if isinstance(X, np.ndarray) else Y


def _is_small(shape: Tuple[int, ...]) -> bool:
    return math.prod(shape) <= SMALL


def _is_variable(array: NDArray) -> bool:
    """Return whether autograd is recording and the array has a gradient attached.

    Such an array must first pass through one of MXNet's own operators: MXNet tells these whether to write a gradient
    or to add to it (grad_req='add'), but not an extension's operator.
    """
    return autograd.is_recording() and array.grad is not None


def view_of_variable(array: NDArray) -> NDArray:
    """Return the array; if it is a variable (see `_is_variable`), a view of it."""
    return array.reshape(array.shape) if _is_variable(array) else array


@functools.lru_cache(maxsize=64)
def _graph(
    is_np: bool,
    copied: bool,
    training: bool,
    sigmoid: bool,
    eps: float,
    momentum: float,
    shape: Tuple[int, ...],
    thread: int,
) -> Any:
    """Return the operator with its attributes parsed: one per shape, because MXNet infers again for a new shape, and
    one per thread, because two threads must not run the same one.

    copied: pass a copy of X to the operator; see `_is_variable`.
    """
    X, *others = (sym.var(name) for name in ('X', 'gamma', 'beta', 'moving_mean', 'moving_var'))
    if copied:
        X = sym.identity(X)
    Y = sym.gluon_bn(X, *others, training=int(training), sigmoid=int(sigmoid), eps=eps, momentum=momentum)[0]
    # Planning the memory once saves a quarter of a small layer's time. The memory is kept: for each of the calls that
    # wait for their backward at the same time, one plan.
    return nd.CachedOp(Y.as_np_ndarray() if is_np else Y, [('static_alloc', _is_small(shape))])


def trace_max_pool(X: Any) -> Any:
    """Return the symbol of `max_pool_native`."""
    Y = sym.gluon_bn_max_pool(sym.identity(X.as_nd_ndarray(), attr=_own()))
    return Y.as_np_ndarray() if isinstance(X, sym.np._Symbol) else Y


def _own() -> Dict[str, str]:
    """Return an attribute that keeps MXNet from merging this copy with other copies of the same array."""
    return {'__of__': str(next(_traced))}


def trace(
    X: Any, gamma: Any, beta: Any, moving_mean: Any, moving_var: Any, eps: float, momentum: float, sigmoid: bool = False
) -> Any:
    """Return the symbol of `batch_norm_in_place`, for whichever mode the graph runs in, training or prediction."""
    is_np = isinstance(X, sym.np._Symbol)
    if is_np:
        X, gamma, beta, moving_mean, moving_var = (
            symbol.as_nd_ndarray() for symbol in (X, gamma, beta, moving_mean, moving_var)
        )
    # See _is_variable. A compiled graph also adds gradients if many operators read an array, so each needs its own
    # copies; the attribute keeps MXNet from merging them. If nothing else reads the array, a copy takes no time.
    own = _own()
    X, gamma, beta = (sym.identity(symbol, attr=own) for symbol in (X, gamma, beta))
    # MXNet does not tell an extension's operator the mode either. Its dropout turns 1 into 0 or 2 in training, and
    # leaves 1 in prediction. This draws a random number, so dropout elsewhere in the net gets other masks than eagerly.
    mode = sym.Dropout(sym.ones(1), p=0.5, name='mode')
    constants = dict(eps=eps, momentum=momentum, sigmoid=int(sigmoid))
    Y = sym.gluon_bn(X, gamma, beta, moving_mean, moving_var, mode, **constants, name='fwd')[0]
    return Y.as_np_ndarray() if is_np else Y
