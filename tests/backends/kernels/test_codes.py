"""Kernels that go on to codes of rows, bit for bit: what gives elements, and what is stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find, lower
from qir.backends.lowering.coded import with_codes
from qir.backends.lowering.fuse import fuse
from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.op import Value
from qir.ir.ops import Interpolate, Mul, NormFixed, QuantizeRows, RowScale
from qir.ir.types import I16, I32, U8, Array, Int, Quant, Tensor
from tests.emulated import avx512
from tests.random_graphs import random_inputs

I20 = Int(20, True)


@dataclass
class Rows:
    """A graph of rows of one length whose codes are its results."""

    size: int
    lead: tuple[int, ...] = (2, 3)

    def __post_init__(self) -> None:
        self.b, self.rng = Builder("codes", "integer"), np.random.default_rng(self.size)
        self.results: list[Value] = []

    def input(self, name: str, storage: Int) -> Value:
        quant = Quant.per_tensor(storage, 1e-3, 0)
        return self.b.input(name, Tensor((*self.lead, self.size), quant))

    def codes(self, x: Value, block: int | None = None) -> None:
        scale = self.b.add(RowScale(x, block or self.size))
        self.results += [scale, self.b.add(QuantizeRows(x, scale, block or self.size))]

    def norm(self, x: Value, shift: int, offset: bool = False, fraction: int = 0) -> Value:
        mult = self.rng.integers(1 << 20, 1 << min(31, shift - 10), self.size)
        more = Data(self.rng.integers(-(1 << shift + 9), 1 << shift + 9, self.size))
        mean = Dyadic.of(2.0**fraction / self.size) if offset else None
        to = Quant.per_tensor(I16, 1e-3, 0)
        return self.b.add(
            NormFixed(x, to, Data(mult), more if offset else None, shift, 5, fraction, mean)
        )

    def curve(self, x: Value, storage: Int) -> Value:
        table = self.rng.integers(storage.min, storage.max, 1025, endpoint=True)
        data = Data(table.astype(storage.carrier))
        return self.b.add(Interpolate(x, data, Quant.per_tensor(storage, 1e-3, 0)))

    def graph(self) -> Graph:
        return self.b.finish(self.results)


def every(size: int) -> Graph:
    """Each source of elements."""
    g = Rows(size)
    wide, short, other = g.input("wide", I20), g.input("short", I16), g.input("other", I16)
    g.codes(g.norm(wide, 37))
    g.codes(kept := g.norm(wide, 40, offset=True, fraction=3))
    g.results.append(kept)
    g.codes(g.norm(wide, 31, offset=True))
    g.codes(g.norm(short, 36))
    g.codes(g.curve(short, I16))
    g.codes(kept := g.curve(other, Int(16, False)))
    g.results.append(kept)
    g.codes(g.b.add(Mul(g.curve(short, I16), other)))
    g.codes(g.b.add(Mul(short, g.curve(other, I16))))
    g.codes(g.b.add(Mul(short, other)), next(n for n in (8, 5, 7, 1) if size % n == 0))
    for name, storage in {"i32": I32, "u8": U8, "i20": I20}.items():
        g.codes(g.input(name, storage), next(n for n in (4, 3, 1) if size % n == 0))
    return g.graph()


def drawn(graph: Graph) -> list[list[Array]]:
    """Inputs: any, extreme, small, and rows of zeros."""
    rng = np.random.default_rng(3)
    cases = [random_inputs(graph, rng, extreme=i == 1) for i in range(4)]
    cases[2] = [(x % 7).astype(x.dtype) for x in cases[2]]
    cases[3] = [x * (np.arange(x.shape[1])[None, :, None] % 2).astype(x.dtype) for x in cases[3]]
    return cases


@pytest.mark.parametrize(("size", "target"), [(1, "cpu"), (21, "x86-64"), (344, "cpu")])
def test_codes_of_every_source(size: int, target: str) -> None:
    check(build(every(size), target).files, every(size))


@avx512.needed
def test_codes_on_vectors_of_64_bytes() -> None:
    check(avx512.build(every(40)).files, every(40))


def check(files: dict[str, bytes], graph: Graph) -> None:
    session, cases = runtime.opened(runtime.from_files(files)), drawn(graph)
    for actual, case in zip(session.run_many(cases), cases, strict=True):
        for i, (g, w) in enumerate(zip(actual, interpret(graph, case), strict=True)):
            assert np.array_equal(g, w), i


def test_one_step_makes_elements_scales_and_codes() -> None:
    steps = Counter(s.symbol.rstrip("0123456789") for s in lower(every(40), find("x86-avx2")).steps)
    assert steps == {"rowcodes": 12}
    steps = Counter(s.symbol.rstrip("0123456789") for s in lower(every(40), find("c")).steps)
    assert steps["rowcodes"] == 0 and steps["rowscale"] == steps["quantizerows"] == 12


def test_what_is_read_elsewhere_is_kept() -> None:
    g = Rows(40)
    x = g.input("x", I16)
    product = g.b.add(Mul(x, x))
    g.codes(product)
    g.codes(curve := g.curve(x, I16))
    g.results += [product, g.b.add(Mul(curve, curve))]
    graph = g.graph()
    coded = [f for f in with_codes(graph, fuse(graph)) if f.coded]
    assert [type(f.anchor) for f in coded] == [RowScale, Interpolate]
    assert coded[1].coded is not None and coded[1].coded.keeps_elements
    assert curve in coded[1].results and product not in coded[0].results


def test_other_scales_are_no_part_of_it() -> None:
    g = Rows(40)
    x, y = g.input("x", I16), g.input("y", I16)
    scale = g.b.add(RowScale(y, 40))
    g.results += [scale, g.b.add(QuantizeRows(x, scale, 40))]
    graph = g.graph()
    assert not any(f.coded for f in with_codes(graph, fuse(graph)))
