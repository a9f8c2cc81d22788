"""Layers whose sums are scaled by rows, bit for bit: the forms, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from qir import runtime
from qir.backends import build, find, lower
from qir.backends.kernels.contraction.dense import DenseCode
from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.ops import Constant, Linear, QuantizeRows, RowScale, ScaleRows
from qir.ir.types import I8, I16, I32, Array, Int, Quant, Tensor
from qir.passes.integer.storing import mantissas
from tests.emulated import avx512
from tests.random_graphs import random_inputs

I20, WIDTH, OUT, ROWS = Int(20, True), 40, 21, 5

Numbers = tuple[Int, float, int, Int | None]
"""Storage of y, steps of y in those of sums, reach of the bias (0: none), storage of a residual."""

CASES: Mapping[str, Numbers] = {
    "words": (I16, 10.0, 0, None),
    "bytes": (I8, 12.0, 0, None),
    "bias": (I16, 10.0, 1 << 20, None),
    "residual": (I20, 13.0, 0, I20),
    "bias and residual": (I20, 13.0, 1 << 24, I16),
    "a bias beyond words": (I16, 10.0, 1 << 40, None),
    "steps so small that rows saturate": (I16, -14.0, 1 << 12, I16),
    "steps so large that nothing is left": (I16, 40.0, 1 << 12, None),
}


def graph(storage: Int = I16, spread: float = 3.0) -> Graph:
    """A layer for each case; `spread`: of the logarithms of the scales of channels."""
    rng, b, results = np.random.default_rng(7), Builder("layers", "integer"), []
    x = b.input("x", Tensor((1, ROWS, WIDTH), Quant.per_tensor(storage, 0.1, 0)))
    scale = b.add(RowScale(x, WIDTH))
    codes = b.add(QuantizeRows(x, scale, WIDTH))
    for i, (to, steps, reach, other) in enumerate(CASES.values()):
        scales = 2.0 ** rng.uniform(-8 - spread, -8, OUT)
        elem = Quant.per_axis(I8, scales, 0, 0)
        w = b.add(Constant.of(rng.integers(-127, 128, (OUT, WIDTH)).astype(np.int8), elem), f"w{i}")
        acc = b.add(Linear(codes, w, None))
        step = float(codes.type.quant.scale.array) * 2.0 ** (steps - 8)
        mult, shift = map(Data, mantissas(acc.type.quant.scale.array / step))
        bias = Data(rng.integers(-reach, reach, OUT)) if reach else None
        residual, more = None, (0, 9)
        if other is not None:
            kind = Tensor((1, ROWS, OUT), Quant.per_tensor(other, step * 0.7, 0))
            residual = b.input(f"residual{i}", kind)
            one = Dyadic.of(0.7)
            more = int(one.mult.array), int(one.shift.array)
        elem = Quant.per_tensor(to, step, 0)
        results.append(b.add(ScaleRows(acc, scale, residual, elem, mult, shift, bias, *more)))
    return b.finish(results)


def inputs(graph: Graph) -> list[list[Array]]:
    rng = np.random.default_rng(8)
    cases = [random_inputs(graph, rng, extreme=i == 1) for i in range(3)]
    for row, right in enumerate((0, 3, 9, 13, 31)):  # rows of many lengths, one of zeros
        cases[0][0][:, row] >>= right if cases[0][0].dtype == np.int32 else right % 16
    return cases


def check(files: dict[str, bytes], graph: Graph) -> None:
    session, cases = runtime.opened(runtime.from_files(files)), inputs(graph)
    for actual, case in zip(session.run_many(cases), cases, strict=True):
        for name, g, w in zip(CASES, actual, interpret(graph, case), strict=True):
            assert np.array_equal(g, w), name


@pytest.mark.parametrize(("storage", "spread"), [(I16, 3.0), (I32, 3.0), (I16, 12.0)])
def test_every_form(storage: Int, spread: float) -> None:
    check(build(graph(storage, spread)).files, graph(storage, spread))


@pytest.mark.full
@avx512.needed
def test_every_form_on_vectors_of_64_bytes() -> None:
    check(avx512.build(graph()).files, graph())


def forms(of: Graph, target: str) -> dict[str, bool]:
    """Whether high words are enough, by case."""
    program = lower(of, find(target))
    codes = [program.codes[step.symbol] for step in program.steps]
    tails = [code.rows for code in codes if isinstance(code, DenseCode)]
    return {name: tail.is_high for name, tail in zip(CASES, tails, strict=True) if tail}


@pytest.mark.parametrize("target", ["x86-avx2", "x86-avx512vnni", "aarch64-dotprod"])
def test_high_words_are_enough_for_steps_that_suit(target: str) -> None:
    long = ("a bias beyond words", "steps so small that rows saturate")
    long += ("steps so large that nothing is left",)
    assert forms(graph(), target) == {name: name not in long for name in CASES}


def test_scales_too_far_apart_need_64_bits() -> None:
    assert not any(forms(graph(spread=12.0), "x86-avx2").values())
