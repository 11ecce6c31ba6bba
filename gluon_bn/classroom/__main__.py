"""python -m gluon_bn.classroom summary: what a class gets wrong most. Other commands have their own modules."""

from __future__ import annotations

import sys

from .summary import main

if __name__ == "__main__":
    if sys.argv[1:2] != ["summary"]:
        sys.exit("usage: python -m gluon_bn.classroom summary [--out FOLDER]")
    sys.exit(main(sys.argv[2:]))
