"""`python -m gluon_bn.doctor [NAME ...]` runs the checks named, on any Python from 3.7 on."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
