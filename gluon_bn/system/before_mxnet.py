"""Imported before MXNet, by each room that needs it.

It raises InputError for a setting at which MXNet would abort, and gives NumPy the names that MXNet needs.
"""

import sys

from .missing_names import give_names
from .settings import check_before_mxnet

if 'mxnet' not in sys.modules:
    check_before_mxnet()
    give_names()
