"""The part `workers` of the benchmark: steps by several workers, at several round-trip times on one machine."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Dict, Optional, Sequence, Tuple

from ..errors import WorkersError
from ..system.processes import Content, Crashed, run_tasks
from ..system.threads import policy
from ..workers.parameter_server import LOOPBACK, Role, free_port
from .network import machines
from .results import WorkersResult, WorkersTimes

MODULE = 'gluon_bn.bench.steps_worker'
EXAMPLES, COUNTS, ROUND_TRIPS = 256, (1, 2, 4), (0.0, 1e-4, 1e-3, 1e-2)
MANY = 8  # shares of a minibatch, one of which is computed alone
CHANNELS = (6, 16, 120, 84)  # of LeNet's four layers
SIZES = [1 + 2 * channels for channels in (*CHANNELS, 1000)]  # values in an exchange of a layer, and of a wide one


def measure_workers(quick: bool, say: Any) -> WorkersResult:
    """Measure each number of workers at each round-trip time; a time of 0 is the loopback interface."""
    if quick:
        say('workers: with --quick, only 1 and 2 workers, on loopback and with round trips of 0.1 ms')
    say('workers: computing alone')
    alone = _first({'role': None, 'examples': EXAMPLES, 'count': MANY})
    times = []
    for count in COUNTS[:2] if quick else COUNTS:
        for seconds in ROUND_TRIPS[:1] if count == 1 else ROUND_TRIPS[:2] if quick else ROUND_TRIPS:
            say(f'workers: {count}, {f"round trips of {seconds * 1e3:g} ms" if seconds else "loopback"}')
            try:
                found = _measure(count, seconds)
            except OSError as error:
                say(f'workers: only loopback, because network namespaces are unavailable: {error}')
                break
            times.append(WorkersTimes(count, seconds, **found))
    return WorkersResult(EXAMPLES, EXAMPLES // MANY, CHANNELS, SIZES, alone['compute'], alone['threads'], times)


def _measure(count: int, seconds: float) -> Content:
    """Run a scheduler, a server and the workers: on loopback, or each worker on a machine of its own."""
    with contextlib.ExitStack() as stack:
        places: Sequence[Tuple[Optional[str], str]] = [(None, LOOPBACK)] * (1 + count)
        if seconds:
            places = stack.enter_context(machines(1 + count, seconds))
        port = free_port(LOOPBACK)

        def task(name: str, rank: int = -1) -> Dict[str, Any]:
            namespace, address = places[1 + rank]
            role = Role(name, rank, count, places[0][1], port, address)
            task = {'role': dataclasses.asdict(role), 'namespace': namespace}
            return {**task, 'examples': EXAMPLES, 'sizes': SIZES}

        return _first(task('scheduler'), task('server'), *(task('worker', rank) for rank in range(count)))


def _first(*tasks: Content) -> Content:
    """Run processes with one thread each, and return the first message."""
    with contextlib.closing(run_tasks(MODULE, tasks, len(tasks), policy(alone=False))) as messages:
        for _, message in messages:
            if isinstance(message, Crashed):
                raise WorkersError(f'a process of the benchmark failed: {message.reason}')
            return message
    raise WorkersError('a process of the benchmark ended without a result')
