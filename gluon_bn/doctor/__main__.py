"""`python -m gluon_bn.doctor [NAME ...]` runs the named checks, on Python 3.7 or later."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
