"""One process for each framework, and one turn at a time.

MXNet and PyTorch each keep a pool of threads. Two pools in one process would spin against each other, so each
framework lives in a process of its own, started fresh, and waits on a pipe, without spinning, while another measures.
"""
from __future__ import annotations

import importlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from ..system.memory import keep_freed_memory


class Side:
    """A process that runs the functions of one module: `Side(module).call('name', *args)`.

    keep_memory: whether it keeps freed memory for the next array, see `keep_freed_memory`.
    """

    def __init__(self, module, keep_memory=True):
        self.module = f'{__package__}.{module}'
        self.process = ProcessPoolExecutor(1, get_context('spawn'))
        self.process.submit(keep_freed_memory if keep_memory else int).result()  # it starts now, with this environment

    def call(self, name, *args):
        """Run a function of the module there and wait for what it returns, or raises."""
        return self.process.submit(_call, self.module, name, args).result()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.shutdown()


def _call(module, name, args):
    return getattr(importlib.import_module(module), name)(*args)
