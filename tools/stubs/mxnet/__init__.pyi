"""The types of the part of MXNet 1.9.1 that gluon_bn uses; MXNet has none of its own."""

from typing import Any

from . import autograd as autograd
from . import gluon as gluon
from . import init as init
from . import ndarray as nd
from . import symbol as sym

__version__: str
nd = nd
sym = sym
context: Any
library: Any
np: Any
npx: Any
profiler: Any
random: Any
util: Any
base: Any
operator: Any
runtime: Any

class MXNetError(RuntimeError): ...

class Context:
    device_type: str
    device_id: int
    def __init__(self, device_type: Any, device_id: int = ...) -> None: ...
    def __enter__(self) -> Context: ...
    def __exit__(self, *error: Any) -> None: ...
    def empty_cache(self) -> None: ...

def cpu(device_id: int = ...) -> Context: ...
def gpu(device_id: int = ...) -> Context: ...
