"""Running a student's code: what it raises, prints or never finishes becomes a result, not our stack trace."""
from __future__ import annotations

import contextlib
import ctypes
import io
import queue
import random
import sys
import threading
import time
import warnings
from typing import Any, Callable, ClassVar, Iterator, List, Optional, Tuple, TypeVar
from unittest import mock

import numpy
from mxnet import autograd, npx

from .raised import Trouble, place, trouble

LINES = 10  # that are kept of what the code prints

T = TypeVar('T')


class _Stop(BaseException):
    """Raised inside code that has run out of time."""


class _Worker(threading.Thread):
    """The thread that runs the code: one for all checks, since MXNet keeps 5 MB for every thread that ever used it."""

    current: ClassVar[Optional[_Worker]] = None

    def __init__(self) -> None:
        super().__init__(daemon=True, name='gluon_bn.check')
        self.tasks: queue.SimpleQueue[Tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self.retired, self.over = False, False
        self.start()

    @classmethod
    def get(cls) -> _Worker:
        if cls.current is None or cls.current.retired or not cls.current.is_alive():
            cls.current = cls()
        return cls.current

    def run(self) -> None:
        try:
            while not self.retired:
                task, done = self.tasks.get()
                task()
                done.set()
        except _Stop:  # it came after the task's end
            pass
        self.over = True

    def retire(self) -> bool:
        """Raise inside the thread until it ends; False if it does not, as in native code or under a bare `except:`."""
        self.retired = True
        for _ in range(5):
            if not self.over:  # while it ends, Python would print what is raised
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(_Stop))
            self.join(0.1)
            if not self.is_alive():
                return True
        return self.over


def is_checked() -> bool:
    """Whether the caller runs in code that is being checked."""
    return isinstance(threading.current_thread(), _Worker)


class _Clock:
    """Seconds since its start: those of the wall, of which a third counts while the processors work for others.

    So code on a busy machine is not taken for code that hangs; and what waits for ever ends after three times as long.
    """

    def __init__(self) -> None:
        self.wall, self.processor = time.monotonic(), time.process_time()

    def read(self) -> float:
        wall = time.monotonic() - self.wall
        return min(wall, max(2 * (time.process_time() - self.processor), wall / 3))


class Guard:
    """Runs pieces of a student's code, together for at most `seconds`, as `_Clock` counts them.

    They run in another thread. MXNet keeps its modes (recording, training, the front) per
    thread, so none leaks out, and a call that hangs inside native code can be left behind,
    where no signal could interrupt it. A fork would not survive MXNet's own threads, and a
    new process cannot import a function from a notebook's cell.
    `os._exit` and the like are out of reach here: they take a process of their own.
    """

    def __init__(self, code: Any, seconds: float) -> None:
        self.left, self.timed_out, self._limit = seconds, False, seconds
        self._printed: List[str] = []
        self._file = getattr(getattr(code, '__code__', None), 'co_filename', None) or _file_of_class(code)

    @property
    def printed(self) -> str:
        """What the code has printed, cut after a few lines."""
        rest = len(self._printed) - LINES
        return ''.join(self._printed[:LINES] + ([f'... and {rest:,} lines more'] if rest > 0 else []))

    def limited(self, task: Callable[[], T]) -> Callable[[], T]:
        """The task, which runs in here when it is called."""
        return lambda: self.run(task)

    def run(self, task: Callable[[], T]) -> T:
        """The value of task(). Raises: Trouble for whatever went wrong in it."""
        if self.timed_out:
            raise Trouble('TooSlow', 'not tried: the time was used up before')
        values: List[T] = []
        errors: List[BaseException] = []
        is_np, is_shape = npx.is_np_array(), npx.is_np_shape()

        def work() -> None:
            autograd.set_recording(False)
            autograd.set_training(False)
            npx.set_np(shape=is_shape, array=is_np)
            try:
                values.append(task())
            except BaseException as error:  # also SystemExit, and a KeyboardInterrupt that the code raised itself
                errors.append(error)

        worker, done, output, clock = _Worker.get(), threading.Event(), io.StringIO(), _Clock()
        with _generators_kept(), _exit_raises(), contextlib.redirect_stdout(output), warnings.catch_warnings():
            # NumPy before 1.24 warns where it does not know an array of mx.nd, and later versions raise
            warnings.filterwarnings('error', 'Creating an ndarray from nested')
            worker.tasks.put((work, done))
            try:
                while not (self.timed_out or done.wait(max(self.left - clock.read(), 0.01))):
                    self.timed_out = clock.read() >= self.left
            except BaseException:  # the reader's own Ctrl-C
                worker.retire()
                raise
            where = self._line(worker) if self.timed_out else ''
            stopped = not self.timed_out or worker.retire()
        self.left -= clock.read()
        self._printed += output.getvalue().splitlines(True)
        if self.timed_out:
            raise Trouble('TooSlow', f'no answer within {self._limit:g} seconds{where}'
                          + ('' if stopped else '; it cannot be stopped and still runs: restart the kernel'))
        if errors:
            raise trouble(errors[0], self._file)
        return values[0]

    def _line(self, worker: _Worker) -> str:
        """Where in the student's own file the thread is just now."""
        frame = sys._current_frames().get(worker.ident or 0)
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return place(frame.f_code, frame.f_lineno) if frame is not None else ''


def _file_of_class(code: Any) -> Optional[str]:
    for member in vars(code).values() if isinstance(code, type) else ():
        if hasattr(member, '__code__'):
            return str(member.__code__.co_filename)
    return None


@contextlib.contextmanager
def _generators_kept() -> Iterator[None]:
    """Python's and NumPy's random numbers go on as if the code had not run; MXNet's cannot be read back."""
    states = random.getstate(), numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])


@contextlib.contextmanager
def _exit_raises() -> Iterator[None]:
    """In Jupyter exit() asks the kernel to end after the cell; here it raises SystemExit, as everywhere else."""
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, 'ask_exit'):
        yield
        return
    with mock.patch.object(type(shell), 'ask_exit', lambda self: sys.exit()):
        yield
