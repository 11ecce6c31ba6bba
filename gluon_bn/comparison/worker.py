"""The process of one run:  python -m gluon_bn.comparison.worker

This is not part of `run` because the package imports that, and Python warns if a module is imported before it is run.
"""

import warnings

from ..data import DataWarning
from ..system.processes import serve_task
from .run import run_task
from .task import content_of, task_from

if __name__ == '__main__':
    warnings.simplefilter('ignore', DataWarning)  # `compare` has shown it already
    serve_task(lambda task, send: run_task(task_from(task), lambda message: send(content_of(message))))
