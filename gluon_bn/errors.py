"""The errors of this package. Each message says what was expected, what came and what to do."""

from __future__ import annotations

from typing import Mapping, Optional


class GluonBnError(Exception):
    """The base class of all errors that this package raises on purpose."""

    def message(self, options: Mapping[str, str]) -> str:
        """The text with other names for the arguments: options maps an argument to what the reader calls it."""
        return str(self)


class InputError(GluonBnError, ValueError):
    """Bad input.

    argument: the name of the argument that is wrong; the message then begins with it.
    text: the message without that name, so that the command line can put its option's name there.
    """

    def __init__(self, text: str, argument: Optional[str] = None) -> None:
        super().__init__(text if argument is None else f'{argument} {text}')
        self.text, self.argument = text, argument

    def message(self, options: Mapping[str, str]) -> str:
        return str(self) if self.argument is None else f'{options.get(self.argument, self.argument)} {self.text}'


class OutputError(GluonBnError, OSError):
    """A result cannot be written."""


class LoadError(GluonBnError, ImportError):
    """A package that is needed, MXNet for one, is missing or does not work here."""
