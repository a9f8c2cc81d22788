"""Which ids count, and their positions: against the arithmetic that models write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.errors import VerifyError
from qir.ir.op import Op, Value
from qir.ir.ops import Positions, Within
from qir.ir.types import F32, I32, I64, U1, Array, Elem, Int, Tensor

ROWS = st.lists(st.integers(-3, 3), min_size=1, max_size=9)


def both(op: Op, x: Array) -> Array:
    """The result of an op on integers, which is that on tensors."""
    y = np.asarray(op.evaluate(x))
    assert y.dtype == op.result.type.elem.carrier
    assert np.array_equal(op.compute(torch, torch.from_numpy(x)).numpy(), y)
    return y


def value(x: Array, elem: Elem) -> Value:
    return Value("x", Tensor(x.shape, elem))


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(-2, 2), st.integers(-2, 2), st.booleans())
def test_within(row: list[int], low: int, high: int, outside: bool) -> None:
    x = np.array(row, np.int32)
    y = both(Within(value(x, I32), low, high, outside, names=("y",)), x)
    assert y.tolist() == [(low <= i <= high) != outside for i in row]


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(-4, 4), st.none() | st.integers(-4, 4))
def test_positions(row: list[int], first: int, hidden: int | None) -> None:
    bits = (np.array([row, row[::-1]]) > 0).astype(np.uint8)
    y = both(Positions(value(bits, U1), first, hidden, names=("y",)), bits)
    counted = np.cumsum(bits.astype(np.int64), 1) - 1 + first
    assert np.array_equal(y, counted if hidden is None else np.where(bits, counted, hidden))


def test_ends_of_64_bits() -> None:
    x = np.array([-(1 << 63), -1, (1 << 63) - 1])
    y = Within(value(x, I64), -(1 << 62), 1 << 62, True, names=("y",)).evaluate(x)
    assert y.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (Within(Value("x", Tensor((3,), F32)), 0, 1, False, names=("y",)), "integers of at most"),
        (Within(Value("x", Tensor((3,), Int(64, False))), 0, 1, False, names=("y",)), "63 bits"),
        (Positions(Value("x", Tensor((3,), I32)), 0, None, names=("y",)), "bits .* are needed"),
        (Positions(Value("x", Tensor((), U1)), 0, None, names=("y",)), "bits .* are needed"),
    ],
)
def test_refusals(op: Op, why: str) -> None:
    with pytest.raises(VerifyError, match=why):
        op.infer()


def test_positions_beyond_32_bits_are_no_proof() -> None:
    op = Positions(Value("x", Tensor((3,), U1)), (1 << 31) - 3, None, names=("y",))
    assert all(e.fits for e in op.extremes(None))
    late = Positions(Value("x", Tensor((3,), U1)), (1 << 31) - 2, None, names=("y",))
    assert not all(e.fits for e in late.extremes(None))
