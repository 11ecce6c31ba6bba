"""Imported before MXNet by each room that needs it.

A setting at which MXNet would abort raises InputError instead, and NumPy gets the names that MXNet misses.
"""

import sys

from .missing_names import give_names
from .settings import check_before_mxnet

if 'mxnet' not in sys.modules:
    check_before_mxnet()
    give_names()
