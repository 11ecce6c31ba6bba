"""`import gluon_bn` changes nothing in the process."""

import sys

import pytest
from commands import python

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
    done = python("-W", "ignore", "-c", LOOK.format(first=first), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr


@pytest.mark.fault("an MXNet that cannot be used, or a NumPy that is too new for it")
@pytest.mark.parametrize(
    "fault, why",
    [
        ("sys.modules['mxnet'] = None", "MXNet cannot be loaded: ModuleNotFoundError"),
        ("sys.path.insert(0, {broken!r})", "MXNet cannot be loaded: AttributeError: module 'numpy' has no attribute"),
        pytest.param(
            "import numpy; numpy.__version__ = '2.2.6'",
            "NumPy must be older than 1.24, got 2.2.6; `pip install numpy==1.23.5`",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="NumPy 2 is right here"),
        ),
        ("import mxnet; mxnet.__version__ = '1.8.0'", "MXNet must be 1.9.1, got 1.8.0"),
    ],
)
def test_an_unusable_mxnet_is_named_with_a_remedy(tmp_path, fault, why):
    (tmp_path / "mxnet.py").write_text("import numpy\nnumpy.no_such_name\n")  # as if NumPy were too new
    code = f"""
import sys, traceback
{fault.format(broken=str(tmp_path))}
try:
    from gluon_bn import batch_norm
except Exception:
    traceback.print_exc()
print("-----", file=sys.stderr)
from gluon_bn import training
"""
    done = python("-W", "ignore", "-c", code)
    first, second = done.stderr.split("-----\n")
    for said in (first, second):
        error = said[said.rindex("gluon_bn.errors.LoadError: ") :]
        assert done.returncode == 1 and why in error and len(error.splitlines()) <= 2
        assert "pip install mxnet==1.9.1" in error or "-m gluon_bn doctor` says what is wrong" in error
