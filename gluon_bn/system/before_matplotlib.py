"""Imported before matplotlib: raises InputError if there is no home folder, which matplotlib needs."""

import sys

from .settings import check_before_matplotlib

if 'matplotlib' not in sys.modules:
    check_before_matplotlib()
