"""Kernels of sequences at sizes that make vectors, bit for bit: curves of every code, attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find, lower
from qir.backends.kernels.sequence.attention import VectorAttentionCode
from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.ops import AttentionFixed, Hadamard, Interpolate
from qir.ir.types import I8, I16, I32, U1, U8, Array, Int, Quant, Tensor
from tests.emulated import avx512
from tests.emulated.harness import assert_same_bits
from tests.random_graphs import random_inputs


def assert_same(
    graph: Graph, cases: list[list[Array]], targets: tuple[str, ...] = ("cpu", "x86-64")
) -> None:
    wanted = [interpret(graph, case) for case in cases]
    for target in targets:
        session = runtime.opened(runtime.from_files(build(graph, target).files))
        for actual, expected in zip(session.run_many(cases), wanted, strict=True):
            assert np.array_equal(actual[0], expected[0]), target


@pytest.mark.parametrize("storage", [I16, I8, U8, Int(16, False)])
def test_curves_of_every_code(storage: Int) -> None:
    rng = np.random.default_rng(5)
    b = Builder("curve", "integer")
    x = b.input("x", Tensor((1 << 16,), Quant.per_tensor(I16, 0.1, 0)))
    table = rng.integers(storage.min, storage.max, 1025, endpoint=True).astype(storage.carrier)
    y = b.add(Interpolate(x, Data(table), Quant.per_tensor(storage, 0.1, 0)))
    assert_same(b.finish([y]), [[np.arange(-(1 << 15), 1 << 15).astype(np.int16)]])


@pytest.mark.parametrize(("size", "storage"), [(64, I16), (96, I8), (20, I16)])
def test_hadamards(size: int, storage: Int) -> None:
    b, rng = Builder("hadamard", "integer"), np.random.default_rng(size)
    x = b.input("x", Tensor((1, 37, 3 * size), Quant.per_tensor(storage, 0.1, 0)))
    graph = b.finish([b.add(Hadamard(x, size))])
    assert_same(graph, [random_inputs(graph, rng, extreme=i == 1) for i in range(2)])


@dataclass(frozen=True)
class Case:
    """Sizes of an attention, and what its queries see."""

    queries: int
    keys: int
    heads: int
    kv_heads: int
    sizes: tuple[int, int] = (64, 64)
    batch: int = 1
    causal: bool = True
    window: int = 0
    masked: bool = False

    def graph(self) -> Graph:
        b, (d, e) = Builder("attention", "integer"), self.sizes
        narrow = Quant.per_tensor(I8, 0.01, 0)

        def rows(name: str, count: int, width: int) -> Tensor:
            return Tensor((self.batch, count, width), narrow)

        q = b.input("q", rows("q", self.queries, self.heads * d))
        scale = b.input("scale", Tensor((self.batch, self.queries, self.heads), I32))
        k = b.input("k", rows("k", self.keys, self.kv_heads * d))
        v = b.input("v", rows("v", self.keys, self.kv_heads * e))
        bias = visible = ratio = None
        if self.masked:
            each = (1, self.heads, self.queries, self.keys)
            bias = b.input("bias", Tensor(each, Quant.per_tensor(I16, 1e-3, 0)))
            visible = b.input("visible", Tensor((self.batch, 1, 1, self.keys), U1))
            ratio = Dyadic.of(3.3)
        start = b.input("start", Tensor((), I32)) if self.causal else None
        numbers = self.heads, self.kv_heads, self.causal, self.window, 9_000_000, 36
        return b.finish(
            [b.add(AttentionFixed(q, scale, k, v, bias, visible, start, *numbers, ratio))]
        )


CASES = {
    "one query of groups": Case(1, 64, 3, 1),
    "blocks of queries": Case(5, 100, 6, 2),
    "many keys": Case(13, 200, 9, 3),
    "bias and mask": Case(9, 33, 4, 2, (32, 128), 2, False, masked=True),
    "window": Case(7, 40, 4, 4, (96, 64), window=5, masked=True),
    "fewer keys than lanes": Case(3, 5, 2, 1, causal=False),
    "halves of vectors": Case(4, 48, 2, 2, (40, 16)),
    "heads of half a vector": Case(6, 70, 4, 2, (32, 32), 2, masked=True),
}


def drawn(graph: Graph) -> list[list[Array]]:
    rng, cases = np.random.default_rng(6), []
    for i in range(6):
        inputs = random_inputs(graph, rng, extreme=i % 3 == 2)
        at = next(n for n, v in enumerate(graph.inputs) if v.name == "scale")
        if i < 4:  # scales that tell scores apart
            shape = inputs[at].shape
            values = rng.integers(-8, -2, shape) * 256 + rng.integers(128, 256, shape)
            inputs[at] = values.astype(np.int32)
        cases.append(inputs)
    return cases


@pytest.mark.parametrize("case", CASES)
def test_attention(case: str) -> None:
    graph = CASES[case].graph()
    assert_same(graph, drawn(graph))


@avx512.needed
@pytest.mark.parametrize("case", ["blocks of queries", "heads of half a vector"])
def test_attention_on_vectors_of_64_bytes(case: str) -> None:
    graph = CASES[case].graph()
    session, cases = runtime.opened(runtime.from_files(avx512.build(graph).files)), drawn(graph)
    for actual, inputs in zip(session.run_many(cases), cases, strict=True):
        assert np.array_equal(actual[0], interpret(graph, inputs)[0])


@pytest.mark.parametrize("case", ["halves of vectors", "heads of half a vector", "window"])
def test_attention_on_neon(case: str) -> None:
    graph = CASES[case].graph()
    assert_same_bits(graph, "aarch64-dotprod", drawn(graph))


@pytest.mark.parametrize(
    ("target", "size", "products"),
    [
        ("x86-avx512vnni", 64, "vnni512"), ("x86-avx512vnni", 32, "vnni512_halves"),
        ("x86-avx512vnni", 16, "words256"), ("x86-avx2", 32, "words256"),
        ("aarch64-i8mm", 48, "sdot"), ("aarch64", 64, None),
    ],
)  # fmt: skip
def test_products_of_machines(target: str, size: int, products: str | None) -> None:
    graph = Case(4, 40, 2, 1, (size, size)).graph()
    (code,) = lower(graph, find(target)).codes.values()
    assert products == (code.products if isinstance(code, VectorAttentionCode) else None)
