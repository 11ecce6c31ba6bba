"""Runs tasks in child processes, several at a time; they exit with the parent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, Optional, Sequence, Tuple, Union

from .threads import SETTLED

if TYPE_CHECKING:
    Lines = queue.SimpleQueue[Tuple[int, Optional[bytes]]]
Content = Dict[str, Any]  # what a line of JSON holds
# never asks for a password, and notices within 15 seconds that the host is gone
SSH_OPTIONS = [
    f'-o{option}' for option in ('BatchMode=yes', 'ConnectTimeout=10', 'ServerAliveInterval=5', 'ServerAliveCountMax=3')
]


@dataclass(frozen=True)
class Crashed:
    """Says why a process crashed; the last message about it."""

    reason: str


def run_tasks(
    module: str, tasks: Sequence[Any], jobs: int, environment: Dict[str, str], hosts: Sequence[Optional[str]] = ()
) -> Generator[Tuple[int, Union[Content, Crashed]], None, None]:
    """Run `python -m module` once for each task, `jobs` at a time, and yield (index, message) as messages arrive.

    A process gets its task as a line of JSON on standard input, and sends messages as lines of JSON on standard
    output. Its input stays open as long as this process lives: see `serve_task`.
    hosts: for each task, the host on which it runs over ssh, with the same folder and Python; None for this machine.
    A process that fails is reported as `Crashed`. Closing the generator kills all processes.
    """
    waiting = list(enumerate(tasks))
    running: Dict[int, subprocess.Popen[bytes]] = {}
    lines: Lines = queue.SimpleQueue()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, task = waiting.pop(0)
                running[index] = _start(module, task, environment, hosts[index] if hosts else None)
                threading.Thread(target=_listen, args=(index, running[index], lines), daemon=True).start()
            index, line = lines.get()
            if line:
                yield index, json.loads(line)
            else:
                code = _reap(running.pop(index))
                if code:
                    yield index, Crashed(_reason(code, hosts[index] if hosts else None))
    finally:
        for process in running.values():
            process.kill()
            _reap(process)


def _reason(code: int, host: Optional[str]) -> str:
    if host and code == 255:
        return f'ssh cannot log in to {host}, or lost the connection; `ssh {host} true` must work without a password'
    if host and code in (1, 2, 126, 127):
        return f'{sys.executable} cannot run gluon_bn there; the lines above say why'
    return (
        f'its process {f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"}'
    )


def serve_task(work: Callable[[Content, Callable[[Content], None]], None]) -> None:
    """Run work(task, send) in a process of `run_tasks`; send sends a message to the parent.

    The process exits as soon as its parent is gone, for whatever reason.
    """
    channel = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # keeps library output off the message channel
    with open(0, 'rb', buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line.endswith(b'\n'):  # the parent stopped before sending the task
        os._exit(1)
    task = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(task, lambda message: print(json.dumps(message, allow_nan=False), file=channel, flush=True))


def _start(module: str, task: Any, environment: Dict[str, str], host: Optional[str]) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    command, environment = [sys.executable, '-m', module], {**environment, SETTLED: '', 'PYTHONPATH': path}
    if host:
        ours = {name: value for name, value in os.environ.items() if name.startswith('GLUON_BN_')}
        settings = [f'{name}={value}' for name, value in {**ours, **environment}.items()]
        remote = f'cd {shlex.quote(os.getcwd())} && exec {shlex.join(["env", *settings, *command])}'
        command = ['ssh', *SSH_OPTIONS, '--', host, remote]
    # In its own session, so that Ctrl-C and other signals to the terminal's group reach only the parent, which decides.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # it has exited already; the end of its output will show how
        process.stdin.write(json.dumps(task).encode() + b'\n')
        process.stdin.flush()
    return process


def _listen(index: int, process: subprocess.Popen[bytes], lines: Lines) -> None:
    assert process.stdout
    with process.stdout:
        for line in process.stdout:
            lines.put((index, line))
    lines.put((index, None))


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Wait until the process exits, and return its exit code."""
    code = process.wait()  # before closing the pipe, which would end it early
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # from a task that it never read
        process.stdin.close()
    return code


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
