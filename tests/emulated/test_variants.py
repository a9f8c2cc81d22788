"""An artifact with code for several ARM processors, on emulated ones that lack this or that."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find
from qir.backends.toolchain.link import candidates_of, is_there
from qir.ir.interpret import interpret
from qir.ir.target import Toolchain
from qir.runtime import ArtifactError, Emulated
from tests.emulated.harness import need_emulator
from tests.random_graphs import batch, random_inputs
from tests.small_graphs import artifact, residual_network

CPUS = [
    ("cortex-a53", "aarch64"),
    ("neoverse-n1", "aarch64-dotprod"),
    ("cortex-a76", "aarch64-dotprod"),
    ("max", "aarch64-i8mm"),
]
SEEDS = range(300_100, 300_112)


@pytest.fixture(autouse=True)
def emulator() -> None:
    need_emulator("arm")


def on(cpu: str, loaded: runtime.Loaded, variant: str | None = None) -> Emulated:
    """The artifact on another processor than QEMU's best."""
    return Emulated(loaded, variant=variant, emulator=["qemu-aarch64", "-cpu", cpu])


@cache
def random_graphs() -> runtime.Loaded:
    return runtime.from_files(build(batch(SEEDS), "arm").files)


@pytest.mark.parametrize(("cpu", "variant"), CPUS)
def test_each_processor_runs_the_best_it_can(cpu: str, variant: str) -> None:
    session = on(cpu, runtime.from_files(artifact("arm").files))
    assert session.variant == variant
    assert session.selftest() == 2


@pytest.mark.full
@pytest.mark.parametrize(("cpu", "variant"), CPUS)
def test_random_graphs_equal_the_interpreter(cpu: str, variant: str) -> None:
    graph, rng = batch(SEEDS), np.random.default_rng(0)
    cases = [random_inputs(graph, rng, extreme=bool(case % 2)) for case in range(4)]
    session = on(cpu, random_graphs())
    assert session.variant == variant
    for case, actual in zip(cases, session.run_many(cases), strict=True):
        for y, expected in zip(actual, interpret(graph, case), strict=True):
            assert y.dtype == expected.dtype and np.array_equal(y, expected)


def test_every_variant_runs_where_it_can_and_is_refused_elsewhere() -> None:
    loaded, names = runtime.from_files(artifact("arm").files), ["aarch64", *(v for _, v in CPUS)]
    names = list(dict.fromkeys(names))
    for cpu, best in CPUS:
        for name in names[: names.index(best) + 1]:
            assert on(cpu, loaded, name).selftest() == 2
        for name in names[names.index(best) + 1 :]:
            with pytest.raises(ArtifactError, match=r"status 5 \(the emulated machine cannot run"):
                on(cpu, loaded, name).selftest()


TOOLCHAINS = [t for t in candidates_of(find("arm")) if is_there(t.compiler)]
"""Of the cross compilers this machine has: zig, which the tests' extra brings, and any other."""


@pytest.mark.parametrize("toolchain", TOOLCHAINS, ids=lambda t: t.name)
def test_any_toolchain_serves(toolchain: Toolchain) -> None:
    machine = replace(find("arm"), toolchains=(toolchain,))
    loaded = runtime.from_files(build(residual_network(), machine).files)
    assert "getauxval" in loaded.manifest["proofs"]["undefined_symbols"]
    for cpu, variant in CPUS:
        session = on(cpu, loaded)
        assert session.variant == variant and session.selftest() == 2


def test_the_steps_are_those_of_the_variant() -> None:
    loaded = runtime.from_files(artifact("arm").files)
    for number, (cpu, _) in enumerate(CPUS[:2]):
        assert on(cpu, loaded).steps == loaded.manifest["variants"][number]["steps"]
