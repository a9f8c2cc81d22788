"""Models that are quantized in part: their scales stay, and clip no other reader."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.data import Data
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Concat,
    Constant,
    Dequantize,
    Linear,
    Maximum,
    MaxPool,
    Quantize,
    Relu,
    Reshape,
    ScaleGroups,
    Transpose,
)  # fmt: skip
from qir.ir.ops.quantize import dequantized
from qir.ir.types import F32, I8, I16, U4, U8, Array, Quant, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.canonicalize.fold_constants import FoldConstants
from qir.passes.infra.manager import Manager, evaluate
from qir.passes.pipelines import TO_INTEGER, quantize

X = (np.random.default_rng(0).normal(size=(64, 8)) * 10).astype(np.float32)


def pair(b: Builder, x: Value, to: Quant) -> Value:
    return b.add(Dequantize(b.add(Quantize(x, to, Rounding.HALF_EVEN))))


def run(graph: Graph, x: Array, calibrated: bool = True) -> tuple[Graph, tuple[Array, ...]]:
    ranges = calibrate(graph, x, "min-max") if calibrated else None
    integer = Manager().run(Manager().run(graph, quantize(ranges)), TO_INTEGER)
    rows = [
        dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [v[None]])))
        for v in x
    ]
    return integer, tuple(np.concatenate(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("behind", ["sum", "table", "input", "relu"])
def test_a_value_that_is_quantized_for_one_reader_is_whole_for_the_other(behind: str) -> None:
    """Each reader gets its own range and its own steps, whatever makes the value."""
    b, own = Builder("half", "transformed"), Quant.per_tensor(I8, 0.01, 0)
    x = b.input("x", Tensor((1, 8), F32))
    eye = b.add(Constant.of(np.eye(8, dtype=np.float32)))
    h = {
        "sum": lambda: b.add(Linear(x, eye, None)),
        "table": lambda: b.add(Relu(pair(b, x, Quant.per_tensor(I8, 0.35, 0)))),
        "relu": lambda: b.add(Relu(b.add(Linear(x, eye, None)))),
        "input": lambda: x,
    }[behind]()
    narrow = b.add(Linear(pair(b, h, own), eye, None), "narrow")
    graph = b.finish([narrow, b.add(Linear(h, eye, None), "wide")])
    float_ = X.clip(0) if behind in ("table", "relu") else X
    _, (near, wide) = run(graph, X)
    assert np.abs(wide - float_).max() < 0.7  # an 8-bit step of [-39, 39] is 0.31
    step = 0.002 if behind == "input" else 0.35  # of x: an input of two readers has 16 bits
    assert np.abs(near - float_.clip(-1.28, 1.27)).max() < step / 2 + 0.015


def test_without_ranges_the_models_scale_serves_its_moves_too() -> None:
    b, own = Builder("moves", "transformed"), Quant.per_tensor(U8, 0.05, 120)
    x = b.input("x", Tensor((1, 8, 8, 3), F32))
    a = pair(b, x, own)
    pooled = pair(b, b.add(MaxPool(a, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1))), own)
    graph = b.finish([pair(b, b.add(Concat((a, pooled), 3)), own)])
    data = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
    integer, (actual,) = run(graph, data, calibrated=False)
    expected = np.concatenate([evaluate(graph, [v[None]])[0] for v in data])
    assert np.array_equal(actual, expected)
    assert {type(op) for op in integer.ops} == {MaxPool, Concat}


def test_a_concat_and_a_maximum_of_other_scales_without_ranges() -> None:
    kinds = [Quant.per_tensor(U8, 0.05, 120), Quant.per_tensor(I8, 0.11, -3)]
    for make in (lambda p: Concat(p, 1), lambda p: Maximum(*p)):
        b = Builder("joined", "transformed")
        x = b.input("x", Tensor((1, 8), F32))
        parts = tuple(pair(b, x, kind) for kind in kinds)
        graph = b.finish([pair(b, b.add(make(parts)), Quant.per_tensor(U8, 0.1, 100))])
        _, (actual,) = run(graph, X / 5, calibrated=False)
        expected = np.concatenate([evaluate(graph, [v[None]])[0] for v in X / 5])
        assert np.abs(actual - expected).max() <= 0.1001


@pytest.mark.parametrize("zero", [8, None])
def test_weights_in_blocks_keep_their_integers(zero: int | None) -> None:
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 16, (5, 64)).astype(np.uint8)
    scale = rng.uniform(0.01, 0.1, (5, 2))
    zeros = np.full((5, 2), zero) if zero is not None else rng.integers(0, 16, (5, 2))
    quant = Quant(U4, Data(scale), Data(zeros.astype(np.int64)), 1, 32)
    b = Builder("blocks", "transformed")
    x = b.input("x", Tensor((1, 64), F32))
    w = b.add(Dequantize(b.add(Constant.of(stored, quant))))
    graph = b.finish([b.add(Linear(x, w, None), "y")])
    data = rng.normal(size=(40, 64)).astype(np.float32)
    integer, (actual,) = run(graph, data)
    (grouped,) = [op for op in integer.ops if isinstance(op, ScaleGroups)]
    held = next(op for op in integer.ops if op.names == (grouped.w.name,))
    assert isinstance(held, Constant)
    assert np.array_equal(held.value.array, stored.astype(int) - np.repeat(zeros, 32, 1))
    expected = data @ dequantized(stored, quant).T
    assert 10 * np.log10((expected**2).sum() / ((actual - expected) ** 2).sum()) > 35


def test_weights_that_no_layer_takes_are_rounded_anew() -> None:
    """Scales along the inputs, and 16 bits."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(40, 6)).astype(np.float32)
    wide = rng.integers(-30000, 30000, (5, 6))
    for stored, quant in (
        (wide // 256, Quant.per_axis(I8, rng.uniform(0.01, 0.1, 6), 0, axis=1)),
        (wide, Quant.per_tensor(I16, 1e-4, 0)),
    ):
        b = Builder("other", "transformed")
        x = b.input("x", Tensor((1, 6), F32))
        w = b.add(Dequantize(b.add(Constant.of(stored, quant))))
        _, (actual,) = run(b.finish([b.add(Linear(x, w, None), "y")]), data)
        expected = data @ dequantized(stored.astype(quant.carrier), quant).T
        assert 10 * np.log10((expected**2).sum() / ((actual - expected) ** 2).sum()) > 35


def test_moved_constants_keep_their_integers_and_scales() -> None:
    quant = Quant.per_axis(I8, [0.5, 0.25], [0, 3], axis=1)
    stored = np.arange(12, dtype=np.int8).reshape(2, 2, 3)
    for move, axis in (
        (lambda w: Reshape(w, (4, 3)), 0),
        (lambda w: Transpose(w, (1, 0, 2)), 0),
        (lambda w: Reshape(w, (2, 6)), 1),
        (lambda w: Reshape(w, (3, 4)), None),  # its scales vary along both axes: it stays
    ):
        b = Builder("moved", "canonical")
        x = b.input("x", Tensor((1,), F32))
        w = b.add(Dequantize(b.add(Constant.of(stored, quant))))
        graph = b.finish([x, b.add(move(w), "y")])
        after = Manager(check=True).run(graph, [FoldConstants()])
        kinds = [op.result.type.elem for op in after.ops if isinstance(op, Constant)]
        if axis is None:
            assert kinds == [quant]
        else:
            assert [k.axis for k in kinds if isinstance(k, Quant)] == [axis]
        one = np.zeros(1, np.float32)
        assert np.array_equal(evaluate(after, [one])[1], evaluate(graph, [one])[1])
