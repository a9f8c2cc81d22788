"""Compares artifacts of random integer graphs with the interpreter, bit for bit.

python -m tests.run_random_graphs --graphs 2000 [--start 0] [--target cpu] [--batch 20]
    [--family sequences]

Those for other machines run under their emulators.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from qir import runtime
from qir.backends import build, find
from qir.ir.errors import QirError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from tests.random_graphs import FAMILIES, batch, random_inputs

CASES = 4  # inputs for each graph: half of them extreme


def differences(graph: Graph, target: str, seed: int) -> list[str]:
    """What is not equal between the artifact of `graph` and the interpreter; empty when all is."""
    emulate = bool(find(target).emulator)
    session = runtime.opened(runtime.from_files(build(graph, target).files), emulate=emulate)
    rng = np.random.default_rng(seed)
    cases = [random_inputs(graph, rng, extreme=case % 2 == 1) for case in range(CASES)]
    found = []
    for case, got in enumerate(session.run_many(cases)):
        for name, y, w in zip(graph.output_names, got, interpret(graph, cases[case]), strict=True):
            if y.dtype != w.dtype or not np.array_equal(y, w):
                wrong = int(np.count_nonzero(y != w))
                found.append(f"{name}, case {case}: {wrong} of {w.size} elements differ")
    return found


def check(seeds: Sequence[int], target: str, family: str = "all") -> list[str]:
    """The faults of these graphs, built together; when the build fails, each alone."""
    try:
        return differences(batch(seeds, family=family), target, seeds[0])
    except QirError as e:
        if len(seeds) == 1:
            return [f"g{seeds[0]}: {type(e).__name__}: {e}"]
        return [fault for seed in seeds for fault in check([seed], target, family)]


def main() -> int:
    """Exit status 0 when every graph is equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--graphs", type=int, default=40)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--family", choices=FAMILIES, default="all")
    options = parser.parse_args()
    begin, faults, ops = time.time(), [], Counter[str]()
    for first in range(options.start, options.start + options.graphs, options.batch):
        seeds = range(first, min(first + options.batch, options.start + options.graphs))
        ops.update(op.mnemonic for op in batch(seeds, family=options.family).ops)
        faults += check(seeds, options.target, options.family)
        print(
            f"{seeds[-1] + 1 - options.start} graphs, {len(faults)} faults,"
            f" {time.time() - begin:.0f} s",
            flush=True,
        )
        for fault in faults[-5:]:
            print(f"  {fault}")
    print(", ".join(f"{name} {count}" for name, count in sorted(ops.items())))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
