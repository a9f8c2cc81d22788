"""python -m tests.stress NAME COUNT ...: tampered 5000, calls 100000, loads 1000, pools 10000,
forks 500, saves 200, sequences 1000, or tampered-entries 5000.
"""

from __future__ import annotations

import faulthandler
import sys
import tempfile
import time
from pathlib import Path

import qir
from tests.small_graphs import residual_network
from tests.stress import calls, forks, loads, saves, sequences, tampered

CHECKS = {
    "tampered": tampered.check,
    "calls": calls.check,
    "loads": loads.check,
    "pools": loads.check_pools,
    "forks": forks.check,
    "saves": saves.check,
    "sequences": sequences.check,
    "tampered-entries": tampered.check_entries,
}


def main() -> None:
    """Run checks on a small artifact; a figure or two of each, or the first thing that is wrong."""
    faulthandler.enable()
    for name, count in zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True):
        with tempfile.TemporaryDirectory(prefix="qir-stress-") as folder:
            path = qir.compile(residual_network()).save(Path(folder) / "small.qir")
            begin = time.monotonic()
            figures = CHECKS[name](path, count)
            print(f"{name} {count}: {figures}; {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
