"""Runs tasks in child processes, several at a time; they exit with the parent."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Generator, Optional, Sequence, Tuple, Union

if TYPE_CHECKING:
    Lines = queue.SimpleQueue[Tuple[int, Optional[bytes]]]
Content = Dict[str, Any]  # what a line of JSON holds


@dataclass(frozen=True)
class Crashed:
    """The last word on a process that ended badly."""

    reason: str


def run_tasks(
    module: str, tasks: Sequence[Any], jobs: int, environment: Dict[str, str]
) -> Generator[Tuple[int, Union[Content, Crashed]], None, None]:
    """Run `python -m module` once for each task, `jobs` at a time, and yield (index, message) as messages come.

    A task goes to the process's standard input as a line of JSON, and messages come as lines of JSON from its
    standard output. The pipe to its input stays open as long as this process lives: see `serve_task`.
    A process that ends badly is followed by `Crashed`. Closing the generator kills all.
    """
    waiting = list(enumerate(tasks))
    running: Dict[int, subprocess.Popen[bytes]] = {}
    lines: Lines = queue.SimpleQueue()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, task = waiting.pop(0)
                running[index] = _start(module, task, environment)
                threading.Thread(target=_listen, args=(index, running[index], lines), daemon=True).start()
            index, line = lines.get()
            if line:
                yield index, json.loads(line)
            else:
                code = _reap(running.pop(index))
                if code:
                    yield (
                        index,
                        Crashed(
                            'its process was ended by ' + signal.Signals(-code).name
                            if code < 0
                            else f'its process ended with exit code {code}'
                        ),
                    )
    finally:
        for process in running.values():
            process.kill()
            _reap(process)


def serve_task(work: Callable[[Content, Callable[[Content], None]], None]) -> None:
    """In such a process: run work(task, send), where send sends a message to the parent.

    The process ends as soon as its parent is gone, however that ended.
    """
    channel = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # keeps library output off the message channel
    with open(0, 'rb', buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line.endswith(b'\n'):  # the parent was stopped before it had sent the task
        os._exit(1)
    task = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(task, lambda message: print(json.dumps(message, allow_nan=False), file=channel, flush=True))


def _start(module: str, task: Any, environment: Dict[str, str]) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    # A session of its own: Ctrl-C and other signals to the terminal's group reach the parent alone, which decides.
    process = subprocess.Popen(
        [sys.executable, '-m', module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environment, 'PYTHONPATH': path},
        start_new_session=True,
    )
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # it has ended already; how is seen at the end of its output
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
    """Wait until the process ends; returns its exit code."""
    code = process.wait()  # before the pipe is closed, at which it would end early
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # of a task that it never read
        process.stdin.close()
    return code


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
