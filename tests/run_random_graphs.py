"""Compares artifacts of random integer graphs with the interpreter, bit for bit, and proves that
their machine code holds no float.

python -m tests.run_random_graphs --graphs 1000 [--start 0] [--batch 50] [--target cpu riscv64 ...]
    [--family sequences]

A batch of graphs is grown and interpreted once, becomes one artifact for each target, and runs in
one process: those for other machines under their emulators. Beside the targets of `qir targets` go
machines for which the portable C is compiled (`tests/emulated/portable.py`), such as
s390x-linux-musl. C is compiled with -O1: kernels in portable C are tested as text.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from qir import runtime
from qir.backends import Artifact, build, find
from qir.backends.c import dispatch
from qir.backends.proofs.machine_code import prove
from qir.ir.errors import QirError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.types import Array
from tests.emulated.portable import MACHINES, self_test
from tests.random_graphs import FAMILIES, batch, random_inputs

CASES = 4  # inputs for each graph: half of them extreme
THREADS, PIECE = 3, 64  # that machines like this one use too; the bytes of work worth one


@dataclass(frozen=True)
class Sample:
    """Random graphs in one; inputs for them, case by case, and the interpreter's outputs."""

    graph: Graph
    cases: list[list[Array]]
    wanted: list[tuple[Array, ...]]


@lru_cache(maxsize=1)
def sample(seeds: Sequence[int], family: str) -> Sample:
    """The sample of these seeds, kept for the next target."""
    graph, rng = batch(seeds, family=family), np.random.default_rng(seeds[0])
    cases = [random_inputs(graph, rng, extreme=case % 2 == 1) for case in range(CASES)]
    return Sample(graph, cases, [tuple(interpret(graph, case)) for case in cases])


def made(seeds: Sequence[int], family: str, target: str) -> Artifact:
    """Their artifact, its golden cases those of the sample. The C around its kernels is compiled in
    a short time; the kernels are a user's, except in portable C. Threads take small pieces.
    """
    given, machine = sample(seeds, family), find(target)
    short = replace(machine, c_flags=(*machine.c_flags, "-O1"))
    with patch.object(dispatch, "THREAD_BYTES", PIECE):
        return build(given.graph, short, "prog", given.cases)


portable = lru_cache(maxsize=1)(partial(made, target="c"))
"""Their artifact in C, kept for the next machine."""


def differences(seeds: Sequence[int], target: str, family: str) -> list[str]:
    """What is not equal between the artifact and the interpreter; empty when all is."""
    if target in MACHINES:
        with tempfile.TemporaryDirectory() as folder:
            saved = portable(seeds, family).save(Path(folder) / "prog.qir")
            fault = self_test(saved, "prog", target, "-O1")
        return [fault] if fault else []
    network = sample(seeds, family)
    artifact = portable(seeds, family) if target == "c" else made(seeds, family, target)
    prove(artifact.manifest, artifact.files[f"{artifact.name}.o"], artifact.target)
    emulate = bool(artifact.target.emulator)
    results = []
    for threads in (1,) if emulate else (1, THREADS):
        loaded = runtime.from_files(artifact.files)
        session = runtime.opened(loaded, threads=threads, emulate=emulate)
        for case, outputs in enumerate(session.run_many(network.cases)):
            expected = network.wanted[case]
            for name, y, w in zip(network.graph.output_names, outputs, expected, strict=True):
                if y.dtype != w.dtype or not np.array_equal(y, w):
                    wrong = int(np.count_nonzero(y != w))
                    place = f"{name}, case {case}, {threads} threads"
                    results.append(f"{place}: {wrong} of {w.size} elements differ")
    return results


def check(seeds: Sequence[int], target: str, family: str = "all") -> list[str]:
    """The faults of these graphs, built together; when that cannot be built or run, each alone."""
    try:
        return differences(seeds, target, family)
    except (QirError, runtime.ArtifactError) as e:
        if len(seeds) == 1:
            return [f"g{seeds[0]}: {type(e).__name__}: {e}"]
        each = [range(seed, seed + 1) for seed in seeds]
        return [fault for seed in each for fault in check(seed, target, family)]


def main() -> int:
    """Exit status 0 when every graph is equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--graphs", type=int, default=40)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--target", nargs="+", default=["cpu"])
    parser.add_argument("--family", choices=FAMILIES, default="all")
    options = parser.parse_args()
    faults, seconds, ops = Counter[str](), Counter[str](), Counter[str]()
    end = options.start + options.graphs
    for first in range(options.start, end, options.batch):
        seeds = range(first, min(first + options.batch, end))
        ops.update(op.mnemonic for op in sample(seeds, options.family).graph.ops)
        for target in options.target:
            begin = time.monotonic()
            found = check(seeds, target, options.family)
            faults[target] += len(found)
            seconds[target] += round(time.monotonic() - begin)
            print(
                f"{target}: {seeds[-1] + 1 - options.start} graphs, {faults[target]} faults,"
                f" {seconds[target]} s",
                flush=True,
            )
            for fault in found[:5]:
                print(f"  {fault}", flush=True)
    print(", ".join(f"{name} {count}" for name, count in sorted(ops.items())))
    return 1 if faults.total() else 0


if __name__ == "__main__":
    sys.exit(main())
