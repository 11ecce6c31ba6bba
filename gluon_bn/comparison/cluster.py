"""Runs by several workers: starts the scheduler, the server and the workers of each run."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, Generator, Mapping, Optional, Sequence, Tuple, Union

import mxnet
import numpy

from ..data import Minibatches, find_files
from ..errors import InputError, WorkersError
from ..system.arguments import check_count
from ..system.processes import Content, Crashed, run_tasks
from ..system.threads import policy
from ..workers import Group
from ..workers.parameter_server import ABSENT, SCHEDULER, SERVER, WAIT, Role, seconds_to_wait
from .configuration import Configuration
from .folder import environment_of
from .places import Part
from .task import Failed, Finished, Joined, Silent, Task, content_of, message_from

WORKERS = 'DMLC_NUM_WORKER'  # MXNet's name, under which a comparison records the number
MODULE = 'gluon_bn.comparison.run'


def check_workers(workers: int, configuration: Configuration) -> None:
    """Raise InputError unless workers is a count, and each worker gets an example of every minibatch."""
    examples = configuration.num_train or 60_000
    least = examples % configuration.batch_size or configuration.batch_size
    if check_count('workers', workers) > least:
        raise InputError(
            f'must be at most the number of examples of the smallest minibatch, {least}, got {workers}; '
            'use fewer workers, or another batch size',
            'workers',
        )


def workers_of(out: Union[str, Path]) -> int:
    """Return how many workers the training in a folder was started with."""
    number = environment_of(Path(out)).get(WORKERS, '1')
    return int(number) if number.isdigit() else 1


def check_same_workers(workers: int, configuration: Configuration, recorded: Mapping[str, str]) -> None:
    """Refuse to resume with another number of workers if that changes more than rounding.

    recorded: the variables of the comparison to resume; empty for a new one.
    """
    before = recorded.get(WORKERS, '1') if recorded else str(workers)
    by_share = sorted(set(configuration.norms) - {'none', 'sync'})
    if before != str(workers) and by_share:
        raise InputError(
            f'must be {before}, as when the training started, got {workers}: with {", ".join(by_share)}, each worker '
            f'uses the statistics of its own share; resume with {before}, or start again in another folder',
            'workers',
        )


def threads_of(
    configuration: Configuration, parts: Sequence[Part] = (), recorded: Mapping[str, str] = {}
) -> Dict[str, str]:
    """Return the settings of the threads of each process; recorded: those of the comparison to resume."""
    alone = len(configuration.norms) * len(configuration.seeds) == 1 and 'sync' not in configuration.norms
    workers = Counter(part.host for part in parts if part.role.name == 'worker')
    return policy(alone, recorded, max(workers.values(), default=1))


def run_on_workers(
    module: str, tasks: Sequence[Task], parts: Sequence[Part], environment: Dict[str, str]
) -> Generator[Tuple[int, Union[Content, Crashed]], None, None]:
    """Run tasks like `run_tasks`, but one after the other, each in these processes.

    Only worker 0's messages are passed on. If a process fails, all others of its task end.
    """
    root = parts[0].role
    for index, task in enumerate(tasks):
        started = [dataclasses.asdict(dataclasses.replace(task, role=part.role)) for part in parts]
        names = {SCHEDULER: f'scheduler on {root.root}', SERVER: 'server'}
        names.update(zip((SCHEDULER, SERVER), (str(part.role) for part in parts[:2] if len(parts) > 2)))
        hosts = [part.host for part in parts]
        with contextlib.closing(run_tasks(module, started, len(parts), environment, hosts)) as messages:
            for number, content in messages:
                role, message = parts[number].role, message_from(content)
                if isinstance(message, Joined):
                    names[message.number] = str(role)
                    if len(parts) == 1:  # started by hand: the scheduler will name the worker by this number
                        print(f"{role} has joined, as MXNet's process {message.number}", file=sys.stderr)
                elif isinstance(message, (Failed, Silent)):
                    yield index, content_of(_failed(role, message, names))
                    break
                elif role.rank == 0:
                    yield index, content
                    if isinstance(message, Finished):
                        break


def _failed(role: Role, message: Union[Failed, Silent], names: Dict[int, str]) -> Failed:
    if isinstance(message, Silent) and message.number == ABSENT:
        missing = (
            f'the scheduler, the server and {role.workers} workers did not all start within {seconds_to_wait():g} s'
        )
        return Failed(f'{role}: {missing}; start them all, or set {WAIT}=SECONDS to wait longer')
    if isinstance(message, Silent):
        name = names.get(message.number, f"a worker, MXNet's process {message.number}")
        return Failed(f'{name}: it is stopped, or cannot be reached')
    return message if message.diverged else Failed(f'{role}: {message.reason}')


def take_part(configuration: Configuration, part: Part, root: Optional[str]) -> Optional[str]:
    """Be the scheduler, the server or a worker other than worker 0; return why it failed, or None."""
    check_workers(part.role.workers, configuration)
    find_files(root)
    environment = threads_of(configuration)
    task = Task(configuration, configuration.norms[0], configuration.seeds[0], os.curdir, root, environment)
    for _, content in run_on_workers(MODULE, [task], [part], environment):
        message = message_from(content)
        if isinstance(message, Failed):
            return message.reason
    return None


def check_alike(group: Group, task: Task, train_iter: Minibatches, package: Path = Path(__file__).parents[1]) -> None:
    """Raise WorkersError on every worker if one has other code, other data or another configuration than worker 0."""
    sources = sorted(path for path in package.rglob('*') if path.suffix in ('.py', '.cc', '.h'))
    parts = {
        'code': b''.join(path.read_bytes() for path in sources) + mxnet.__version__.encode(),
        'data': train_iter.X.asnumpy().tobytes() + train_iter.y.asnumpy().tobytes(),
        'configuration': json.dumps([dataclasses.asdict(task.configuration), task.norm, task.seed]).encode(),
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
