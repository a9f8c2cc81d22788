"""Builds an artifact for another machine, runs it under that machine's emulator, and compares."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.types import Array
from qir.runtime.emulated import package

TARGETS = (
    "aarch64",
    "aarch64-dotprod",
    "aarch64-i8mm",
    "armv7",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "hexagon-v66",
    "hexagon-v68",
    "riscv64",
)
"""Machines that differ in the kernels they get."""

KINDS = ("aarch64-dotprod", "aarch64-i8mm", "armv7", "cortex-m4", "hexagon-v68", "riscv64")
"""One of each kind of machine: those whose kernels differ most."""

MACHINES = [t if t in KINDS else pytest.param(t, marks=pytest.mark.full) for t in TARGETS]
"""All of them, as parameters of a test; those beside KINDS in the full suite."""


def need_emulator(target: str) -> None:
    """Skip the test where the emulator of `target` is not installed."""
    program = find(target).emulator[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {package(program)}")


def session(graph: Graph, target: str) -> runtime.Program:
    """The artifact of `graph`, under the emulator of its machine."""
    return runtime.opened(runtime.from_files(build(graph, target).files), emulate=True)


def assert_same_bits(
    graph: Graph,
    target: str,
    cases: Sequence[Sequence[Array]],
    wanted: Sequence[Sequence[Array]] | None = None,
) -> None:
    """Every output of every case is the interpreter's; `wanted` holds it where it is known."""
    need_emulator(target)
    known = wanted or [interpret(graph, case) for case in cases]
    outputs = session(graph, target).run_many(cases)
    for number, (actual, expected) in enumerate(zip(outputs, known, strict=True)):
        for name, y, w in zip(graph.output_names, actual, expected, strict=True):
            assert y.dtype == w.dtype and y.shape == w.shape, (target, name)
            wrong = int(np.count_nonzero(y != w))
            assert wrong == 0, f"{target}: {name}, case {number}: {wrong} of {w.size} differ"
