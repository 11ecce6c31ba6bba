"""What a command shares with the shell that runs it: standard output and error, warnings, and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from typing import Any, Iterator, Set, Type, Union

from ..errors import OutputError


def open_standard_files() -> None:
    """Redirect closed standard streams (2>&-) to /dev/null: a later file or pipe would reuse their descriptors."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < 3:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))


class _Output:
    """Standard output that ignores a closed reader, and raises OutputError for any other error."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.gone = stream, False

    def write(self, text: str) -> int:
        try:
            return self._unless_gone(self.stream.write, text) or 0
        except UnicodeEncodeError:  # the terminal's encoding lacks a character, for example in a folder's name
            encoding = self.stream.encoding
            return self._unless_gone(self.stream.write, text.encode(encoding, 'backslashreplace').decode(encoding)) or 0

    def flush(self) -> None:
        self._unless_gone(self.stream.flush)

    def _unless_gone(self, method: Any, *arguments: Any) -> Any:
        try:
            return None if self.gone else method(*arguments)
        except OSError as error:
            self.gone = True
            with contextlib.suppress(OSError, ValueError):  # flushing the rest of the buffer at exit would fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not isinstance(error, BrokenPipeError):
                raise OutputError(f'standard output cannot be written: {error.strerror or error}') from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def output() -> Iterator[None]:
    """Send standard output through `_Output`."""
    stream: Any = _Output(sys.stdout)
    with contextlib.redirect_stdout(stream):
        yield
        stream.flush()


@contextlib.contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Show the package's warnings in the format of its errors, without the line of code, and only once."""
    shown: Set[str] = set()

    def show(message: Union[Warning, str], category: Type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning):
            show_with_its_place(message, category, *where, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            print('gluon_bn:', message, file=sys.stderr)

    with warnings.catch_warnings():
        show_with_its_place, warnings.showwarning = warnings.showwarning, show
        yield


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread can set a handler
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
