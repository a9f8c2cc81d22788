"""Bounds of stored values and of every intermediate, where they once were wrong or crashed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.errors import VerifyError
from qir.ir.fixed import Dyadic, Rounding, shift_right
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.op import OPS, Op, Value, op
from qir.ir.ops import (
    AvgPool,
    Bilinear,
    Concat,
    Constant,
    Conv,
    Linear,
    Lookup,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    PadMode,
    ReduceMean,
    ReduceSum,
    Requantize,
    Reshape,
    SoftmaxFixed,
)
from qir.ir.ops.softmax import LARGEST_PROBABILITY, LARGEST_RECIPROCAL, reciprocal
from qir.ir.ranges import prove_no_overflow, value_bounds
from qir.ir.types import I8, I16, I32, U4, U8, Array, Int, Quant, Tensor
from qir.ir.verify import verify

ONE = Quant.per_tensor(U8, 1.0, 0)


def built(*ops: Callable[..., Op], **inputs: Tensor) -> Graph:
    """Inputs by name, then each op of the values before it; the last result is the output."""
    b = Builder("g", "integer")
    values = [b.input(name, t) for name, t in inputs.items()]
    for make in ops:
        values.append(b.add(make(*values)))
    graph = b.finish(values[-1:])
    verify(graph)
    return graph


def requantize(x: Value, to: Quant) -> Requantize:
    ratio = x.type.quant.spread(x.type.shape)[0] / to.spread(x.type.shape)[0]
    d = Dyadic.of(np.asarray(ratio))
    low, high = to.storage.min, to.storage.max
    return Requantize((x,), to, (d.mult,), d.shift, low, high, Rounding.HALF_UP)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_zero_point_for_each_slice_of_any_axis(axis: int) -> None:
    to = Quant.per_axis(I8, [32.0, 64.0], [-100, 100], axis)
    graph = built(lambda x: requantize(x, to), x=Tensor((2, 2, 2), ONE))
    bounds = value_bounds(graph)[graph.outputs[0].name]
    shape = [1, 1, 1]
    shape[axis] = 2
    assert (
        np.broadcast_to(bounds.low, (2, 2, 2)).tolist()
        == np.broadcast_to(np.reshape([-100, 100], shape), (2, 2, 2)).tolist()
    )
    high = np.reshape([-100 + 8, 100 + 4], shape)  # round(255 / 32), round(255 / 64)
    assert (np.broadcast_to(bounds.high, (2, 2, 2)) == high).all()
    (y,) = interpret(graph, [np.full((2, 2, 2), 255, np.uint8)])
    assert (y == high).all()


def test_channels_of_two_axes_are_forgotten() -> None:
    rows = Bounds.of(np.array([[0], [5]]), np.array([[1], [6]]))
    columns = Bounds.of(np.array([0, 10, 20]), np.array([1, 11, 21]))
    assert rows.plus(columns).ends == (0, 27) and rows.plus(columns).low.ndim == 0
    assert rows.times(columns).ends == (0, 126)
    assert columns.minus(columns).low.tolist() == [-1, -1, -1]
    assert Bounds.of(np.zeros((2, 3), int), np.ones((2, 3), int)).high.ndim == 0


def test_rows_of_bounds_do_not_survive_a_pool() -> None:
    """Bounds along the height of x say nothing of its windows."""
    to = Quant.per_axis(I8, [1.0, 64.0], 0, 1)
    back = Quant.per_tensor(I8, 1.0, 0)
    graph = built(
        lambda x: requantize(x, to),
        lambda x, y: requantize(y, back),
        lambda x, y, z: MaxPool(z, (2, 1), (1, 1), (0, 0, 1, 0), (1, 1)),
        x=Tensor((1, 2, 1, 1), Quant.per_tensor(U8, 1 / 8, 0)),
    )
    bounds = value_bounds(graph)
    pooled = bounds[graph.outputs[0].name]
    assert pooled.low.ndim == 0
    for stored in ([0, 255], [255, 0], [255, 255]):
        (y,) = interpret(graph, [np.array(stored, np.uint8).reshape(1, 2, 1, 1)])
        assert y.min() >= pooled.ends[0] and y.max() <= pooled.ends[1]


def linear_of_inputs(depth: int, zx: int, zeros: list[int]) -> Graph:
    return built(
        lambda x, w: Linear(x, w, None),
        x=Tensor((1, depth), Quant.per_tensor(U8, 1.0, zx)),
        w=Tensor((len(zeros), depth), Quant.per_axis(I8, np.ones(len(zeros)), zeros, 0)),
    )


def test_weights_that_are_an_input_take_their_own_zero_points() -> None:
    with pytest.raises(VerifyError, match=r"accumulator reaches \[-1305600000, 2601000000\], i32 "):
        prove_no_overflow(linear_of_inputs(40_000, 0, [-128, 0]))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.lists(st.integers(-128, 127), min_size=1, max_size=3), st.data())
def test_bounds_of_weights_that_are_an_input_are_reached(
    zx: int, zeros: list[int], data: st.DataObject
) -> None:
    """Exact per channel: the ends are attained by some x and w, and no x and w go beyond."""
    depth = data.draw(st.integers(1, 5))
    graph = linear_of_inputs(depth, zx, zeros)
    prove_no_overflow(graph)
    bounds = value_bounds(graph)[graph.outputs[0].name]
    ends = [
        interpret(
            graph, [np.full((1, depth), a, np.uint8), np.full((len(zeros), depth), b, np.int8)]
        )
        for a in (0, 255)
        for b in (-128, 127)
    ]
    least = np.minimum(0, np.min(ends, axis=0)).reshape(-1)
    assert (np.broadcast_to(bounds.low, least.shape) <= least).all()
    corners = np.array(ends).reshape(4, -1)
    assert (bounds.low == corners.min(0)).all() and (bounds.high == corners.max(0)).all()


def empty(shape: tuple[int, ...], elem: Quant | Int = ONE) -> Callable[..., Constant]:
    return lambda *_: Constant.of(np.zeros(shape, elem.carrier), elem)


ACC = Quant.per_tensor(I32, 1.0, 0)
EMPTY: dict[str, tuple[Callable[..., Op], ...]] = {
    "concat": (empty((1, 0)), lambda x, c: Concat((x, c), 1)),
    "requantize": (empty((1, 0)), lambda x, c: requantize(c, ONE)),
    "mul": (empty((0, 2)), lambda x, c: Mul(x, c)),
    "matmul": (empty((2, 0)), lambda x, c: MatMul(x, c)),
    "matmul of depth 0": (
        empty((3, 0)), empty((0, 2)), lambda x, a, b: MatMul(a, b),
    ),
    "linear of no channels": (empty((0, 2)), lambda x, w: Linear(x, w, None)),
    "linear of depth 0": (
        empty((4, 0)), empty((3, 0)), empty((3,), ACC), lambda x, a, w, b: Linear(a, w, b),
    ),
    "conv of no images": (
        empty((0, 2, 2, 1)), empty((3, 1, 1, 1)),
        lambda x, a, w: Conv(a, w, None, (1, 1), (0,) * 4, (1, 1), 1),
    ),
    "conv of no channels": (
        empty((1, 2, 2, 1)), empty((0, 1, 1, 1)),
        lambda x, a, w: Conv(a, w, None, (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ),
    "max pool": (empty((1, 2, 2, 0)), lambda x, c: MaxPool(c, (2, 2), (1, 1), (0,) * 4, (1, 1))),
    "avg pool": (
        empty((0, 2, 2, 1)), lambda x, c: AvgPool(c, (2, 2), (1, 1), (0,) * 4, (1, 1), True),
    ),
    "mean": (empty((0, 2)), lambda x, c: ReduceMean(c, (0,), True)),
    "sum": (empty((0, 2)), lambda x, c: ReduceSum(c, (1,), False)),
    "pad": (empty((0,)), lambda x, c: Pad(c, (1,), (1,), (0,), PadMode.CONSTANT, 0.0)),
    "pad of plain integers": (
        empty((1,), U8), lambda x, c: Pad(c, (1,), (1,), (0,), PadMode.CONSTANT, 0.0),
    ),
    "reshape": (empty((0, 3)), lambda x, c: Reshape(c, (3, 0))),
    "lookup": (empty((2, 0)), lambda x, c: Lookup(c, Data(np.zeros((0, 256), np.uint8)), ONE)),
    "bilinear": (
        empty((1, 2, 2, 1)),
        lambda x, c: Bilinear(
            c, *(Data(np.zeros((0, 2), t)) for t in (np.int64, np.int64, np.int16, np.int16))
        ),
    ),
    "requantize of no channels": (
        empty((2, 0), Quant.per_axis(U8, np.zeros(0), 0, 1)), lambda x, c: requantize(c, ONE),
    ),
    "softmax": (
        empty((0, 3)),
        lambda x, c: SoftmaxFixed(c, Data(np.full(256, 8, np.int32)), HALF, Dyadic.of(2.0**-29)),
    ),
}  # fmt: skip
HALF = Quant.per_tensor(U8, 0.5, 0)


@pytest.mark.parametrize("name", EMPTY)
def test_empty_constants_have_bounds_and_values(name: str) -> None:
    graph = built(*EMPTY[name], x=Tensor((1, 2), ONE))
    prove_no_overflow(graph)
    (y,) = interpret(graph, [np.array([[7, 9]], np.uint8)])
    assert y.shape == graph.outputs[0].type.shape
    low, high = value_bounds(graph)[graph.outputs[0].name].ends
    assert y.size == 0 or (low <= y.min() and y.max() <= high)


def test_constants_as_first_operands_have_bounds() -> None:
    """Contractions, pools and sums of known x are proven from its elements."""
    stored = np.array([[3, 200]], np.uint8)
    graph = built(
        lambda w: Constant.of(stored, ONE), lambda w, x: Linear(x, w, None), w=Tensor((1, 2), ONE)
    )
    assert value_bounds(graph)[graph.outputs[0].name].ends == (0, 2 * 200 * 255)
    graph = built(
        lambda x: Constant.of(stored, ONE), lambda x, c: ReduceSum(c, (1,), True), x=Tensor((), ONE)
    )
    assert value_bounds(graph)[graph.outputs[0].name].ends == (0, 400)


def test_floats_have_no_bounds() -> None:
    b = Builder("g", "imported")
    graph = b.finish([b.add(Constant.of(np.ones(2, np.float32)))])
    with pytest.raises(VerifyError, match=r"bounds: tensor<2xf32> stores no integers"):
        value_bounds(graph)


@pytest.fixture
def split() -> Any:
    """An op of two results, the second of which can leave its unsigned storage."""

    @op("test_split")
    class Split(Op):
        x: Value

        def infer(self) -> tuple[Tensor, Tensor]:
            return self.x.type, Tensor(self.x.type.shape, Quant.per_tensor(U4, 1.0, 0))

        def evaluate(self, x: Array) -> tuple[Array, Array]:
            return x, (x % 16).astype(np.uint8)

        def bound(self, x: Bounds) -> tuple[Bounds, Bounds]:
            return x, self.second

    yield Split
    del OPS["test_split"]


@pytest.mark.parametrize(
    ("second", "fault"), [((0, 15), ""), ((-1, 15), r"[-1, 15]"), ((0, 16), r"[0, 16]")]
)
def test_each_result_is_proven_in_its_own_storage(
    split: Any, second: tuple[int, int], fault: str
) -> None:
    split.second = Bounds.of(*second)
    b = Builder("g", "integer")
    one, two = b.add_all(split(b.input("x", Tensor((3,), ONE))), ("one", "two"))
    graph = b.finish([one, two])
    if fault:
        with pytest.raises(VerifyError) as error:
            prove_no_overflow(graph)
        assert f"result %two reaches {fault}, u4 does not hold it" in str(error.value)
        return
    assert [c.text for c in prove_no_overflow(graph)] == [
        "test_split %one %two: result %one reaches [0, 255], u8 holds it",
        "test_split %one %two: result %two reaches [0, 15], u4 holds it",
    ]
    assert value_bounds(graph)["two"].ends == (0, 15)


def test_an_op_without_bounds_fills_the_storage_of_each_result(split: Any) -> None:
    del split.bound
    op_ = split(Value("x", Tensor((3,), ONE)), names=("one", "two"))
    assert [b.ends for b in op_.bound(Bounds.of(0, 1))] == [(0, 255), (0, 15)]


def test_types_of_intermediates() -> None:
    for kind, (low, high) in {I8: (-128, 127), U8: (0, 255), I16: (-(2**15), 2**15 - 1)}.items():
        assert Extreme("x", Bounds.of(low, high), kind).fits
        assert not Extreme("x", Bounds.of(low - 1, high), kind).fits
        assert not Extreme("x", Bounds.of(low, high + 1), kind).fits


def test_wide_operands_less_their_zero_point_are_proven() -> None:
    wide = Quant.per_tensor(I32, 1.0, -(2**31))
    graph = built(lambda x: Mul(x, x), x=Tensor((1,), wide))
    with pytest.raises(VerifyError, match=r"%x less its zero point reaches \[0, 4294967295\], i32"):
        prove_no_overflow(graph)


def softmax(x: Value) -> SoftmaxFixed:
    table = np.floor(np.exp(-0.1 * np.arange(256)) * 2**28).astype(np.int32)
    return SoftmaxFixed(x, Data(table), HALF, Dyadic.of(2.0**-29))


def test_every_product_of_softmax_is_among_the_intermediates() -> None:
    graph = built(softmax, x=Tensor((1, 4), ONE))
    extremes = {c.extreme.what: c.extreme for c in prove_no_overflow(graph)}
    assert set(extremes) == {
        "distance to the greatest", "sum of exponentials", "reciprocal times sum",
        "step of the reciprocal", "exponential times reciprocal", "scaled probability", "result",
    }  # fmt: skip
    rng = np.random.default_rng(0)
    # as evaluate() computes them, step by step
    for x in (rng.integers(0, 256, (500, 4)), np.full((1, 4), 255)):
        d = x.max(-1, keepdims=True) - x
        e = graph.ops[0].exp_table.array.astype(object)[d]  # type: ignore[attr-defined]
        total = e.sum(-1, keepdims=True)
        n = 31 - np.vectorize(int.bit_length, otypes=[object])(total)
        m = total * 2**n
        r = reciprocal(m.astype(np.int64)).astype(object)
        for what, values in {
            "distance to the greatest": d,
            "sum of exponentials": total,
            "reciprocal times sum": m * r,
            "step of the reciprocal": r * 2**31,
            "exponential times reciprocal": e * r,
        }.items():
            low, high = extremes[what].bounds.ends
            assert low <= values.min() and values.max() <= high, what
        p = (e * r) // 2 ** (31 - n)
        assert p.max() <= LARGEST_PROBABILITY and r.max() <= LARGEST_RECIPROCAL


def test_a_sum_of_exponentials_that_wraps_is_refused() -> None:
    graph = built(softmax, x=Tensor((1, 8), ONE))
    with pytest.raises(VerifyError, match=r"sum of exponentials reaches \[268435456, 2147483648\]"):
        prove_no_overflow(graph)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(2**20), 2**20), st.integers(0, 2**20), st.integers(1, 40), st.integers(0, 22),
    st.sampled_from(Rounding),
)  # fmt: skip
def test_bounds_of_a_shift_hold_every_value(
    low: int, size: int, shift: int, more: int, rounding: Rounding
) -> None:
    """Of one shift, and of two, of which each element may have either."""
    shifts = np.array([shift, shift + more])
    x = Value("x", Tensor((2,), Quant.per_tensor(I32, 1.0, 0)))
    op = Requantize((x,), ACC, (Data(np.int64(1)),), Data(shifts), I32.min, I32.max, rounding)
    bounds = op._shifted(Bounds.of(low, low + size))
    for total in (low, low + size, low + size // 2):
        y = shift_right(np.array(total), shifts, rounding)
        assert (bounds.low <= y).all() and (y <= bounds.high).all()
    apart = Bounds.of([[low], [low]], [[low + size]] * 2)  # along another axis than the shifts
    least, greatest = op._shifted(apart).ends
    every = [shift_right(np.array(t), shifts, rounding) for t in (low, low + size)]
    assert least <= np.min(every) and np.max(every) <= greatest
