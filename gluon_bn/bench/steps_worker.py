"""A process of the part `workers`: a scheduler, a server, or a worker that times the parts of a step.

python -m gluon_bn.bench.steps_worker
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from typing import Any, Callable, Dict, List

import mxnet as mx
import numpy
from mxnet import init, nd

from ..model import compiled, lenet
from ..system.memory import keep_freed_memory
from ..system.processes import Content, serve_task
from ..training import seed_everything
from ..training.loop import sgd, train_batch
from ..training.totals import Totals
from ..workers import Alone, Group, Threads, joined
from ..workers.parameter_server import LOOPBACK, ParameterServer, Role, serve
from .network import bytes_sent_and_received, enter, round_trip_to
from .results import CALLS, NORMS, TURNS


class Echo(Alone):
    """A group of which only one member computes: the others would send the same, so nothing is exchanged."""

    def __init__(self, size: int) -> None:
        self.size = size

    def gather(self, values: Any) -> Any:
        return numpy.repeat(values[None], self.size, axis=0)

    def store(self) -> Any:
        return 'device'


class Steps:
    """Training LeNet on one minibatch, again and again."""

    def __init__(self, norm: str, group: Group, examples: int) -> None:
        seed_everything(0)
        self.group, self.net = group, compiled(lenet(norm))
        self.net.initialize(init.Xavier())
        self.X, self.y = nd.random.normal(shape=(examples, 1, 28, 28)), nd.arange(examples) % 10
        self.net(self.X[:1])
        self.trainer = sgd(self.net, 0.1, group)

    def step(self) -> None:
        with joined(self.group):
            train_batch(self.net, self.X, self.y, self.trainer, [mx.cpu()], Totals(), self.group)
            nd.waitall()

    def exchange_gradients(self) -> None:
        self.trainer.allreduce_grads()
        nd.waitall()


def seconds_of(group: Group, call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of a call while all members make it: the median of a few turns, after a turn to warm up.

    In a turn, all members start together and make some calls; the slowest member counts.
    """
    seconds: List[float] = []
    for _ in range(1 + TURNS):
        group.gather(numpy.zeros(1))
        start = clock()
        for _ in range(CALLS):
            call()
        seconds.append(group.gather(numpy.array([clock() - start])).max().item() / CALLS)
    return statistics.median(seconds[1:])


def spin(seconds: float) -> None:
    """Use the processor for this long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def measure_group(group: ParameterServer, examples: int, sizes: List[int]) -> Content:
    """Measure exchanges of arrays of these sizes, and steps, with the workers of this group."""
    found: Dict[str, Any] = {
        'round_trip': round_trip_to(group.role.root),
        'exchanges': [],
        'compute': {},
        'between': {},
    }
    exchanges = [functools.partial(group.gather, numpy.ones(size)) for size in sizes]
    for exchange in exchanges:
        exchange()  # the first of its size also tells the server the size
        before = bytes_sent_and_received()
        for _ in range(CALLS):
            exchange()
        sent = (bytes_sent_and_received() - before) / CALLS
        found['exchanges'].append([seconds_of(group, exchange), sent])
    for norm in NORMS:
        steps = Steps(norm, group if group.size > 1 else Alone(), examples)
        found[norm] = seconds_of(group, steps.step)
        if group.size > 1 and group.role.root == LOOPBACK:
            computing = Steps(norm, Echo(group.size), examples).step
            found['compute'][norm] = seconds_of(group, computing)
            # the last size is wider than LeNet's layers
            all_exchanges = [*(2 * exchanges[:-1] if norm == 'sync' else ()), steps.exchange_gradients]
            share = seconds_of(group, computing, time.process_time) / len(all_exchanges)
            found['between'][norm] = seconds_between(group, all_exchanges, share)
    if found['between']:
        found['gradients'] = seconds_of(group, steps.exchange_gradients)
    return found


def seconds_between(group: Group, exchanges: List[Callable[[], Any]], seconds: float) -> float:
    """Return the seconds of these exchanges if each member spins before each of them, without the spins."""

    def spin_and(exchange: bool) -> None:
        for each in exchanges:
            spin(seconds)
            if exchange:
                each()

    with_exchanges, spins = (seconds_of(group, functools.partial(spin_and, exchange)) for exchange in (True, False))
    return with_exchanges - spins


def measure_alone(examples: int, count: int) -> Content:
    """Measure what one of many workers computes on a core of its own, and the steps of two threads in one process."""
    compute = {norm: seconds_of(Alone(), Steps(norm, Echo(count), examples).step) for norm in NORMS}
    threads = Threads.run(2, lambda member: seconds_of(member, Steps('sync', member, examples).step))
    return {'compute': compute, 'threads': threads[0]}


def work(task: Content, send: Callable[[Content], None]) -> None:
    keep_freed_memory()
    if not task['role']:
        send(measure_alone(task['examples'], task['count']))
        return
    if task['namespace']:
        enter(task['namespace'])
    role = Role(**task['role'])
    if role.name != 'worker':
        serve(role, lambda _: os._exit(1))
    found = measure_group(ParameterServer(role, lambda _: os._exit(1)), task['examples'], task['sizes'])
    if role.rank == 0:
        send(found)
    time.sleep(60)  # until the parent ends all processes


if __name__ == '__main__':
    serve_task(work)
