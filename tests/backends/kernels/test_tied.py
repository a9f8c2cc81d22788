"""An embedding reads its rows out of the weights of the head that is tied to it, as that packs
them: the same bits, and the matrix is there once.
"""

from __future__ import annotations

import platform

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find, lower
from qir.backends.artifact.artifact import Artifact
from qir.ir.data import Data
from qir.ir.fixed import Dyadic, one_shift
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.ops import Constant, Embed, Linear, QuantizeRows, RowScale, ScaleRows
from qir.ir.types import I3, I4, I8, I16, I32, Int, Quant, Tensor
from qir.runtime.machine import cpu_flags
from tests.emulated.harness import need_emulator

CASES = [((300, 64), I8), ((70, 37), I8), ((5, 130), I4), ((70, 37), I3)]
X86 = find("x86").variants
NATIVE = [v.name for v in X86 if platform.machine() == "x86_64" and set(v.needs) <= cpu_flags()]


def tied(count: int, width: int, storage: Int = I8) -> Graph:
    """ids -> rows of a table -> logits by the same table."""
    rng, b = np.random.default_rng(count), Builder("tied", "integer")
    scales = rng.uniform(0.5, 1.0, count) / 64
    stored = rng.integers(storage.min, storage.max + 1, (count, width)).astype(np.int8)
    table = b.add(Constant.of(stored, Quant.per_axis(storage, scales, 0, 0)), "table")
    ids = b.input("ids", Tensor((1, 5), I32))
    wide = Quant.per_tensor(I16, 2.0**-12, 0)
    mult, shift = one_shift(scales / 2.0**-12)
    x = b.add(Embed(table, ids, wide, Data(np.asarray(mult, np.int64)), shift), "x")
    scale = b.add(RowScale(x, width), "scale")
    acc = b.add(Linear(b.add(QuantizeRows(x, scale, width), "codes"), table, None), "acc")
    step = 2.0**-6
    by = Dyadic.of(acc.type.quant.scale.array / step, 24)
    to = Quant.per_tensor(I16, step, 0)
    return b.finish([b.add(ScaleRows(acc, scale, None, to, by.mult, by.shift, None, 0, 9)), x])


def assert_same(graph: Graph, built: Artifact, **options: object) -> None:
    count = graph.producers["x"].operands[0].type.shape[0]
    session = runtime.opened(runtime.from_files(built.files), **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    for ids in ([0, 1, count - 1, count // 2, 0], rng.integers(0, count, 5)):
        given = np.array([ids], np.int32)
        for actual, expected in zip(
            session.run_many([[given]])[0], interpret(graph, [given]), strict=True
        ):
            assert np.array_equal(actual, expected), graph.producers["x"].operands[0].type


@pytest.mark.parametrize(("size", "storage"), CASES, ids=str)
def test_on_this_machine(size: tuple[int, int], storage: Int) -> None:
    graph = tied(*size, storage)
    assert_same(graph, build(graph, "c"))
    built = build(graph, "x86" if NATIVE else "cpu")
    for variant in NATIVE or [None]:
        assert_same(graph, built, variant=variant)


@pytest.mark.parametrize("target", ["aarch64", "riscv64", "hexagon-v68"])
def test_on_emulated_machines(target: str) -> None:
    need_emulator(target)
    graph = tied(70, 37)
    assert_same(graph, build(graph, target), emulate=True)


@pytest.mark.parametrize("target", ["x86-avx512vnni", "x86-avx2", "aarch64", "riscv64", "c"])
def test_the_matrix_is_there_once(target: str) -> None:
    count, width = 1024, 512
    blob = len(lower(tied(count, width), find(target)).weights)
    of_rows = 64 * count  # multipliers of the embedding, records of the head
    assert count * width < blob < count * width + of_rows
