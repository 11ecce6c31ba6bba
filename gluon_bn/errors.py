"""The errors of this package. Each message says what was expected, what came and what to do."""
from __future__ import annotations

from typing import Optional


class GluonBnError(Exception):
    """The base class of all errors that this package raises on purpose."""


class InputError(GluonBnError, ValueError):
    """Bad input.

    argument: the name of the argument that is wrong; the message then begins with it.
    text: the message without that name, so that the command line can put its option's name there.
    """

    def __init__(self, text: str, argument: Optional[str] = None) -> None:
        super().__init__(text if argument is None else f'{argument} {text}')
        self.text, self.argument = text, argument
