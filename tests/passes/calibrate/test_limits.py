"""Where values matter to their readers: ends of saturating functions, and what softmax forgets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    Clip,
    Constant,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Maximum,
    Mul,
    Relu,
    Reshape,
    Sigmoid,
    Silu,
    Softmax,
    Sub,
    Tanh,
)
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.limits import SLIGHT
from qir.passes.calibrate.observers import Histogram, MinMax, Observation
from qir.passes.calibrate.ranges import Ranges, calibrate

X = np.linspace(-40, 40, 4000, dtype=np.float32).reshape(1000, 4)


def calibrated(build: Callable[[Builder, Value], Op], x: Array = X) -> Ranges:
    b = Builder("one", "transformed")
    y = b.add(build(b, b.input("x", Tensor((1, x.shape[1]), F32))), "y")
    return calibrate(b.finish([y]), x)


@pytest.mark.parametrize(
    ("op", "low", "high"),
    [
        (Sigmoid, -6.93, 6.93),  # 1 / 1024 from 0 and from 1
        (Tanh, -3.81, 3.81),
        (Relu, 0.0, np.inf),
        (HardSwish, -2.93, np.inf),
        (lambda x: HardSigmoid(x, 1 / 6, 0.5), -3.0, 3.0),
        (lambda x: Clip(x, -1.0, 6.0), -1.0, 6.0),
        (lambda x: LeakyRelu(x, 0.1), -np.inf, np.inf),
    ],
)
def test_a_function_ends_where_it_saturates(
    op: Callable[[Value], Op], low: float, high: float
) -> None:
    ends = calibrated(lambda b, x: op(x)).limits.get("x", (-np.inf, np.inf))
    assert ends == pytest.approx((low, high), abs=0.06)


def test_clamping_to_the_limits_changes_results_slightly() -> None:
    for op in (Sigmoid, Tanh, Silu, HardSwish):
        ends = calibrated(lambda b, x, op=op: op(x)).limits["x"]
        graph = Builder("f", "transformed")
        y = graph.add(op(graph.input("x", Tensor(X.shape, F32))))
        import torch

        compute = graph.finish([y]).ops[0].compute
        plain, clamped = (compute(torch, torch.from_numpy(v)) for v in (X, X.clip(*ends)))
        assert (plain - clamped).abs().max() <= 1.01 * SLIGHT * plain.abs().max()


def test_ends_pass_sums_products_and_moves() -> None:
    def build(b: Builder, x: Value) -> Op:
        c = b.add(Constant.of(np.array([1.0, 3.0, 1.0, 1.0], np.float32)), "c")
        two = b.add(Constant.of(np.float32(-2.0)), "two")
        moved = b.add(Reshape(b.add(Mul(x, two), "scaled"), (1, 4)), "moved")
        return Clip(b.add(Sub(moved, c), "sum"), -1.0, 6.0)

    ranges = calibrated(build).limits
    assert ranges["sum"] == pytest.approx((-1, 6), abs=0.06)
    assert ranges["moved"] == pytest.approx((0, 9), abs=0.06)  # c is 1 to 3
    assert ranges["x"] == pytest.approx((-4.5, 0), abs=0.06)


def test_a_value_that_something_else_reads_matters_everywhere() -> None:
    b = Builder("two", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    graph = b.finish([b.add(Sigmoid(x), "y"), b.add(LeakyRelu(x, 0.5), "z")])
    assert "x" not in calibrate(graph, X).limits


def softmax(mask: Array) -> Graph:
    b = Builder("masked", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    m = b.add(Constant.of(mask.astype(np.float32)), "mask")
    return b.finish([b.add(Softmax(b.add(Add(x, m), "scores")), "y")])


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_a_mask_takes_no_part_of_the_range(mask: float) -> None:
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    x[:, 0] = 2.0  # of every row a maximum of 2 at least
    ranges = calibrate(softmax(np.array([0, 0, 0, mask])), x)
    forgotten = 2.0 + np.log(SLIGHT / 4)
    assert ranges.limits["scores"] == (pytest.approx(forgotten), np.inf)
    low, high = ranges.of(["scores"], 256)
    assert low == pytest.approx(forgotten) and high == ranges.observations["scores"].high
    assert ranges.limits["mask"][0] == pytest.approx(forgotten - x.max())


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize(("op", "end"), [(Sigmoid, -6.93), (Tanh, -3.81), (Relu, 0.0)])
def test_a_mask_in_front_of_a_saturating_function_takes_no_part(
    op: Callable[[Value], Op], end: float, mask: float
) -> None:
    def build(b: Builder, x: Value) -> Op:
        m = b.add(Constant.of(np.array([0, 0, 0, mask], np.float32)), "mask")
        return op(b.add(Add(x, m), "masked"))

    assert calibrated(build).limits["masked"][0] == pytest.approx(end, abs=0.12)


def test_a_clamped_mask_takes_no_part_of_the_range() -> None:
    least = float(np.finfo(np.float32).min)
    b = Builder("clamped", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    mask = b.add(Constant.of(np.array([0, 0, 0, least], np.float32)))
    scores = b.add(Add(x, mask), "scores")
    clamped = b.add(Maximum(scores, b.add(Constant.of(np.float32(least)))), "clamped")
    graph = b.finish([b.add(Softmax(clamped), "y")])
    rows = np.array([[1, 2, 3, 0], [0, 1, 0, 5]], np.float32)
    limits = calibrate(graph, rows).limits
    forgotten = 1.0 + np.log(SLIGHT / 4)  # 1 is the least of the maxima 3 and 1
    assert limits["clamped"] == limits["scores"] == (pytest.approx(forgotten), np.inf)


def test_a_row_that_is_masked_throughout_does_not_count() -> None:
    b = Builder("rows", "transformed")
    x = b.input("x", Tensor((1, 4), F32))
    graph = b.finish([b.add(Softmax(x), "y")])
    rows = np.array([[1, 2, -1e4, 0], [-1e4, -1e4, -1e4, -1e4]], np.float32)
    assert calibrate(graph, rows).observations["x"].least_top == 2


def test_observations_clamped_to_an_interval() -> None:
    histogram = Histogram()
    import torch

    x = torch.tensor([-8.0, -3.0, 0.0, 1.0, 7.0])
    histogram.add(torch, x, 8.0)
    inside = Observation(5, -8.0, 7.0, histogram).within((-2.0, 2.0))
    assert (inside.low, inside.high, inside.count) == (-2.0, 2.0, 5)
    assert inside.histogram is not None
    counts = inside.histogram.counts
    assert counts.sum() == 5
    centres = inside.histogram.centres[counts > 0]
    assert centres.min() >= -2 and centres.max() <= 2.01
    assert counts[counts > 0].tolist() == [2, 1, 1, 1]


def test_bins_wider_than_a_step_choose_nothing() -> None:
    import torch

    histogram = Histogram()
    histogram.add(torch, torch.tensor([-1e6, 1.0, 2.0]), 1e6)
    observation = Observation(3, -1e6, 2.0, histogram).within((-3.0, np.inf))
    from qir.passes.calibrate.observers import MeanSquaredError

    assert (
        MeanSquaredError().range(observation, 256)
        == MinMax().range(observation, 256)
        == (-3.0, 2.0)
    )
