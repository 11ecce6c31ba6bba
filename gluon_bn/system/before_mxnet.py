"""Imported before MXNet by each room that needs it: a setting at which MXNet would abort raises InputError instead."""
import sys

from .settings import check_before_mxnet

if 'mxnet' not in sys.modules:
    check_before_mxnet()
