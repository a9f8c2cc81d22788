"""Rows in blocks with steps of their own: integers as the simulation, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder
from qir.ir.interpret import interpret
from qir.ir.ops import Constant, Linear, QuantizeRowBlocks, RoundRowBlocks, RowScale
from qir.ir.ranges import prove_no_overflow
from qir.ir.rows import code_top, exponent, mantissa
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, I8, I16, I32, Array, Quant, Tensor


def coded(x: Array, block: int, bits: int, spread: int) -> tuple[Array, Array, str]:
    """Integers, the reals of one of them in each row, and their storage."""
    b = Builder("rows", "integer")
    value = b.input("x", Tensor(x.shape, Quant.per_tensor(I32, 1.0, 0)))
    scale = b.add(RowScale(value, x.shape[-1]))
    y = b.add(QuantizeRowBlocks(value, scale, block, bits, spread))
    graph = b.finish([y, scale])
    prove_no_overflow(graph)
    codes, scales = interpret(graph, [x.astype(np.int32)])
    unit = mantissa(scales) * 2.0 ** exponent(scales) / (code_top(bits) << spread)
    return codes, unit, str(y.type.quant.storage)


@pytest.mark.parametrize("seed", range(24))
def test_the_integers_are_those_of_the_simulation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    block, bits = 1 << seed % 4, 2 + seed % 7
    spread, reach = (int(n) for n in rng.integers(0, (8, 31)))
    x = (rng.standard_normal((3, 8)) * 2.0 ** rng.integers(0, 8, 8) * 2.0**reach / 2**12).round()
    x = np.clip(x, -(2**31), 2**31 - 1)
    codes, unit, _ = coded(x, block, bits, spread)
    b = Builder("reals", "canonical")
    value = b.input("x", Tensor(x.shape, F32))
    graph = b.finish([b.add(RoundRowBlocks(value, block, bits, spread))])
    (want,) = run_float(graph, [x.astype(np.float32)])
    step = unit * 2.0**spread  # of the row; ties and 16 aligned bits decide the last of a code
    assert np.all(np.abs(codes * unit - want) <= 1.01 * step)
    assert np.mean(np.abs(codes * unit - want) > 1e-3 * step) < 0.2


def test_a_block_is_as_fine_as_it_is_small() -> None:
    x = np.array([[2**20, -3 * 2**18, 1000, 900, 2**15, 7, 0, 0]])
    codes, unit, storage = coded(x, 2, 8, 7)
    assert storage == "i16" and np.abs(codes).max() <= 127 << 7
    error = np.abs(codes * unit - x)[0]
    assert error[0] < 2**12 and error[2] < 64 and error[4] < 256 and not error[6:].any()
    whole, coarse, _ = coded(x, 8, 8, 0)
    assert np.array_equal(whole[0, 6:], [0, 0]) and np.abs(whole * coarse - x)[0, 2] == 1000
    assert [coded(x, 2, b, 8 - b)[2] for b in (2, 4, 6)] == ["i8"] * 3


def test_sums_are_proven_for_every_scale() -> None:
    b = Builder("sums", "integer")
    x = b.input("x", Tensor((1, 64), Quant.per_tensor(I32, 1.0, 0)))
    scale = b.input("scale", Tensor((1, 1), I32))
    codes = b.add(QuantizeRowBlocks(x, scale, 32, 8, 7))
    w = b.add(Constant.of(np.full((2, 64), 100, np.int8), Quant.per_axis(I8, [1.0, 1.0], 0, 0)))
    graph = b.finish([b.add(Linear(codes, w, None))])
    assert codes.type.quant.storage == I16
    ends = [one.extreme.bounds.ends for one in prove_no_overflow(graph)]
    assert (-64 * 100 * (127 << 7), 64 * 100 * (127 << 7)) in ends


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ((3, 8, 7), "a divisor of the last axis is needed"),
        ((4, 9, 0), "9 bits, spread 0, 2 to 8 bits and a spread up to 7 are needed"),
        ((4, 8, 8), "8 bits, spread 8, 2 to 8 bits and a spread up to 7 are needed"),
    ],
)
def test_what_is_refused(form: tuple[int, int, int], why: str) -> None:
    b = Builder("rows", "canonical")
    x = b.input("x", Tensor((1, 8), F32))
    with pytest.raises(VerifyError, match=why):
        b.add(RoundRowBlocks(x, *form))
