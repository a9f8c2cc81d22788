"""Values of unlike scales that meet: each keeps its digits behind what computes with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Mul,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Transpose,
)
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Record
from qir.passes.pipelines import TO_INTEGER, quantize, transform
from qir.passes.transform.channel_ranges import channel_reach
from qir.passes.transform.move_concats import MoveConcats

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 8, 8, 6)).astype(np.float32)
ENOUGH = 20.0  # dB of each slice
Tail = Callable[[Builder, Value], Value]


def fixed(b: Builder, array: Array | float) -> Value:
    return b.add(Constant.of(np.asarray(array, np.float32)))


def convolved(b: Builder, x: Value, out: int, size: float, seed: int) -> Value:
    w = np.random.default_rng(seed).normal(size=(out, 1, 1, x.type.shape[3]))
    scaled = fixed(b, w * size / x.type.shape[3] ** 0.5)
    return b.add(Conv(x, scaled, None, (1, 1), (0,) * 4, (1, 1), 1))


def heads(tail: Tail, *, is_shown: bool = False) -> Graph:
    """boxes (hundreds, 4 channels) and scores (about 1, 4 channels), joined, then `tail`."""
    b = Builder("heads", "canonical")
    x = b.input("x", Tensor((1, 8, 8, 6), F32))
    h = b.add(Relu(convolved(b, x, 16, 1.0, 1)))
    joined = b.add(Concat((convolved(b, h, 4, 300.0, 2), convolved(b, h, 4, 1.0, 3)), 3), "joined")
    y = tail(b, joined)
    return b.finish([joined, y] if is_shown else [y])


def integers(graph: Graph) -> tuple[Graph, list[str]]:
    """The integer program, corrected biases included, and the warnings of a report."""
    manager = Manager()
    kinder = manager.run(graph, transform(graph, (X,)))
    pairs = quantize(calibrate(kinder, X), reference=kinder, sample=(X,))
    integer = manager.run(manager.run(kinder, pairs), TO_INTEGER)
    return integer, [w for record in manager.records for w in record.warnings]


def decibels(graph: Graph, integer: Graph, axis: int = -1, output: int = -1) -> list[float]:
    """Signal to noise of the two halves of an output along an axis."""
    power, noise = np.zeros(2), np.zeros(2)
    for row in X[:16, None]:
        expected = run_float(graph, [row])[output]
        stored = interpret(integer, quantize_inputs(integer, [row]))
        y = dequantize_outputs(integer, stored)[output]
        for i, (a, b) in enumerate(
            zip(np.split(expected, 2, axis), np.split(y, 2, axis), strict=True)
        ):
            power[i] += float((a.astype(np.float64) ** 2).sum())
            noise[i] += float(((a - b).astype(np.float64) ** 2).sum())
    return list(10 * np.log10(power / noise))


def relu(b: Builder, y: Value) -> Value:
    return b.add(Relu(y))


def strided(b: Builder, y: Value) -> Value:
    """By a constant for each place."""
    return b.add(Mul(y, fixed(b, RNG.uniform(4, 8, size=(1, 8, 8, 1)))))


def gated(b: Builder, y: Value) -> Value:
    """By an activation that is broadcast along the channels, and another that is not."""
    gate = b.add(Sigmoid(b.add(Slice(y, (0, 0, 0, 4), (1, 8, 8, 5), (1,) * 4))))
    return b.add(Mul(b.add(Mul(y, gate)), b.add(Sigmoid(y))))


def shifted(b: Builder, y: Value) -> Value:
    offset = np.array([100.0] * 4 + [0.5] * 4)
    return b.add(Add(b.add(Relu(y)), fixed(b, offset)))


def pooled(b: Builder, y: Value) -> Value:
    return b.add(MaxPool(b.add(Relu(y)), (2, 2), (2, 2), (0,) * 4, (1, 1)))


def averaged(b: Builder, y: Value) -> Value:
    return b.add(ReduceMean(b.add(Relu(y)), (1, 2), True))


def moved(b: Builder, y: Value) -> Value:
    flat = b.add(Reshape(b.add(Relu(y)), (1, 64, 8)))
    return b.add(Slice(flat, (0, 0, 1), (1, 60, 7), (1, 1, 1)))


@pytest.mark.parametrize("tail", [relu, strided, gated, shifted, pooled, averaged, moved])
@pytest.mark.parametrize("is_shown", [False, True])
def test_scales_along_the_axis_reach_the_output(tail: Tail, is_shown: bool) -> None:
    graph = heads(tail, is_shown=is_shown)
    integer, warnings = integers(graph)
    for output in range(len(graph.outputs)):
        assert min(decibels(graph, integer, output=output)) > ENOUGH
    assert not warnings


def level(b: Builder, x: Value, seed: int) -> Value:
    joined = b.add(Concat((convolved(b, x, 4, 300.0, seed), convolved(b, x, 4, 1.0, seed + 1)), 3))
    return b.add(Reshape(joined, (1, x.type.shape[1] * x.type.shape[2], 8)))


def test_levels_joined_twice() -> None:
    """The heads of a detector: channels of each level, then the places of all levels."""

    def levels(b: Builder) -> tuple[Value, Value]:
        x = b.input("x", Tensor((1, 8, 8, 6), F32))
        h = b.add(Relu(convolved(b, x, 16, 1.0, 1)))
        small = b.add(MaxPool(h, (2, 2), (2, 2), (0,) * 4, (1, 1)))
        return level(b, h, 2), level(b, small, 4)

    def turned(b: Builder, y: Value) -> Value:
        return b.add(Transpose(y, (0, 2, 1)))

    def decoded(b: Builder, y: Value) -> Value:
        """Boxes times the stride of their level, scores through a sigmoid."""
        boxes, scores = (b.add(Slice(y, (0, 0, k), (1, 80, k + 4), (1,) * 3)) for k in (0, 4))
        strides = fixed(b, np.repeat([8.0, 16.0], [64, 16]).reshape(1, 80, 1))
        return b.add(Concat((b.add(Mul(boxes, strides)), b.add(Sigmoid(scores))), 2))

    for tail, axis in ((lambda b, y: y, 2), (turned, 1), (decoded, 2)):
        b = Builder("levels", "canonical")
        graph = b.finish([tail(b, b.add(Concat(levels(b), 1)))])
        integer, warnings = integers(graph)
        assert min(decibels(graph, integer, axis)) > ENOUGH
        assert not warnings


@pytest.mark.parametrize("kind", ["conv", "linear", "two readers"])
def test_layers_read_scaled_parts(kind: str) -> None:
    """Weights that make both parts count alike."""
    part = np.array([1 / 300] * 4 + [1.0] * 4)

    def layer(b: Builder, y: Value) -> Value:
        rng = np.random.default_rng(5)
        w = fixed(b, rng.normal(size=(8, 8)) * part)
        if kind == "linear":
            return b.add(Linear(y, w, None))
        w = fixed(b, rng.normal(size=(8, 3, 3, 8)) * part)
        one = b.add(Relu(b.add(Conv(y, w, None, (1, 1), (1,) * 4, (1, 1), 1))))
        if kind == "conv":
            return one
        w = fixed(b, rng.normal(size=(8, 1, 1, 8)) * part)
        return b.add(Add(one, b.add(Conv(y, w, None, (1, 1), (0,) * 4, (1, 1), 1))))

    graph = heads(layer)
    integer, warnings = integers(graph)
    assert min(decibels(graph, integer)) > ENOUGH
    assert not warnings


def test_alike_parts_stay_joined() -> None:
    b = Builder("alike", "canonical")
    x = b.input("x", Tensor((1, 8, 8, 6), F32))
    joined = b.add(Concat((convolved(b, x, 4, 1.0, 2), convolved(b, x, 4, 1.0, 3)), 3))
    graph = b.finish([b.add(Relu(joined))])
    record = Record(MoveConcats.name, MoveConcats.claim)
    assert MoveConcats((X,), channel_reach(graph, (X,))).run(graph, record) == graph
    assert record.rewrites == 0


def test_the_function_stays() -> None:
    for tail in (relu, strided, gated, shifted, pooled, averaged, moved):
        graph = heads(tail)
        record = Record(MoveConcats.name, MoveConcats.claim)
        moved_graph = MoveConcats((X,), channel_reach(graph, (X,))).run(graph, record)
        assert record.rewrites and moved_graph != graph
        for row in X[:2, None]:
            before, after = run_float(graph, [row]), run_float(moved_graph, [row])
            assert all(np.allclose(a, c, rtol=1e-6) for a, c in zip(before, after, strict=True))
