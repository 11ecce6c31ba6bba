"""Exercises that grade themselves: a check names the mistake, shows it by numbers, and asks the question that helps.

    from gluon_bn import check
    check.batch_norm(my_batch_norm)     # a function
    check.layer(MyBatchNorm)            # a class
    check.gradient(my_backward)         # a backward pass by hand

Each returns a `Result`: shown as a table, with .ok, .mistakes, .notes and .assert_ok().

Three names are notes, not mistakes: StatsKeptInGraph, StatsNotSaved and VarInitZero. They change no output
of a training step, and the chapter's own function and layer have them; refusing them would refuse the chapter.
They are named all the same, and an exercise on them can ask `'StatsNotSaved' not in result.notes`.
"""
from __future__ import annotations

import functools
from contextlib import nullcontext
from tempfile import TemporaryDirectory
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Mapping, Optional, Tuple

from ..system import before_mxnet  # noqa: F401  first: see there

# isort: split
from mxnet.gluon import Block

from . import layer_probes
from .gradient_probes import PROPERTIES as GRADIENT
from .gradient_probes import judge_gradient
from .guard import Guard
from .observe import observe_function
from .observe_layer import observe_layer
from .properties import Properties
from .result import Finding, Result, Row

SECONDS = 4  # for the student's code; the check itself takes less than one

# key: (what the table says, the judge of Properties, the ranks it is tried on)
MATHS = {
    'dense': ('dense layer: Y in training', 'training', (2,)),
    'convolution': ('convolution: Y in training', 'training', (4,)),
    'statistics': ('moving averages after a training batch', 'averages', (2, 4)),
    'prediction': ('Y in prediction', 'prediction', (2, 4)),
    'unmoved': ('a prediction leaves the moving averages alone', 'unmoved', (2, 4)),
    'modes': ('autograd tells training from prediction', 'modes', (2, 4)),
    'gradients': ('the gradient flows through mean and variance', 'gradients', (2, 4)),
    'inputs': ('the arrays that came in are left alone', 'inputs', (2, 4)),
    'rounding': ('an X far from 0 does no harm', 'rounding', (2, 4)),
    'graph': ('the moving averages are cut from the graph', 'graph', (2, 4)),
}
# key: (what the table says, the judge, what it needs: entered outside the time limit, so that it is always left)
LAYER: Dict[str, Tuple[str, Callable[[Any, Any], List[Finding]], Callable[[], ContextManager[Any]]]] = {
    'parameters': ('gamma and beta are learned, the averages are not', layer_probes.parameters, nullcontext),
    'start': ('starting values', layer_probes.start, nullcontext),
    'saving': ('saved and loaded whole', layer_probes.saving, TemporaryDirectory),
    'device': ('follows X to another device', layer_probes.device, layer_probes.copies),
}


def batch_norm(fn: Callable[..., Any], only: Optional[Iterable[str]] = None, seconds: float = SECONDS) -> Result:
    """Check a function fn(X, gamma, beta, moving_mean, moving_var, eps, momentum) -> (Y, moving_mean, moving_var).

    Arrays are of the front in use: mx.np after npx.set_np(), else mx.nd; X is (m, d) or (m, c, h, w), the others
    (1, d) or (1, c, 1, 1). fn is called by position, in all of autograd's modes.

    only: the keys of `check.MATHS` to try, such as ('dense', 'prediction'); None tries all.
    seconds: the time limit for all calls of fn together; waiting counts a third.
    Returns: a Result. What fn raises, prints or never finishes is in it.
    Raises: ValueError for an fn that is no function, or an unknown key.
    """
    chosen = _chosen(fn, only, MATHS)
    guard = Guard(fn, seconds)
    probes = Properties(lambda trial, mode: observe_function(fn, trial, mode), guard)
    return Result(_title(fn), _maths_rows(probes, chosen), guard.printed)


def layer(cls: Callable[..., Any], only: Optional[Iterable[str]] = None, seconds: float = SECONDS,
          eps: float = 1e-5, momentum: float = 0.9) -> Result:
    """Check a class cls(num_features, num_dims) that makes a gluon.nn.Block.

    Its parameters are found by name, as attributes or in collect_params(): gamma, beta, moving_mean and moving_var
    (or running_...); the last two may be arrays or Parameters. They are read after the backward pass.

    only: the keys of `check.MATHS` and `check.LAYER` to try; None tries all.
    seconds: the time limit for all calls together; waiting counts a third.
    eps, momentum: the constants that the layer should use; momentum weighs the old value.
    Returns: a Result. Raises: ValueError for a cls that is no class, as a layer is none, or an unknown key.
    """
    chosen = _chosen(cls, only, {**MATHS, **LAYER})
    guard = Guard(cls, seconds)
    probes = Properties(lambda trial, mode: observe_layer(cls, trial, mode), guard, eps, momentum)
    rows = []
    for key, (words, judge, needed) in LAYER.items():
        if key in chosen:
            with needed() as resource:
                rows.append(probes.row(words, guard.limited(functools.partial(judge, cls, resource))))
    rows += _maths_rows(probes, chosen)
    return Result(_title(cls), rows, guard.printed)


def gradient(fn: Callable[..., Any], only: Optional[Iterable[str]] = None, seconds: float = SECONDS) -> Result:
    """Check a backward pass by hand, fn(dY, X, gamma, eps) -> (dX, dgamma, dbeta), in training.

    dY is the gradient of the loss with respect to Y = gamma * (X - mean) / sqrt(var + eps) + beta, of X's shape.
    Shapes: X, dX (m, d) or (m, c, h, w); gamma, dgamma, dbeta (1, d) or (1, c, 1, 1).
    Arrays are of the front in use; what is returned may also be NumPy's.

    only: the keys of `check.GRADIENT` to try; None tries all.
    seconds: the time limit for all calls of fn together; waiting counts a third.
    Returns: a Result. Raises: ValueError for an fn that is no function, or an unknown key.
    """
    chosen = _chosen(fn, only, GRADIENT)
    guard = Guard(fn, seconds)
    rows = judge_gradient(fn, guard, [key for key in GRADIENT if key in chosen])
    return Result(_title(fn), rows, guard.printed)


def _maths_rows(probes: Properties, chosen: List[str]) -> List[Row]:
    rows = []
    for key, (words, judge, ranks) in MATHS.items():
        if key in chosen:
            rows.append(probes.row(words, *[functools.partial(getattr(probes, judge), rank) for rank in ranks]))
    return rows


def _chosen(code: Any, only: Optional[Iterable[str]], keys: Mapping[str, Any]) -> List[str]:
    """The keys to try. Raises: ValueError for code that is no function or class, an unknown key, or none."""
    if not callable(code) or isinstance(code, Block):  # a layer can be called, too, but it is no class
        raise ValueError(f'the code to check must be a function or a class, got {code!r}; '
                         'pass it by name, without parentheses')
    chosen = list(keys) if only is None else [only] if isinstance(only, str) else list(only)
    unknown = [key for key in chosen if key not in keys]
    if unknown or not chosen or isinstance(only, str):
        raise ValueError(f'only must be a tuple of {", ".join(keys)}, got {unknown or chosen}; '
                         f'for instance only=("{next(iter(keys))}",)')
    return chosen


def _title(code: Any) -> str:
    return getattr(code, '__name__', type(code).__name__)
