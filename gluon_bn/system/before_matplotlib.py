"""Imported before matplotlib: where that would fail for want of a home folder, it raises InputError instead."""

import sys

from .settings import check_before_matplotlib

if 'matplotlib' not in sys.modules:
    check_before_matplotlib()
