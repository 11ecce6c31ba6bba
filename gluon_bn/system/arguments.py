"""Checks of arguments, used by every part of the package."""

from __future__ import annotations

import operator
from typing import Any, Dict, Optional

from ..errors import InputError


def is_whole(value: Any, least: int = 1, most: Optional[int] = None) -> bool:
    """Return whether value is a whole number within these bounds, of any integral type except bool."""
    if type(value).__name__ in ('bool', 'bool_'):  # Python's and NumPy's, which operator.index accepts
        return False
    try:
        number = operator.index(value)
    except TypeError:
        return False
    return least <= number and (most is None or number <= most)


def check_count(name: str, value: Any, most: Optional[int] = None) -> int:
    """Return value as an int. Raises: InputError unless it is a whole number from 1 to `most`."""
    if not is_whole(value, 1, most):
        bounds = f'from 1 to {most:,}' if most else 'of at least 1'
        raise InputError(f'must be a whole number {bounds}, got {value!r}', name)
    return operator.index(value)


def look_up(name: str, key: Any, table: Dict[str, Any], otherwise: str = '') -> Any:
    """Return the entry of a table. Raises: InputError, which lists the keys, for an unknown key."""
    if not isinstance(key, str) or key not in table:
        raise InputError(f'must be one of {", ".join(map(repr, table))}{otherwise}; got {key!r}', name)
    return table[key]
