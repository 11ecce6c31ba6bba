"""Exercises that grade themselves: a check names the mistake, shows it in numbers, and asks a question that helps.

    from gluon_bn import check
    check.batch_norm(my_batch_norm)     # a function
    check.layer(MyBatchNorm)            # a class
    check.gradient(my_backward)         # a backward pass by hand

Each returns a `Result`, which is shown as a table and has .ok, .mistakes, .notes and .assert_ok().

Three names are notes, not mistakes: StatsKeptInGraph, StatsNotSaved and VarInitZero. They change no output
of a training step, and the chapter's own function and layer have them. They are reported all the same, and an
exercise on them can assert `'StatsNotSaved' not in result.notes`.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Callable, ContextManager, Dict, Iterable, List, Mapping, Optional, Tuple

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
from mxnet.gluon import Block

from . import layers
from .gradients import PROPERTIES as GRADIENT
from .gradients import judge_gradient
from .properties import Properties
from .result import Finding, Result, Row
from .running.student_code import TimeLimitedRunner
from .running.student_layer import observe_layer
from .running.trials import observe_function

SECONDS = 4  # for the student's code; the check itself takes less than one

Judge = Callable[[Properties, int], List[Finding]]
LayerJudge = Callable[[Any, Any], List[Finding]]

# key: (what the table says, the judge, the ranks it is tried on)
MATHS: Dict[str, Tuple[str, Judge, Tuple[int, ...]]] = {
    'dense': ('dense layer: Y in training', Properties.training, (2,)),
    'convolution': ('convolution: Y in training', Properties.training, (4,)),
    'statistics': ('moving averages after a training batch', Properties.averages, (2, 4)),
    'prediction': ('Y in prediction', Properties.prediction, (2, 4)),
    'unmoved': ('a prediction leaves the moving averages alone', Properties.unmoved, (2, 4)),
    'modes': ('autograd tells training from prediction', Properties.modes, (2, 4)),
    'gradients': ('the gradient flows through mean and variance', Properties.gradients, (2, 4)),
    'inputs': ('the input arrays are left unchanged', Properties.inputs, (2, 4)),
    'rounding': ('an X far from 0 does no harm', Properties.rounding, (2, 4)),
    'graph': ('the moving averages are cut from the graph', Properties.graph, (2, 4)),
}
# key: (what the table says, the judge, a resource that it needs: opened outside the time limit, so always closed)
LAYER: Dict[str, Tuple[str, LayerJudge, Callable[[], ContextManager[Any]]]] = {
    'parameters': ('gamma and beta are learned, the averages are not', layers.parameters, nullcontext),
    'start': ('starting values', layers.start, nullcontext),
    'saving': ('saved and loaded whole', layers.saving, TemporaryDirectory),
    'device': ('follows X to another device', layers.device, layers.copies),
}


def batch_norm(fn: Callable[..., Any], only: Optional[Iterable[str]] = None, seconds: float = SECONDS) -> Result:
    """Check a function fn(X, gamma, beta, moving_mean, moving_var, eps, momentum) -> (Y, moving_mean, moving_var).

    Arrays are of the front in use: mx.np after npx.set_np(), else mx.nd; X is (m, d) or (m, c, h, w), the others
    (1, d) or (1, c, 1, 1). fn is called by position, in all of autograd's modes.

    only: the keys of `check.MATHS` to try, such as ('dense', 'prediction'); None tries all.
    seconds: the time limit for all calls of fn together; waiting counts a third.
    Returns: a Result, which also reports what fn raises or prints, and a call that does not end.
    Raises: ValueError if fn is not a function, or a key is unknown.
    """
    chosen = _chosen(fn, only, MATHS)
    runner = TimeLimitedRunner(fn, seconds)
    properties = Properties(partial(observe_function, fn), runner)
    return Result(_title(fn), _maths_rows(properties, chosen), runner.printed)


def layer(
    cls: Callable[..., Any],
    only: Optional[Iterable[str]] = None,
    seconds: float = SECONDS,
    eps: float = 1e-5,
    momentum: float = 0.9,
) -> Result:
    """Check a class cls(num_features, num_dims) that makes a gluon.nn.Block.

    Its parameters are found by name, as attributes or in collect_params(): gamma, beta, moving_mean and moving_var
    (or running_...); the last two may be arrays or Parameters. They are read after the backward pass.

    only: the keys of `check.MATHS` and `check.LAYER` to try; None tries all.
    seconds: the time limit for all calls together; waiting counts a third.
    eps, momentum: the constants that the layer should use; momentum weighs the old value.
    Returns: a Result. Raises: ValueError if cls is not a class (a layer object is not), or a key is unknown.
    """
    chosen = _chosen(cls, only, {**MATHS, **LAYER})
    runner = TimeLimitedRunner(cls, seconds)
    properties = Properties(partial(observe_layer, cls), runner, eps, momentum)
    rows = []
    for key, (words, judge, needed) in LAYER.items():
        if key in chosen:
            with needed() as resource:
                rows.append(properties.row(words, partial(runner.run, partial(judge, cls, resource))))
    return Result(_title(cls), rows + _maths_rows(properties, chosen), runner.printed)


def gradient(fn: Callable[..., Any], only: Optional[Iterable[str]] = None, seconds: float = SECONDS) -> Result:
    """Check a backward pass by hand, fn(dY, X, gamma, eps) -> (dX, dgamma, dbeta), in training.

    dY is the gradient of the loss with respect to Y = gamma * (X - mean) / sqrt(var + eps) + beta, of X's shape.
    Shapes: X, dX (m, d) or (m, c, h, w); gamma, dgamma, dbeta (1, d) or (1, c, 1, 1).
    Arrays are of the front in use; what is returned may also be NumPy's.

    only: the keys of `check.GRADIENT` to try; None tries all.
    seconds: the time limit for all calls of fn together; waiting counts a third.
    Returns: a Result. Raises: ValueError if fn is not a function, or a key is unknown.
    """
    chosen = _chosen(fn, only, GRADIENT)
    runner = TimeLimitedRunner(fn, seconds)
    rows = judge_gradient(fn, runner, [key for key in GRADIENT if key in chosen])
    return Result(_title(fn), rows, runner.printed)


def _maths_rows(properties: Properties, chosen: List[str]) -> List[Row]:
    return [
        properties.row(words, *[partial(judge, properties, rank) for rank in ranks])
        for key, (words, judge, ranks) in MATHS.items()
        if key in chosen
    ]


def _chosen(code: Any, only: Optional[Iterable[str]], keys: Mapping[str, Any]) -> List[str]:
    """The keys to try. Raises: ValueError for code that is not a function or class, an unknown key, or none."""
    if not callable(code) or isinstance(code, Block):  # a layer can be called, too, but it is not a class
        raise ValueError(
            f'the code to check must be a function or a class, got {code!r}; pass it by name, without parentheses'
        )
    chosen = list(keys) if only is None else [only] if isinstance(only, str) else list(only)
    unknown = [key for key in chosen if key not in keys]
    if unknown or not chosen or isinstance(only, str):
        raise ValueError(
            f'only must be a tuple of {", ".join(keys)}, got {unknown or chosen}; '
            f'for instance only=("{next(iter(keys))}",)'
        )
    return chosen


def _title(code: Any) -> str:
    return getattr(code, '__name__', type(code).__name__)
