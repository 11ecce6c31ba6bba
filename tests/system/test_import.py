"""`import gluon_bn` changes nothing in the process."""

import subprocess
import sys

import pytest

LOOK = """
import atexit, gc, json, os, resource, signal, sys, threading, warnings
{first}

def looked_at():
    status = open("/proc/self/status").read().splitlines()
    return {{
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "Python threads": [thread.name for thread in threading.enumerate()],
        "handlers": [str(signal.getsignal(n)) for n in range(1, signal.NSIG)],
        "masks": [line for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))],
        "environment": dict(os.environ),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")],
        "warnings": [str(one) for one in warnings.filters],
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.displayhook)],
        "atexit": atexit._ncallbacks(),
        "folder": [os.getcwd(), sorted(os.listdir())],
        "path": sys.path, "recursion": sys.getrecursionlimit(), "gc": gc.get_threshold(),
        "mxnet": "mxnet" in sys.modules, "numpy": "numpy" in sys.modules,
    }}

before = looked_at()
import gluon_bn
print(json.dumps({{key: [before[key], after] for key, after in looked_at().items() if after != before[key]}}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("first", ["", "import mxnet"])
def test_importing_the_package_changes_nothing_in_the_process(tmp_path, first):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK.format(first=first)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "{}\n"


FAULTS = """
import resource
{first}
from mxnet import nd
def faults(repeat):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(repeat):
        nd.zeros((10, 1000, 1000)).wait_to_read()  # 40 MB, 10,000 pages: given back when it is freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(10)
print(faults(10))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_memory_is_given_back_as_without_the_package():
    for first in ("", "import gluon_bn"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FAULTS.format(first=first)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert int(done.stdout) > 50_000, first
