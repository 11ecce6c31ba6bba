"""The errors of this package. Each message says what was expected, what was given and what to do."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator, Mapping, Optional


class GluonBnError(Exception):
    """The base class of all errors that this package raises on purpose."""

    def message(self, options: Mapping[str, str]) -> str:
        """Return the text with other names for the arguments: options maps an argument to the user's name for it."""
        return str(self)


class InputError(GluonBnError, ValueError):
    """Bad input.

    argument: the name of the wrong argument, with which the message begins.
    text: the message without that name, so that the command line can substitute its option's name.
    """

    def __init__(self, text: str, argument: Optional[str] = None) -> None:
        super().__init__(text if argument is None else f'{argument} {text}')
        self.text, self.argument = text, argument

    def message(self, options: Mapping[str, str]) -> str:
        return str(self) if self.argument is None else f'{options.get(self.argument, self.argument)} {self.text}'


class OutputError(GluonBnError, OSError):
    """A result cannot be written."""


class WorkersError(GluonBnError, RuntimeError):
    """Workers that train together cannot start or continue."""


class LoadError(GluonBnError, ImportError):
    """A required package, such as MXNet, is missing or does not work."""


@contextlib.contextmanager
def explained(explain: Callable[[str], GluonBnError]) -> Iterator[None]:
    """Turn an OSError into the error that `explain` makes from its reason; an error of this package stays unchanged."""
    try:
        yield
    except OSError as error:
        if isinstance(error, GluonBnError):
            raise
        raise explain(error.strerror or str(error)) from error
