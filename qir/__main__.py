"""`python -m qir`: the command line."""

import sys

from qir.cli import main

sys.exit(main())
