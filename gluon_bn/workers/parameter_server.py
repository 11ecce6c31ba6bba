"""A group of processes that exchange values through MXNet's parameter server: scheduler, server and workers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, Tuple

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
import mxnet as mx
import numpy
from mxnet import nd
from mxnet.base import _LIB, check_call

from ..errors import InputError, WorkersError
from .gradients import Gradients, as_list
from .group import Group

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]

SECONDS_OF_SILENCE = 8  # after which a process counts as gone; each sends a heartbeat every second
SECONDS_TO_CONNECT = 25
WAIT = 'GLUON_BN_WAIT'  # the variable that says how many seconds to wait for the others
LOOPBACK = '127.0.0.1'
ABSENT = 0  # stands for the processes that have not started
SCHEDULER, SERVER, FIRST_WORKER = 1, 8, 9  # MXNet's numbers of the processes; workers have 9, 11, 13, ...


@dataclass(frozen=True)
class Role:
    """The role of one process: scheduler, server or worker.

    rank: of a worker, else -1. workers: how many there are.
    root, port: where the scheduler listens. host: the address on which this process listens.
    """

    name: str
    rank: int
    workers: int
    root: str
    port: int
    host: str

    def __str__(self) -> str:
        where = 'this machine' if self.host == LOOPBACK else self.host
        return f'{self.name} {self.rank} on {where}' if self.name == 'worker' else f'{self.name} on {where}'

    def set_environment(self) -> None:
        """Set MXNet's variables for this process. MXNet must have been imported without them: see `before_mxnet`."""
        os.environ.update(
            DMLC_ROLE=self.name,
            DMLC_PS_ROOT_URI=self.root,
            DMLC_PS_ROOT_PORT=str(self.port),
            DMLC_NUM_WORKER=str(self.workers),
            DMLC_NUM_SERVER='1',
            DMLC_NODE_HOST=self.host,  # listens only there
            PS_HEARTBEAT_INTERVAL='1',
        )

    def connect(self) -> None:
        """Wait until the scheduler listens. Raises: WorkersError if it cannot be reached."""
        give_up, why = time.monotonic() + SECONDS_TO_CONNECT, ''
        while time.monotonic() < give_up:
            try:
                socket.create_connection((self.root, self.port), timeout=5).close()
                return
            except OSError as error:
                why = error.strerror or str(error)
                time.sleep(0.2)
        at = f'{self.root}:{self.port}'
        raise WorkersError(
            f'the scheduler at {at} cannot be reached from {self.host}: {why}; check that the '
            'scheduler runs, and that no firewall blocks its port'
        )


def serve(role: Role, report: Callable[[int], None]) -> None:
    """Be the scheduler or the server, until this process is killed.

    report: called with MXNet's number of a process that has gone silent; only the scheduler knows and calls it.
    """
    role.set_environment()
    if role.name == 'server':
        role.connect()
    kv = mx.kv.create('dist')
    workers = [FIRST_WORKER + 2 * worker for worker in range(role.workers)]

    def report_unless_all_have_ended(number: int) -> None:
        if all(_is_silent(kv, worker) for worker in workers):
            os._exit(0)
        report(number)

    if role.name == 'scheduler':
        _watch(kv, [SERVER, *workers], report_unless_all_have_ended)
    else:
        _watch(kv, [SCHEDULER], lambda _: os._exit(0))
    # MXNet's own server unpickles an optimizer from the commands that it receives; this one ignores all commands.
    ignore = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda head, body, _: None)
    other = SERVER if role.name == 'scheduler' else SCHEDULER
    # before all have started, MXNet counts nobody as silent; afterwards, with this limit, everybody
    with timed_wait(role, report, has_ended=lambda: _is_silent(kv, other, -(10**6))):
        check_call(_LIB.MXKVStoreRunServer(kv.handle, ignore, None))


def _is_silent(kv: Any, number: int, seconds: int = SECONDS_OF_SILENCE) -> bool:
    count = ctypes.c_int()
    check_call(_LIB.MXKVStoreGetNumDeadNode(kv.handle, number, ctypes.byref(count), seconds))
    return count.value > 0


def _watch(kv: Any, numbers: Iterable[int], report: Callable[[int], None]) -> None:
    """Call report(number) once, in a thread, when one of these processes has been silent for too long.

    It looks again after three seconds: when a machine was suspended, all its processes are silent until their next
    heartbeat; and when a training ends, the others end soon after the first.
    """

    def watch() -> None:
        while True:
            time.sleep(1)
            for number in numbers:
                if not _is_silent(kv, number):
                    continue
                time.sleep(3)
                if _is_silent(kv, number):
                    report(number)
                    return

    threading.Thread(target=watch, daemon=True).start()


def free_port(address: str) -> int:
    """Return a port of this machine's address that nobody uses now."""
    with socket.socket() as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
    return port


def seconds_to_wait() -> float:
    """Return $GLUON_BN_WAIT (default 600). Raises: InputError if it is not a positive number."""
    text = os.environ.get(WAIT) or '600'
    if not re.fullmatch(r'[0-9]{1,6}(\.[0-9]+)?', text) or not float(text):
        raise InputError(f'must be a positive number of seconds, got {text!r}; unset it to wait 600 s', WAIT)
    return float(text)


