"""Code for several processors in one artifact: the right one is chosen, and all give equal bits."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import qir
from qir import runtime
from qir.backends import build, find
from qir.backends.artifact.artifact import Artifact
from qir.backends.c.dispatch import symbol
from qir.backends.c.features import BITS, WORDS, required_bits
from qir.backends.lowering import variants
from qir.backends.proofs.disassembly import NEWEST, OLDEST
from qir.backends.proofs.instructions import OF_KERNELS
from qir.backends.proofs.machine_code import prove
from qir.cli import main
from qir.ir.errors import LowerError
from qir.ir.graph import Graph
from qir.ir.interpret import interpret
from qir.ir.types import Array
from qir.runtime import DataError, MachineError
from qir.runtime.machine import cpu_flags
from tests.random_graphs import batch, random_inputs
from tests.small_graphs import artifact, residual_network, stored_inputs, two_branches

X86 = find("x86")
NAMES = [v.name for v in X86.variants]

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")


@cache
def loaded() -> runtime.Loaded:
    return runtime.from_files(artifact("x86").files)


def here() -> list[str]:
    """The variants that this machine can run."""
    return [v.name for v in X86.variants if set(v.needs) <= cpu_flags()]


def assert_same_bits(
    session: runtime.Program, graph: Graph, cases: Sequence[Sequence[Array]]
) -> None:
    for case, actual in zip(cases, session.run_many(cases), strict=True):
        for y, expected in zip(actual, interpret(graph, case), strict=True):
            assert y.dtype == expected.dtype and np.array_equal(y, expected), session.variant


def test_the_best_variant_runs_unless_another_is_wanted() -> None:
    session = runtime.opened(loaded())
    assert session.variants == tuple(NAMES)
    assert session.variant == here()[-1]
    for name in here():
        other = runtime.opened(loaded(), variant=name)
        assert other.variant == name and other.selftest() == 2
    assert session.variant == here()[-1]  # each session has a library of its own


def test_what_the_machine_cannot_run_is_refused() -> None:
    for variant in X86.variants:
        if missing := [need for need in variant.needs if need not in cpu_flags()]:
            with pytest.raises(MachineError) as e:
                runtime.opened(loaded(), variant=variant.name)
            assert e.value.text == (
                f"artifact small: variant {variant.name} is for CPUs with {', '.join(missing)},"
                " which this one lacks"
            )
    with pytest.raises(DataError, match="small: variant 'x86-avx', one of those it has is needed"):
        runtime.opened(loaded(), variant="x86-avx")
    with pytest.raises(DataError, match="variant 'x86-64', one of those it has is needed: none"):
        runtime.opened(runtime.from_files(artifact().files), variant="x86-64")
    assert runtime.opened(runtime.from_files(artifact().files)).variant is None


@pytest.mark.parametrize("make", [residual_network, two_branches])
def test_every_variant_equals_the_interpreter(make: object) -> None:
    graph = make()  # type: ignore[operator]
    built = runtime.from_files(build(graph, "x86").files)
    cases = [list(stored_inputs(graph, seed)) for seed in range(4)]
    for name in here():
        assert_same_bits(runtime.opened(built, variant=name), graph, cases)


def test_random_graphs_equal_the_interpreter() -> None:
    first = 300_000
    graph, rng = batch(range(first, first + 12)), np.random.default_rng(first)
    built = runtime.from_files(build(graph, "x86").files)
    cases = [random_inputs(graph, rng, extreme=bool(case % 2)) for case in range(4)]
    for name in here():
        assert_same_bits(runtime.opened(built, threads=2, variant=name), graph, cases)


def test_steps_are_timed_of_the_variant_that_runs() -> None:
    manifest = loaded().manifest
    assert manifest["steps"] == manifest["variants"][-1]["steps"]
    for name in here():
        session = runtime.opened(loaded(), variant=name)
        timed = session.profile(*session.golden()[0][0])
        assert [step for step, _ in timed] == manifest["variants"][NAMES.index(name)]["steps"]
        assert all(spent > 0 for _, spent in timed)


def test_users_choose_and_see_the_variant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = qir.compile(residual_network(), target="x86")
    assert net.report().variants == tuple(NAMES) and net.session.variant == here()[-1]
    assert f" for x86 ({', '.join(NAMES)}): " in str(net.report())
    path = str(net.save(tmp_path / "small.qir"))
    assert qir.load(path, variant="x86-64").session.variant == "x86-64"
    np.save(tmp_path / "x.npy", stored_inputs(residual_network())[0])
    options = ["--input", str(tmp_path / "x.npy"), "--integer"]
    assert main(["run", path, *options, "--variant", "x86-64"]) == 0
    assert main(["run", path, *options, "--variant", "x86-32"]) != 0
    assert "variant 'x86-32', one of those it has is needed" in capsys.readouterr().err
    assert main(["bench", path, "--seconds", "0.1", "--variant", "x86-64"]) == 0
    assert " for x86-64, 1 thread: least " in capsys.readouterr().out


# -- one artifact


@pytest.mark.parametrize("target", ["x86", "arm"])
def test_building_twice_gives_the_same_bytes(target: str) -> None:
    one, two = artifact(target), build(residual_network(), target)
    assert {n: c for n, c in two.files.items() if one.files[n] != c} == {}


def test_programs_share_memory_and_constants() -> None:
    graph, target = residual_network(), find("arm")
    programs = variants.lower_all(graph, target, "small")
    alone = [variants.lower_all(graph, v, "small")[0] for v in target.variants]
    assert len({p.weights for p in programs}) == len({p.workspace_bytes for p in programs}) == 1
    assert programs[0].workspace_bytes == max(p.workspace_bytes for p in alone)
    assert len(programs[0].weights) < sum(len(p.weights) for p in alone[1:])
    assert [p.variant for p in programs] == list(target.variants) and alone[0].variant is None
    texts = artifact("arm").files["program.txt"].decode().split("\n\n")
    assert [t.split()[2] for t in texts] == [f"variant={v}" for v in target.variants]


def test_the_whole_needs_what_its_first_variant_needs() -> None:
    for target in (X86, find("arm")):
        assert target.needs == target.variants[0].needs
        manifest = artifact(target.name).manifest
        assert [v["needs"] for v in manifest["variants"]] == [
            list(v.needs) for v in target.variants
        ]
        every = [v.features for v in target.variants]
        assert all(set(every[0]) <= set(features) for features in every)


@pytest.mark.skipif(
    not any(shutil.which(f"llvm-objdump-{n}") for n in range(OLDEST, NEWEST)),
    reason="llvm-objdump: not found; apt-get install llvm-22",
)
@pytest.mark.parametrize("name", ["x86", "arm"])
def test_the_kernels_of_each_variant_use_its_own_dots(name: str) -> None:
    built = artifact(name)
    findings = prove(built.manifest, built.files["small.o"], built.target)
    dots_by_symbol = {body.symbol: body.dots for body in findings.bodies}
    for program in variants.lower_all(residual_network(), built.target, "small"):
        for kernel, code in program.codes.items():
            if expected := OF_KERNELS.get(getattr(code, "dot", "")):
                assert dots_by_symbol[symbol(program, kernel)].get(expected, 0) > 0, (
                    program.variant,
                    kernel,
                )


# -- the choice, on machines that QEMU makes up

CHOICE = """
#include "small.h"
#include <stdio.h>
int main(void) {
    printf("%d", small_variant());
    for (int i = -1; i <= SMALL_VARIANTS; i++) {
        const int status = small_use_variant(i);
        printf(" %d:%d", status, small_variant());
    }
    printf("\\n");
    return 0;
}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifact, its self-test and a program that tries every variant."""
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not installed: apt-get install qemu-user")
    built: Artifact = artifact("x86")
    home = built.save(tmp_path_factory.mktemp("x86") / "small.qir")
    (home / "choice.c").write_text(CHOICE)
    for name in ("choice", "small_test"):
        command = ["cc", "-O1", "-Wall", "-Werror", f"{name}.c", "libsmall.a", "-lpthread"]
        subprocess.run([*command, "-o", name], cwd=home, check=True)
    return home


@pytest.mark.parametrize(
    ("cpu", "said"),
    [
        ("qemu64", "0 0:0 0:0 2:0 2:0 2:0 1:0"),
        ("Haswell", "1 0:1 0:0 0:1 2:1 2:1 1:1"),
        ("Haswell,-avx2", "0 0:0 0:0 2:0 2:0 2:0 1:0"),
        ("Haswell,-bmi2", "0 0:0 0:0 2:0 2:0 2:0 1:0"),
        ("Haswell,-abm", "0 0:0 0:0 2:0 2:0 2:0 1:0"),
        ("Haswell,-xsave", "0 0:0 0:0 2:0 2:0 2:0 1:0"),  # the system keeps no ymm
    ],
)
def test_what_a_processor_lacks_is_not_used(programs: Path, cpu: str, said: str) -> None:
    """The best variant, then (status: variant) after asking for -1, 0, 1, 2, 3 and 4."""
    run = ["qemu-x86_64", "-cpu", cpu]
    process = subprocess.run([*run, "./choice"], cwd=programs, capture_output=True, text=True)
    assert (process.returncode, process.stdout.strip()) == (0, said), process.stderr
    tested = subprocess.run([*run, "./small_test"], cwd=programs, capture_output=True, text=True)
    assert tested.stdout == "small: 2 cases, 20 bytes of output, 0 wrong\n", tested.stderr


# -- bits of features


def test_masks_hold_the_bits_of_the_features() -> None:
    assert required_bits(find("x86-64")) == (0,) * WORDS["x86_64"]
    assert required_bits(find("aarch64-i8mm")) == (1 << 1 | 1 << 20, 1 << 13)
    assert required_bits(find("x86-avxvnni"))[3:] == (1 << 4, 1 << 5, 0b110)
    assert required_bits(find("x86-avx512vnni"))[5] == 0b11100110
    for architecture, bits in BITS.items():
        places = [place for of in bits.values() for place in of]
        assert len(set(places)) == len(places)
        assert all(w < WORDS[architecture] and b < 32 for w, b in places)


def test_a_feature_that_cannot_be_asked_for_is_named() -> None:
    with pytest.raises(LowerError, match="features of riscv64 cannot be asked for, one of x86_64,"):
        required_bits(find("riscv64"))
    odd = replace(find("aarch64"), features=("neon", "sve9"))
    with pytest.raises(LowerError, match="target aarch64: no bit known for sve9, one is needed"):
        required_bits(odd)
