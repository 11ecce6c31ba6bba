"""The environment of a measurement: the versions and the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, Dict, List

import mxnet
import numpy

from .. import __version__
from .threads import cores


def versions() -> Dict[str, str]:
    """Return the versions of the packages that compute, by name."""
    return {
        'gluon_bn': __version__,
        'python': platform.python_version(),
        'mxnet': mxnet.__version__,
        'numpy': numpy.__version__,
    }


def machine() -> Dict[str, Any]:
    """Return the processor, the number of cores that this process may use, and the thread setting."""
    kernel = platform.release().split('-')[0]
    system = [platform.system(), kernel, platform.machine(), *filter(None, platform.libc_ver())]
    return {
        'processor': _processor(),
        'cores': cores(),
        'platform': ' '.join(system),
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS'),
    }


def cpu_info(*names: str) -> List[str]:
    """Return the distinct lines of /proc/cpuinfo with these names; none if there is no such file."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(line for line in lines if line.split(':')[0].strip() in names))


def _processor() -> str:
    models = cpu_info('model name')
    return models[0].split(':', 1)[1].strip() if models else platform.processor() or platform.machine()
