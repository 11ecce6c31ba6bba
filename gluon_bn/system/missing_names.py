"""The names that MXNet 1.9.1 takes from NumPy and that later versions of NumPy no longer have.

`give_names` restores the missing ones. It runs before MXNet is imported: called by `before_mxnet`, and by the import
hook that set-up puts into .venv (tools/mxnet.pth). MXNet also needs `distutils`, which Python 3.12 removed and
setuptools provides.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, Callable, Dict, Tuple


def _removed(name: str) -> Callable[..., Any]:
    """Make a function that raises RuntimeError, as in NumPy 1.20 to 1.26; MXNet only re-exports these functions."""

    def raises(*_: Any, **__: Any) -> None:
        raise RuntimeError(f'NumPy 1.20 removed {name}; a replacement is in the package numpy_financial')

    return raises


# name: (the NumPy that removed it, a function that makes its replacement from NumPy)
NAMES: Dict[str, Tuple[str, Callable[[Any], Any]]] = {
    'mirr': ('2.0', lambda numpy: _removed('mirr')),
    'npv': ('2.0', lambda numpy: _removed('npv')),
    'pmt': ('2.0', lambda numpy: _removed('pmt')),
    'ppmt': ('2.0', lambda numpy: _removed('ppmt')),
    'pv': ('2.0', lambda numpy: _removed('pv')),
    'rate': ('2.0', lambda numpy: _removed('rate')),
    'bool': ('1.24', lambda numpy: bool),  # NumPy 2.0 has it again
    'int': ('1.24', lambda numpy: int),
    'PZERO': ('2.0', lambda numpy: 0.0),
    'NZERO': ('2.0', lambda numpy: -0.0),
    'PINF': ('2.0', lambda numpy: numpy.inf),
    'NINF': ('2.0', lambda numpy: -numpy.inf),
    'Inf': ('2.0', lambda numpy: numpy.inf),
    'NaN': ('2.0', lambda numpy: numpy.nan),
    'NAN': ('2.0', lambda numpy: numpy.nan),
    'round_': ('2.0', lambda numpy: numpy.round),
    'sometrue': ('2.0', lambda numpy: numpy.any),
    'alltrue': ('2.0', lambda numpy: numpy.all),
    'product': ('2.0', lambda numpy: numpy.prod),
    'msort': ('2.0', lambda numpy: lambda a: numpy.sort(a, axis=0)),
    'compat': ('2.0', lambda numpy: SimpleNamespace(basestring=str)),
    'in1d': ('2.4', lambda numpy: lambda ar1, *others, **options: numpy.isin(numpy.ravel(ar1), *others, **options)),
    'trapz': ('2.4', lambda numpy: numpy.trapezoid),
}


def give_names() -> None:
    """Add the missing names to NumPy. Does nothing up to CPython 3.11, which uses a NumPy that has them all."""
    if sys.version_info < (3, 12):
        return
    try:
        import numpy
    except ImportError:
        return  # MXNet will say so itself
    for name, (_, made_from) in NAMES.items():
        if name not in vars(numpy):  # hasattr would call NumPy's __getattr__, which warns about some names
            setattr(numpy, name, made_from(numpy))
