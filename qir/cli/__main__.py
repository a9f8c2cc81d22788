"""`python -m qir.cli`: the same as `python -m qir`."""

import sys

from qir.cli import main

sys.exit(main())
