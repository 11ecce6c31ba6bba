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
from mxnet import autograd, nd, npx

from ..result import StudentError
from .exceptions import as_student_error, place_of

MAX_PRINTED_LINES = 10

T = TypeVar('T')


@contextlib.contextmanager
def during(action: str) -> Iterator[None]:
    """Put `action`, such as 'with X on cpu(1), ', into the message of what the student's code raises in the block."""
    try:
        yield
    except Exception as error:  # a student's code raises anything
        vars(error)['during'] = action
        raise


class TimeLimitedRunner:
    """Runs pieces of a student's code, for at most `seconds` in total, as `_Clock` counts them.

    They run in another thread. MXNet keeps its modes (recording, training, the front) per
    thread, so none leaks out, and a call that hangs inside native code can be left behind,
    where no signal could interrupt it. A fork would not survive MXNet's own threads, and a
    new process cannot import a function from a notebook's cell.
    Only a separate process could catch `os._exit` and the like.
    """

    def __init__(self, code: Any, seconds: float) -> None:
        self.left, self.timed_out, self._limit = seconds, False, seconds
        self._printed: List[str] = []
        members = [code, *vars(code).values()] if isinstance(code, type) else [code]
        files = (member.__code__.co_filename for member in members if hasattr(member, '__code__'))
        self._file: Optional[str] = next(files, None)

    @property
    def printed(self) -> str:
        """What the code has printed, cut after a few lines."""
        rest = len(self._printed) - MAX_PRINTED_LINES
        return ''.join(self._printed[:MAX_PRINTED_LINES] + ([f'... and {rest:,} more lines'] if rest > 0 else []))

    def run(self, task: Callable[[], T]) -> T:
        """The value of task(). Raises: StudentError for whatever went wrong in it."""
        if self.timed_out:
            raise StudentError('TooSlow', 'not tried: the time was used up before')
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
        with _random_state_kept(), _exit_raises(), contextlib.redirect_stdout(output), warnings.catch_warnings():
            # NumPy before 1.24 warns where it does not know an array of mx.nd, and later versions raise
            warnings.filterwarnings('error', 'Creating an ndarray from nested')
            worker.tasks.put((work, done))
            try:
                while not (self.timed_out or done.wait(max(self.left - clock.read(), 0.01))):
                    self.timed_out = clock.read() >= self.left
            except BaseException:  # the reader's own Ctrl-C
                worker.stop()
                raise
            where = self._current_line(worker) if self.timed_out else ''
            stopped = not self.timed_out or worker.stop()
        self.left -= clock.read()
        self._printed += output.getvalue().splitlines(True)
        if self.timed_out:
            raise StudentError(
                'TooSlow',
                f'no answer within {self._limit:g} seconds{where}'
                + ('' if stopped else '; it cannot be stopped and still runs: restart the kernel'),
            )
        if errors:
            raise as_student_error(errors[0], self._file)
        return values[0]

    def _current_line(self, worker: _Worker) -> str:
        """Where in the student's own file the thread is just now."""
        frame = sys._current_frames().get(worker.ident or 0)
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return place_of(frame.f_code, frame.f_lineno) if frame is not None else ''


class _Stop(BaseException):
    """Raised inside code that has run out of time."""


class _Worker(threading.Thread):
    """The thread that runs the code: one for all checks, since MXNet keeps 5 MB for every thread that ever used it."""

    current: ClassVar[Optional[_Worker]] = None

    def __init__(self) -> None:
        super().__init__(daemon=True, name='gluon_bn.check')
        self.tasks: queue.SimpleQueue[Tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self.stopping, self.finished = False, False
        self.start()

    @classmethod
    def get(cls) -> _Worker:
        if cls.current is None or cls.current.stopping or not cls.current.is_alive():
            cls.current = cls()
        return cls.current

    def run(self) -> None:
        try:
            while not self.stopping:
                task, done = self.tasks.get()
                task()
                done.set()
        except _Stop:  # it came after the task's end
            pass
        self.finished = True

    def stop(self) -> bool:
        """Raise inside the thread until it ends; False if it does not, as in native code or under a bare `except:`."""
        self.stopping = True
        for _ in range(5):
            if not self.finished:  # while it ends, Python would print what is raised
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident or 0), ctypes.py_object(_Stop))
            self.join(0.1)
            if not self.is_alive():
                return True
        return self.finished


@contextlib.contextmanager
def autograd_refused() -> Iterator[None]:
    """Refuse autograd to the checked code, which should not copy from it; other threads may use it."""

    def refused(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if isinstance(threading.current_thread(), _Worker):
                raise StudentError('UsesAutograd', 'the code asks autograd for the gradient')
            return method(*args, **kwargs)

        return call

    with contextlib.ExitStack() as patches:
        # mx.np's arrays inherit NDArray's method
        for owner, name in ((autograd, 'backward'), (autograd, 'grad'), (nd.NDArray, 'backward')):
            patches.enter_context(mock.patch.object(owner, name, refused(getattr(owner, name))))
        yield


class _Clock:
    """Seconds since its start: wall time, of which a third counts while the processors work for others.

    So code on a busy machine is not taken for code that hangs, and code that waits forever still ends.
    """

    def __init__(self) -> None:
        self.wall, self.processor = time.monotonic(), time.process_time()

    def read(self) -> float:
        wall = time.monotonic() - self.wall
        return min(wall, max(2 * (time.process_time() - self.processor), wall / 3))


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Restore the state of Python's and NumPy's random numbers; MXNet's cannot be read."""
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
    with contextlib.ExitStack() as patches:
        if hasattr(shell, 'ask_exit'):
            patches.enter_context(mock.patch.object(type(shell), 'ask_exit', lambda self: sys.exit()))
        yield
