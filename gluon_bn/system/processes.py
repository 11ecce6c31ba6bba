"""Tasks in processes of their own, several at a time, that end when this one does."""
from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path


def perform(module, tasks, jobs, environment):
    """Run `python -m module` once for each task, `jobs` at a time, and yield (index, message) as they come.

    A task goes to the process's standard input as a line of JSON, and messages, dicts too, come as lines
    from its standard output. The pipe to its input stays open as long as this process lives: see `serve`.
    A process that ends badly is followed by the message {'failed': why}. Closing the generator kills all.
    """
    waiting, running, messages = list(enumerate(tasks)), {}, queue.SimpleQueue()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, task = waiting.pop(0)
                running[index] = _start(module, task, environment)
                threading.Thread(target=_listen, args=(index, running[index], messages), daemon=True).start()
            index, line = messages.get()
            if line:
                yield index, json.loads(line)
            else:
                code = _end(running.pop(index))
                if code:
                    yield index, {'failed': 'its process was ended by ' + signal.Signals(-code).name
                                  if code < 0 else f'its process ended with exit code {code}'}
    finally:
        for process in running.values():
            process.kill()
            _end(process)


def serve(work):
    """In such a process: run work(task, send), send being a function of one message.

    The process ends at once when its parent is gone, however that ended.
    """
    channel = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # what a library prints is no message
    with open(0, 'rb', buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line.endswith(b'\n'):  # the parent was stopped before it had said what to do
        os._exit(1)
    task = json.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(task, lambda message: print(json.dumps(message, allow_nan=False), file=channel, flush=True))


def _start(module, task, environment):
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get('PYTHONPATH')]))
    # A session of its own: Ctrl-C and other signals to the terminal's group reach the parent alone, which decides.
    process = subprocess.Popen([sys.executable, '-m', module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env={**os.environ, **environment, 'PYTHONPATH': path}, start_new_session=True)
    with contextlib.suppress(BrokenPipeError):  # it has ended already, and how is seen at the end of its output
        process.stdin.write(json.dumps(task).encode() + b'\n')
        process.stdin.flush()
    return process


def _listen(index, process, messages):
    with process.stdout:
        for line in process.stdout:
            messages.put((index, line))
    messages.put((index, None))


def _end(process):
    """Wait for its end; returns the exit code."""
    code = process.wait()  # before the pipe is closed, at which it would end early
    with contextlib.suppress(BrokenPipeError):  # of a task that it never read
        process.stdin.close()
    return code


def _end_with_parent():
    while os.read(0, 1):
        pass
    os._exit(1)
