"""Running a student's code: what it raises, prints or never finishes becomes a result, not our stack trace."""
from __future__ import annotations

import contextlib
import ctypes
import io
import linecache
import queue
import random
import sys
import threading
import time
import traceback
from unittest import mock

import numpy
from mxnet import autograd, npx

# what MXNet says of X -= mean, where X is a variable of the gradient
IN_PLACE = ('already in a computational graph', 'Inplace operations')
LINES = 10  # that are kept of what the code prints


class Trouble(Exception):
    """A mistake of the code under test that ends a trial: its name, and what was seen."""

    def __init__(self, name, text):
        super().__init__(f'{name}: {text}')
        self.name, self.text = name, text


class _Stop(BaseException):
    """Raised inside code that has run out of time."""


class _Worker(threading.Thread):
    """The thread that runs the code: one for all checks, since MXNet keeps 5 MB for every thread that ever used it."""

    current = None

    def __init__(self):
        super().__init__(daemon=True, name='gluon_bn.check')
        self.tasks, self.retired = queue.SimpleQueue(), False
        self.start()

    @classmethod
    def get(cls):
        if cls.current is None or cls.current.retired or not cls.current.is_alive():
            cls.current = cls()
        return cls.current

    def run(self):
        try:
            while not self.retired:
                task, done = self.tasks.get()
                task()
                done.set()
        except _Stop:  # it came after the task's end
            pass

    def retire(self):
        """Raise inside the thread until it ends; False if it does not, as in native code or under a bare `except:`."""
        self.retired = True
        for _ in range(5):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(_Stop))
            self.join(0.1)
            if not self.is_alive():
                return True
        return False


class Guard:
    """Runs pieces of a student's code, together for at most `seconds`.

    They run in another thread. MXNet keeps its modes (recording, training, the front) per
    thread, so none leaks out, and a call that hangs inside native code can be left behind,
    where no signal could interrupt it. A fork would not survive MXNet's own threads, and a
    new process cannot import a function from a notebook's cell.
    `os._exit` and the like are out of reach here: they take a process of their own.
    """

    def __init__(self, code, seconds):
        self.left, self.printed, self.timed_out, self._limit = seconds, '', False, seconds
        self._file = getattr(getattr(code, '__code__', None), 'co_filename', None) or _file_of_class(code)

    def run(self, task):
        """The value of task(). Raises: Trouble for whatever went wrong in it."""
        if self.timed_out:
            raise Trouble('TooSlow', 'not tried: the time was used up before')
        outcome, is_np, is_shape = {}, npx.is_np_array(), npx.is_np_shape()

        def work():
            autograd.set_recording(False)
            autograd.set_training(False)
            npx.set_np(shape=is_shape, array=is_np)
            try:
                outcome['value'] = task()
            except BaseException as error:  # also SystemExit, and a KeyboardInterrupt that the code raised itself
                outcome['error'] = error

        worker, done, output, start = _Worker.get(), threading.Event(), io.StringIO(), time.monotonic()
        with _generators_kept(), _exit_raises(), contextlib.redirect_stdout(output):
            worker.tasks.put((work, done))
            try:
                self.timed_out = not done.wait(max(self.left, 0.01))
            except BaseException:  # the reader's own Ctrl-C
                worker.retire()
                raise
            stopped = not self.timed_out or worker.retire()
        self.left -= time.monotonic() - start
        self.printed = ''.join((self.printed + output.getvalue()).splitlines(True)[:LINES])
        if self.timed_out:
            raise Trouble('TooSlow', f'no answer within {self._limit:g} seconds'
                          + ('' if stopped else '; it cannot be stopped and still runs: restart the kernel'))
        if 'error' in outcome:
            raise self._trouble(outcome['error'])
        return outcome['value']

    def _trouble(self, error):
        if isinstance(error, Trouble):
            return error
        if isinstance(error, SystemExit):
            return Trouble('CallsExit', f'the code ends the whole program{self._line(error)}')
        lines = str(error).strip().splitlines() or ['']
        if len(lines) > 1 and 'Check failed' in lines[-1]:  # MXNet's own C++ position tells a student nothing
            lines[0] = lines[-1].split(': ', 3)[-1]
        text = lines[0] if len(lines[0]) < 300 else lines[0][:300] + '...'
        if any(words in str(error) for words in IN_PLACE):
            text = 'MXNet refuses to write into an array that takes a gradient'
            return Trouble('MutatesInput', text + self._line(error))
        during = getattr(error, 'during', '')
        name = 'WrongShape' if 'broadcast' in text else 'RaisesException'
        return Trouble(name, f'{during}{type(error).__name__}: {text}{self._line(error)}')

    def _line(self, error):
        """Where in the student's own file it happened: the innermost line of it."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename == self._file:
                source = linecache.getline(frame.filename, frame.lineno).strip()
                return f' (line {frame.lineno}' + (f': {source}' if source else '') + ')'
        return ''


def _file_of_class(code):
    for member in vars(code).values() if isinstance(code, type) else ():
        if hasattr(member, '__code__'):
            return member.__code__.co_filename
    return None


@contextlib.contextmanager
def _generators_kept():
    """Python's and NumPy's random numbers go on as if the code had not run; MXNet's cannot be read back."""
    states = random.getstate(), numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])


@contextlib.contextmanager
def _exit_raises():
    """In Jupyter exit() asks the kernel to end after the cell; here it raises SystemExit, as everywhere else."""
    ipython = sys.modules.get('IPython')
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, 'ask_exit'):
        yield
        return
    with mock.patch.object(type(shell), 'ask_exit', lambda self: sys.exit()):
        yield
