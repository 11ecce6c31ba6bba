"""Imported before MXNet, by each room that needs it.

It raises InputError for a setting that would make MXNet abort, sets the thread policy, gives NumPy the names that
MXNet needs, and imports MXNet. It raises LoadError if MXNet is missing, does not run here, or is not version 1.9.1.
"""

import os
import sys

from ..errors import LoadError
from .interpreter import load_error
from .missing_names import give_names
from .settings import check_before_mxnet
from .threads import settle

if 'mxnet' not in sys.modules:
    check_before_mxnet()
    settle()
    give_names()
# With DMLC_ROLE=server, the import would run MXNet's own server, which unpickles what it receives: see workers.
role = os.environ.pop('DMLC_ROLE', None)
try:
    import numpy

    if sys.version_info < (3, 12) and numpy.__version__ >= '2':  # packages built for NumPy 1 would print tracebacks
        raise LoadError(f'NumPy must be older than 1.24, got {numpy.__version__}; `pip install numpy==1.23.5`')
    import mxnet
except Exception as error:  # for example AttributeError, if NumPy is too new, or OSError, if a library is missing
    raise load_error('MXNet', error) from error
finally:
    if role is not None:
        os.environ['DMLC_ROLE'] = role
if mxnet.__version__ != '1.9.1':
    raise LoadError(f'MXNet must be 1.9.1, got {mxnet.__version__}; `{sys.executable} -m pip install mxnet==1.9.1`')
