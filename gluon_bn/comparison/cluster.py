"""Runs whose minibatches are shared among workers: starts the scheduler, the server and the workers of each."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import socket
from pathlib import Path
from typing import Any, Dict, Generator, List, Sequence, Tuple, Union

import mxnet
import numpy

from ..data import Minibatches
from ..errors import InputError, WorkersError
from ..system.arguments import check_count
from ..system.processes import Content, Crashed, run_tasks
from ..workers import Group
from ..workers.parameter_server import SCHEDULER, SERVER, Role
from .configuration import Configuration
from .task import Failed, Finished, Joined, Silent, Task, content_of, message_from, threads

LOOPBACK = '127.0.0.1'


def check_workers(workers: int, configuration: Configuration) -> None:
    """Raise InputError unless workers is a count, and each gets an example of every minibatch."""
    examples = configuration.num_train or 60_000
    least = examples % configuration.batch_size or configuration.batch_size
    if check_count('workers', workers) > least:
        raise InputError(
            f'must be at most the number of examples of the smallest minibatch, {least}, got {workers}; '
            'take fewer workers, or another batch size',
            'workers',
        )


def run_on_workers(
    module: str, tasks: Sequence[Task], workers: int, environment: Dict[str, str]
) -> Generator[Tuple[int, Union[Content, Crashed]], None, None]:
    """Run tasks like `run_tasks`, one after the other, each by so many workers.

    The messages are those of worker 0. The first process that fails ends all others of its task.
    """
    environment = {**environment, 'OMP_NUM_THREADS': str(max(1, int(threads()) // workers))}
    for index, task in enumerate(tasks):
        roles = _roles(workers)
        parts = [dataclasses.asdict(dataclasses.replace(task, role=role)) for role in roles]
        numbers = {SCHEDULER: roles[0], SERVER: roles[1]}
        with contextlib.closing(run_tasks(module, parts, len(parts), environment)) as messages:
            for part, content in messages:
                role, message = roles[part], message_from(content)
                if isinstance(message, Joined):
                    numbers[message.number] = role
                elif isinstance(message, (Failed, Silent)):
                    if isinstance(message, Silent):
                        role, message = numbers[message.number], Failed('it has gone silent')
                    reason = message.reason if message.diverged else f'{role}: {message.reason}'
                    yield index, content_of(Failed(reason, message.diverged))
                    break
                elif role.rank == 0:
                    yield index, content
                    if isinstance(message, Finished):
                        break


def _roles(workers: int) -> List[Role]:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        where: Any = workers, threads(), LOOPBACK, free.getsockname()[1], LOOPBACK
    return [Role('scheduler', -1, *where), Role('server', -1, *where)] + [
        Role('worker', rank, *where) for rank in range(workers)
    ]


def check_alike(group: Group, task: Task, train_iter: Minibatches) -> None:
    """Raise WorkersError, on every worker, if the code, data or configuration of one is not that of worker 0."""
    package = Path(__file__).parents[1]
    sources = sorted(path for path in package.rglob('*') if path.suffix in ('.py', '.cc'))
    parts = {
        'code': b''.join(path.read_bytes() for path in sources) + mxnet.__version__.encode(),
        'data': train_iter.X.asnumpy().tobytes() + train_iter.y.asnumpy().tobytes(),
        'configuration': json.dumps(task.checkpoint().configuration, sort_keys=True).encode(),
    }
    digests = b''.join(hashlib.sha256(part).digest() for part in parts.values())
    host = socket.gethostname().encode()[:64].ljust(64)
    table = group.gather(numpy.frombuffer(host + digests, 'uint8').astype('float64')).astype('uint8')
    hosts = [bytes(row[:64]).decode(errors='replace').strip() for row in table]
    for i, name in enumerate(parts):
        column = table[:, 64 + 32 * i : 96 + 32 * i]
        for rank in range(group.size):
            if (column[rank] != column[0]).any():
                raise WorkersError(
                    f'worker {rank} on {hosts[rank]} must have the {name} of worker 0 on {hosts[0]}, got another; '
                    f'give all workers the same {name}, and start again'
                )