@contextlib.contextmanager
def timed_wait(
    role: Role,
    report: Callable[[int], None],
    seconds: float = SECONDS_TO_CONNECT,
    has_ended: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Say after some seconds that this process still waits for the others; after `seconds_to_wait`, report ABSENT."""
    text = f'gluon_bn: {role} waits for the others: a scheduler, a server and {role.workers} workers must start'

    def unless_ended(call: Callable[..., None], argument: object) -> None:
        if not has_ended():
            call(argument)

    say = functools.partial(print, file=sys.stderr, flush=True)
    timers = [
        threading.Timer(seconds, unless_ended, [say, text]),
        threading.Timer(seconds_to_wait(), unless_ended, [report, ABSENT]),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


class ParameterServer(Group):
    """The group of worker processes. Only the main thread may create it, once per process.

    To gather, each member pushes an array that has its own values in its own row, and zeros elsewhere. The server adds
    up the arrays, so the order in which they arrive does not matter.
    """

    def __init__(self, role: Role, report: Callable[[int], None]) -> None:
        self.rank, self.size, self.role = role.rank, role.workers, role
        role.connect()
        role.set_environment()
        with timed_wait(role, report):
            self.kv = mx.kv.create('dist_sync')  # returns when all have started
        self.number = FIRST_WORKER + 2 * self.kv.rank
        self.keys: Dict[Tuple[int, Tuple[int, ...]], int] = {}
        self.lock = threading.Lock()  # backward runs in another thread than forward
        _watch(self.kv, [SCHEDULER], report)
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Raise WorkersError on every worker unless all have the same size, and the ranks are 0, 1, ...

        Later arrays have a row for each worker: if their shapes differ, MXNet aborts; if two workers have the same
        rank, it adds up their rows.
        """
        size = self.size
        if self._add_up(numpy.array([size], 'float32')).item() != size * size:
            raise WorkersError(
                f'DMLC_NUM_WORKER must be the same for all processes, got {size} here and another number elsewhere'
            )
        workers = self._add_up(numpy.eye(size, dtype='float32')[self.rank])  # of each rank
        if (workers != 1).any():
            raise WorkersError(
                f'DMLC_TASK_ID must be a different number from 0 to {size - 1} for each worker, got '
                f'{workers.argmax()} for {workers.max():.0f} workers'
            )

    def gather(self, values: Array) -> Array:
        words = numpy.zeros((self.size, values.size * 4), 'float32')
        words[self.rank] = _words(values)
        total = self._add_up(words).astype('uint16').view('float64')
        gathered: Array = total.reshape((self.size, *values.shape))
        return gathered

    def broadcast(self, values: Array) -> Array:
        words = _words(values) if self.rank == 0 else numpy.zeros(values.size * 4, 'float32')
        first: Array = self._add_up(words).astype('uint16').view('float64').reshape(values.shape)
        return first

    def _add_up(self, words: Array) -> Array:
        array = nd.array(words, dtype='float32')
        with self.lock:
            key = self.key(-1, words.shape)
            total = nd.zeros(words.shape)
            self.kv.pushpull(key, array, out=total)  # one round trip; push and pull would take two
            values: Array = total.asnumpy()
        return values

    def key(self, number: int, shape: Tuple[int, ...]) -> int:
        """Return the server's key for arrays of this shape: Trainer's by their number, all others by -1.

        A new key makes the workers wait for one another, so all must create keys in the same order, before backward.
        """
        if (number, shape) not in self.keys:
            self.keys[number, shape] = len(self.keys)
            self.kv.init(self.keys[number, shape], nd.zeros(shape))
        return self.keys[number, shape]

    def store(self) -> Gradients:
        return _DistSync(self)


class _DistSync(Gradients):
    """MXNet's own store, without the race between a weight's broadcast and its first gradient.

    MXNet's store pulls a broadcast in the background. In its first step, Trainer broadcasts the weights and then pushes
    the gradients to the same keys, so some workers may pull a sum of gradients as their weight.
    """

    group: ParameterServer

    def broadcast(self, key: int, value: Any, out: Any, priority: int = 0) -> None:
        if value.dtype != numpy.float32:
            raise InputError(
                f'must be float32 for several processes, got {numpy.dtype(value.dtype)}, which the parameter server '
                "would round; call net.cast('float32')",
                'net',
            )
        self.group.key(key, value.shape)
        super().broadcast(key, value, out, priority)

    def pushpull(self, key: int, value: Any, out: Any = None, priority: int = 0) -> None:
        arrays = as_list(value)
        number = self.group.key(key, arrays[0].shape)
        self.group.kv.pushpull(number, arrays, out=arrays if out is None else as_list(out), priority=priority)


def _words(values: Array) -> Array:
    """Return each float64 as four 16-bit numbers in float32.

    MXNet 1.9.1's server rounds float64 to float32 in about half of all runs, because it never initializes a flag.
    """
    words: Array = numpy.ascontiguousarray(values, 'float64').reshape(-1).view('uint16').astype('float32')
    return words
