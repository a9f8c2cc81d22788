"""The properties that op classes declare, compared with what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.data import Data
from qir.ir.op import OPS, REALS, Interval, Op, Value, op_fields
from qir.ir.ops import (
    AvgPool,
    Bilinear,
    Concat,
    Constant,
    Conv,
    Dequantize,
    Expand,
    Gather,
    Linear,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    PadMode,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Reshape,
    Slice,
    Softmax,
    Transpose,
)
from qir.ir.ops.elementwise import Binary
from qir.ir.ops.kinds import Elementwise, Selection
from qir.ir.ops.shape import Move
from qir.ir.ops.unary import Unary
from qir.ir.types import F32, I4, I32, Array, Quant, Tensor

FLOATS = {"low": -0.5, "high": 0.75, "alpha": 0.3, "beta": 0.5, "gamma": 1.1}
X = Value("x", Tensor((2, 3, 4, 2), F32))
SHAPE = X.type.shape


def classes(kind: type[Op]) -> list[type[Op]]:
    return [cls for cls in OPS.values() if issubclass(cls, kind)]


def made(cls: type[Op]) -> Op:
    """An op of x, or of x and y, with attributes that are as good as any."""
    values = {
        f.name: Value(f.name, X.type) if f.operand else FLOATS.get(f.name, True)
        for f in op_fields(cls)
    }
    return cls(**values, names=("y",))


def computed(one: Op, *operands: Array) -> Array:
    tensors = one.unpack(tuple(torch.from_numpy(np.array(a)) for a in operands))
    return np.asarray(one.compute(torch, *tensors).detach().numpy())


SELECTIONS: list[Op] = [
    Reshape(X, (6, 8), names=("y",)),
    Transpose(X, (0, 2, 1, 3), names=("y",)),
    Slice(X, (0, 1, 0, 0), (2, 3, 4, 1), (1, 1, 2, 1), names=("y",)),
    Gather(X, Data(np.array([2, 0, 2])), 1, names=("y",)),
    Expand(Value("x", Tensor((2, 1, 4, 2), F32)), SHAPE, names=("y",)),
    Pad(X, (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 1, 0), PadMode.CONSTANT, -0.25, names=("y",)),
    Pad(X, (0, 1, 0, 0), (0, 0, 2, 0), (0,) * 4, PadMode.REFLECT, 0.0, names=("y",)),
    Concat((X, Value("z", X.type)), 2, names=("y",)),
    MaxPool(X, (2, 2), (1, 1), (1, 0, 0, 1), (1, 1), names=("y",)),
    ReduceMax(X, (1, 3), False, names=("y",)),
]  # fmt: skip
OTHERS: list[Op] = [
    AvgPool(X, (2, 2), (1, 1), (1, 0, 0, 1), (1, 1), True, names=("y",)),
    ReduceMean(X, (1, 2), True, names=("y",)),
    ReduceSum(X, (1, 2), True, names=("y",)),
    Softmax(X, names=("y",)),
]


def test_every_selection_is_tested() -> None:
    assert {type(one) for one in SELECTIONS} == set(classes(Selection))


@settings(max_examples=20, deadline=None)
@given(st.data())
@pytest.mark.parametrize(
    "one",
    [*map(made, (*classes(Unary), *classes(Binary))), *SELECTIONS, *OTHERS],
    ids=lambda one: one.mnemonic,
)
def test_no_result_leaves_the_reals_of_its_op(one: Op, data: st.DataObject) -> None:
    """Of operands in drawn intervals, their ends among them."""
    numbers = st.floats(-20, 20, width=32)
    intervals: list[Interval] = []
    arrays = []
    for v in one.operands:
        low, high = sorted((data.draw(numbers) + 0.0, data.draw(numbers) + 0.0))
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        x = rng.uniform(low, high, v.type.shape).astype(np.float32).clip(low, high)
        x.flat[:2] = low, high
        intervals.append((low, high))
        arrays.append(x)
    y = computed(one, *arrays)
    y = y[~np.isnan(y)]
    for known in (one.range, one.reals(*intervals), one.reals(*(REALS for _ in intervals))):
        assert known[0] <= known[1]
        if y.size:
            assert known[0] <= y.min(), (known, y.min())
            assert y.max() <= known[1], (known, y.max())


@pytest.mark.parametrize("cls", classes(Unary), ids=lambda cls: cls.mnemonic)
def test_functions_of_one_real(cls: type[Op]) -> None:
    """Elementwise; homogeneous where and only where it says so; open ranges are not reached."""
    assert issubclass(cls, Elementwise)
    one = made(cls)
    x = np.linspace(-4, 4, 48, dtype=np.float32).reshape(SHAPE)
    y = computed(one, x)
    np.testing.assert_allclose(computed(one, x[::-1]), y[::-1], rtol=1e-5, atol=1e-6)
    scaled = np.allclose(computed(one, x * 4), y * 4, equal_nan=True)
    assert scaled == cls.homogeneous
    if cls.range_is_open:
        assert np.all(np.isfinite(cls.range))
        assert cls.range[0] < y.min() and y.max() < cls.range[1]


SCALED = [one for one in (*map(made, classes(Unary)), *SELECTIONS, *OTHERS) if one.homogeneous]


@pytest.mark.parametrize("one", SCALED, ids=lambda one: one.mnemonic)
def test_homogeneous_by_channel(one: Op) -> None:
    """f(s * x) = s * f(x) for a scale of each channel, of the ops that say so."""
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    s = np.array([0.25, 8.0], np.float32)
    np.testing.assert_allclose(computed(one, x * s), computed(one, x) * s, rtol=1e-6)


@pytest.mark.parametrize("cls", classes(Binary), ids=lambda cls: cls.mnemonic)
def test_functions_of_two_reals(cls: Any) -> None:
    """The neutral constant is one, and the only small one; it commutes where it says so."""
    one = made(cls)
    x = np.random.default_rng(0).uniform(0.5, 3, SHAPE).astype(np.float32)
    y = np.random.default_rng(1).uniform(0.5, 3, SHAPE).astype(np.float32)
    constants = (np.float32(c) for c in (-1, 0, 1, 2))
    neutral = [c for c in constants if np.array_equal(computed(one, x, x * 0 + c), x)]
    if cls.neutral is not None:
        assert neutral == [cls.neutral]
    assert np.array_equal(computed(one, x, y), computed(one, y, x)) == cls.commutes


@pytest.mark.parametrize("one", SELECTIONS, ids=lambda one: f"{one.mnemonic}")
def test_a_selection_holds_elements_of_its_operands(one: Op) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(v.type.shape).astype(np.float32) for v in one.operands]
    fill = [one.value] if isinstance(one, Pad) else []
    known = np.concatenate([*(a.ravel() for a in arrays), np.array(fill, np.float32)])
    assert np.isin(computed(one, *arrays), known).all()


STORED = Value("x", Tensor((2, 2, 2, 2), Quant.per_tensor(I4, 0.5, 3)))
KERNEL = Value("w", Tensor((2, 1, 1, 2), Quant.per_tensor(I4, 0.25, 0)))
MATRIX = Value("w", Tensor((3, 2), Quant.per_tensor(I4, 0.25, 0)))
EDGES = Data(np.array([[0, 1]])), Data(np.array([[1024, 1024]], np.int16))
ACCUMULATORS: dict[str, Op] = {
    "conv": Conv(STORED, KERNEL, None, (1, 1), (0,) * 4, (1, 1), 1, names=("y",)),
    "linear": Linear(STORED, MATRIX, None, names=("y",)),
    "matmul": MatMul(STORED, STORED, names=("y",)),
    "mul": Mul(STORED, STORED, names=("y",)),
    "avg_pool": AvgPool(STORED, (2, 2), (1, 1), (0,) * 4, (1, 1), True, names=("y",)),
    "reduce_mean": ReduceMean(STORED, (1,), True, names=("y",)),
    "reduce_sum": ReduceSum(STORED, (1,), True, names=("y",)),
    "bilinear": Bilinear(STORED, EDGES[0], EDGES[0], EDGES[1], EDGES[1], names=("y",)),
}


def test_what_accumulates_gives_exact_sums() -> None:
    """And nothing else that is defined on stored integers."""
    known = {name for name, cls in OPS.items() if cls.accumulates and cls.has_integers()}
    assert known == set(ACCUMULATORS)
    for one in ACCUMULATORS.values():
        assert one.result.type.quant.storage == I32


@pytest.mark.parametrize(
    "one", [one for one in SELECTIONS if isinstance(one, Move)], ids=lambda one: one.mnemonic
)
def test_moves_that_keep_slices_have_places_for_them(one: Move) -> None:
    places = [one.place_of(axis) for axis in range(one.operands[0].type.rank)]
    assert one.keeps_slices == any(place is not None for place in places)


def test_reals_of_what_has_no_operand_of_reals() -> None:
    values = Constant.of(np.array([-1.5, 2.0], np.float32))
    assert values.on().named(("y",)).reals() == (-1.5, 2.0)
    stored = Value("x", Tensor((2,), Quant.per_tensor(I4, 0.1, 3)))
    low, high = Dequantize(stored, names=("y",)).reals(REALS)
    ends = computed(Dequantize(stored, names=("y",)), np.array([-8, 7], np.int8))
    assert (low, high) == tuple(ends.tolist())
