"""The types of the part of MXNet 1.9.1 that gluon_bn uses; MXNet has none of its own."""

from typing import Any

from . import autograd as autograd
from . import gluon as gluon
from . import ndarray as nd

__version__: str
nd = nd

class MXNetError(RuntimeError): ...

class Context:
    device_type: str
    device_id: int
    def __init__(self, device_type: Any, device_id: int = ...) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

def cpu(device_id: int = ...) -> Context: ...
def gpu(device_id: int = ...) -> Context: ...
def __getattr__(name: str) -> Any: ...
