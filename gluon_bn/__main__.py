"""`python -m gluon_bn`: the command line, see `gluon_bn.cli`."""

import sys

from gluon_bn.cli import main

if __name__ == "__main__":
    sys.exit(main())
