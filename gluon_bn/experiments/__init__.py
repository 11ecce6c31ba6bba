"""The chapter's claims as experiments: functions that measure, for the notebooks to tell and the tests to assert."""

from __future__ import annotations

from typing import Any, Union

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
import numpy  # noqa: F401  for the alias

Array = Union['numpy.ndarray[Any, Any]']  # in quotes, as Python 3.8 cannot subscript ndarray
