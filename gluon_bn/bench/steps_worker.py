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
from ..workers.parameter_server import ParameterServer, Role, serve
from .network import bytes_sent_and_received, enter, round_trip_to

WARM_UP, REPEAT = 5, 30
NORMS = ('sync', 'fused')


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


def seconds_of(*calls: Callable[[], Any]) -> List[float]:
    """Return the lower quartile of each call's seconds, since other programs only add to them; the calls take turns."""
    seconds: List[List[float]] = [[] for _ in calls]
    for _ in range(WARM_UP + REPEAT):
        for each, call in zip(seconds, calls):
            start = time.perf_counter()
            call()
            each.append(time.perf_counter() - start)
    return [statistics.quantiles(each[WARM_UP:])[0] for each in seconds]


def measure_group(group: ParameterServer, examples: int, sizes: List[int]) -> Content:
    """Measure exchanges of arrays of these sizes, and steps, with the workers of this group."""
    exchanges = []
    for size in sizes:
        values = numpy.ones(size)
        before = bytes_sent_and_received()
        (seconds,) = seconds_of(functools.partial(group.gather, values))
        exchanges.append([seconds, (bytes_sent_and_received() - before) / (WARM_UP + REPEAT)])
    found: Dict[str, Any] = {'round_trip': round_trip_to(group.role.root), 'exchanges': exchanges, 'compute': {}}
    for norm in NORMS:
        computing = Steps(norm, Echo(group.size), examples)
        steps = Steps(norm, group if group.size > 1 else Alone(), examples)
        found[norm], found['compute'][norm] = seconds_of(steps.step, computing.step)
    if group.size > 1:
        (found['gradients'],) = seconds_of(steps.exchange_gradients)
    return found


def measure_alone(examples: int, count: int) -> Content:
    """Measure what one of many workers computes on a core of its own, and the steps of two threads in one process."""
    compute = seconds_of(*(Steps(norm, Echo(count), examples).step for norm in NORMS))
    threads = Threads.run(2, lambda member: seconds_of(Steps('sync', member, examples).step))
    return {'compute': dict(zip(NORMS, compute)), 'threads': max(threads)[0]}


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
