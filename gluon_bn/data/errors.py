"""The errors of the search for Fashion-MNIST; each message says what to do."""

from __future__ import annotations

from typing import Any, List, Mapping, Tuple

from ..errors import GluonBnError


class DataUnavailable(GluonBnError, OSError):
    """Fashion-MNIST is unavailable, or a folder that the user named holds a wrong file.

    source: the place that was searched, with which the message then begins; 'root' is an argument.
    """

    def __init__(self, text: str, source: str = '') -> None:
        super().__init__(source + text)
        self.text, self.source = text, source

    def message(self, options: Mapping[str, str]) -> str:
        return options.get(self.source, self.source) + self.text


class DataMissing(DataUnavailable):
    """No place has the files. tried: (source, what was found there) for each place."""

    def __init__(self, missing: List[str], tried: List[Tuple[str, str]], package: str) -> None:
        self.missing, self.tried, self.package = missing, tried, package
        super().__init__(self.message({}))

    def __reduce__(self) -> Tuple[Any, ...]:  # by default, unpickling would pass only the message to DataMissing
        return DataMissing, (self.missing, self.tried, self.package)

    def message(self, options: Mapping[str, str]) -> str:
        return (
            f'Fashion-MNIST is incomplete: could not find {", ".join(self.missing)}. Tried:\n'
            + ''.join(f'  - {options.get(source, source)}{text}\n' for source, text in self.tried)
            + 'What to do:\n'
            f'  - on Debian or Ubuntu: sudo apt-get update && sudo apt-get install {self.package}\n'
            '  - copy the four .gz files from a machine that has them into a folder, and set GLUON_BN_DATA to it\n'
            '  - behind a proxy: set http_proxy and https_proxy, and try again'
        )


class DataWarning(UserWarning):
    """A place that the user did not name holds a wrong file or cannot be read; the search continues."""
