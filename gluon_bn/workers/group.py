"""A group of workers and its one operation: each member gets the values of all."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, Optional, TypeVar

import numpy

from ..errors import InputError
from ..system.arguments import check_count
from .gradients import Gradients

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]
Result = TypeVar('Result')
_of_this_thread = threading.local()


class Group(ABC):
    """A member of a group of `size` workers, with the number `rank`, from 0."""

    rank: int
    size: int

    @abstractmethod
    def gather(self, values: Array) -> Array:
        """Return the values (float64) of all members, in the order of their ranks, after one round trip.

        All members must call this the same number of times, with arrays of the same shape.
        """

    def broadcast(self, values: Array) -> Array:
        """Return the values of member 0; the others give an array of the same shape."""
        first: Array = self.gather(values)[0]
        return first

    def store(self) -> Any:
        """Return the kvstore for a Trainer with update_on_kvstore=False, which adds up the members' gradients."""
        return Gradients(self) if self.size > 1 else 'device'  # Trainer's default

    def share(self, examples: int) -> slice:
        """Return which examples of a minibatch are this member's; the shares of two members differ by at most one."""
        return slice(self.rank * examples // self.size, (self.rank + 1) * examples // self.size)


class Alone(Group):
    """A group of one, whose member gets the whole of every minibatch."""

    rank, size = 0, 1

    def gather(self, values: Array) -> Array:
        gathered: Array = values[None]
        return gathered


class Threads(Group):
    """A group whose members are threads of this process: `Threads.run(4, work)` calls work(member) in four threads.

    outer: the group of processes to which this process belongs; ranks then count the threads of all processes.
    """

    def __init__(self, thread: int, meeting: _Meeting, outer: Optional[Group]) -> None:
        processes, process = (outer.size, outer.rank) if outer else (1, 0)
        self.thread, self.meeting = thread, meeting
        self.rank, self.size = process * meeting.threads + thread, processes * meeting.threads

    @staticmethod
    def run(threads: int, work: Callable[[Threads], Result], outer: Optional[Group] = None) -> List[Result]:
        """Call work(member) in this many threads, and return the results. Raises: the first error of a thread."""
        meeting = _Meeting(check_count('threads', threads), outer)

        def joined_work(thread: int) -> Result:
            member = Threads(thread, meeting, outer)
            try:
                with joined(member):
                    return work(member)
            except BaseException as error:  # even an interrupt must end the other threads
                meeting.errors.append(error)
                meeting.barrier.abort()
                raise

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(joined_work, thread) for thread in range(threads)]
        for error in sorted(meeting.errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]

    def gather(self, values: Array) -> Array:
        meeting = self.meeting
        meeting.given[self.thread] = values
        meeting.barrier.wait()  # the last thread to arrive calls _Meeting.exchange first
        gathered: Array = meeting.gathered
        return gathered


class _Meeting:
    """Where threads exchange values. The next exchange starts only after all have read the result of the last."""

    def __init__(self, threads: int, outer: Optional[Group]) -> None:
        self.threads, self.outer = threads, outer
        self.given: List[Any] = [None] * threads
        self.gathered: Any = None
        self.errors: List[BaseException] = []
        self.barrier = threading.Barrier(threads, self.exchange)

    def exchange(self) -> None:
        # a new array each time: a thread may still hold the previous one
        shapes = [numpy.shape(values) for values in self.given]
        if len(set(shapes)) > 1:
            raise InputError(f'must have the same shape on every worker, got {", ".join(map(str, shapes))}', 'values')
        mine = numpy.array(self.given, 'float64')
        self.gathered = mine if self.outer is None else self.outer.gather(mine).reshape((-1, *mine.shape[1:]))


def current() -> Optional[Group]:
    """Return the group that this thread has joined, or None."""
    group: Optional[Group] = getattr(_of_this_thread, 'group', None)
    return group


@contextlib.contextmanager
def joined(group: Optional[Group]) -> Iterator[None]:
    """Let `sync_batch_norm` in this thread use the statistics of this group."""
    before = current()
    _of_this_thread.group = group
    try:
        yield
    finally:
        _of_this_thread.group = before
