"""Outputs whose channels are of unlike range: a scale for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import qir
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Concat,
    Constant,
    Conv,
    Linear,
    MaxPool,
    Mul,
    Relu,
    Reshape,
    Softmax,
    Transpose,
)
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, Array, Tensor
from qir.passes.quantize.channel_scales import are_unlike

X = np.random.default_rng(0).normal(size=(48, 8, 8, 6)).astype(np.float32)
SIZES = np.array([300.0] * 4 + [1.0] * 4 + [0.02] * 2)
ENOUGH = 20.0  # dB of each channel
Tail = Callable[[Builder, Value], Value]


def fixed(b: Builder, array: Array) -> Value:
    return b.add(Constant.of(np.asarray(array, np.float32)))


def unlike(b: Builder, x: Value, seed: int) -> Value:
    """A convolution with channels of SIZES."""
    w = np.random.default_rng(seed).normal(size=(len(SIZES), 1, 1, x.type.shape[3]))
    weights = fixed(b, w * SIZES[:, None, None, None] / x.type.shape[3] ** 0.5)
    return b.add(Conv(x, weights, fixed(b, SIZES / 2), (1, 1), (0,) * 4, (1, 1), 1), "heads")


def net(tail: Tail) -> Graph:
    b = Builder("net", "canonical")
    x = b.input("x", Tensor((1, 8, 8, 6), F32))
    return b.finish([tail(b, unlike(b, x, 1))])


def relu(b: Builder, y: Value) -> Value:
    return b.add(Relu(y))


def turned(b: Builder, y: Value) -> Value:
    return b.add(Transpose(b.add(Reshape(y, (1, 64, 10))), (0, 2, 1)))


def levels(b: Builder, y: Value) -> Value:
    """Another level of places, by the same kind of layer."""
    x = b.add(MaxPool(Value("x", Tensor((1, 8, 8, 6), F32)), (2, 2), (2, 2), (0,) * 4, (1, 1)))
    small = b.add(Reshape(unlike(b, x, 2), (1, 16, 10)))
    return b.add(Concat((b.add(Reshape(y, (1, 64, 10))), small), 1))


def summed(b: Builder, y: Value) -> Value:
    return b.add(Add(y, unlike(b, Value("x", Tensor((1, 8, 8, 6), F32)), 3)))


def least_decibels(graph: Graph, net: qir.Net, axis: int) -> float:
    power, noise = 0.0, 0.0
    for row in X[:16, None]:
        (expected,) = run_float(graph, [row])
        others = tuple(i for i in range(expected.ndim) if i != axis % expected.ndim)
        power = power + (expected.astype(np.float64) ** 2).sum(others)
        noise = noise + ((np.asarray(net(row)) - expected).astype(np.float64) ** 2).sum(others)
    return float((10 * np.log10(np.asarray(power) / np.asarray(noise))).min())


@pytest.mark.parametrize(
    ("tail", "axis"),
    [(lambda b, y: y, 3), (relu, 3), (turned, 1), (levels, 2), (summed, 3)],
    ids=["plain", "relu", "turned", "levels", "summed"],
)
def test_each_channel_of_an_output_keeps_its_digits(tail: Tail, axis: int) -> None:
    graph = net(tail)
    compiled = qir.compile(graph, calibration=X)
    quant = compiled.stages["integer"].outputs[0].type.quant
    assert quant.axis == axis and quant.has_one_zero_point
    assert least_decibels(graph, compiled, axis) > ENOUGH
    assert not compiled.report().warnings
    integer = compiled.stages["integer"]
    for row in X[:4, None]:
        stored = quantize_inputs(integer, [row])
        assert np.array_equal(compiled.run_integer(*stored), interpret(integer, stored)[0])


def test_the_channels_of_a_linear_output() -> None:
    b = Builder("regression", "canonical")
    x = b.input("x", Tensor((1, 6), F32))
    w = np.random.default_rng(1).normal(size=(5, 6)) * 10.0 ** np.arange(-2, 3)[:, None]
    graph = b.finish([b.add(Linear(x, fixed(b, w), None))])
    rows = X.reshape(-1, 6)[:256]
    compiled = qir.compile(graph, calibration=rows)
    assert compiled.stages["integer"].outputs[0].type.quant.axis == 1
    expected = np.concatenate([run_float(graph, [row])[0] for row in rows[:64, None]])
    noise = np.concatenate([compiled(row) for row in rows[:64, None]]) - expected
    assert (10 * np.log10((expected**2).sum(0) / (noise**2).sum(0))).min() > ENOUGH


def test_channels_of_like_range_share_a_scale() -> None:
    b = Builder("alike", "canonical")
    x = b.input("x", Tensor((1, 8, 8, 6), F32))
    sizes = np.array([1, 2, 3, 8])[:, None, None, None]
    w = np.random.default_rng(1).normal(size=(4, 1, 1, 6)) * sizes
    graph = b.finish([b.add(Conv(x, fixed(b, w), None, (1, 1), (0,) * 4, (1, 1), 1))])
    assert qir.compile(graph, calibration=X).stages["integer"].outputs[0].type.quant.is_per_tensor


def test_logits_of_many_classes_can_be_compared() -> None:
    """They reach far and less far, without a gap between two kinds."""
    assert not are_unlike(np.geomspace(1.0, 40.0, 100))
    assert are_unlike(np.array([1.0, 1.2, 1.5, 30.0, 40.0]))
    assert not are_unlike(np.array([1.0, 1.2, 1.5, 8.0, 10.0]))
    assert not are_unlike(np.array([3.0])) and not are_unlike(np.array([]))


def test_what_else_reads_them_is_warned_of() -> None:
    b = Builder("read", "canonical")
    x = b.input("x", Tensor((1, 8, 8, 6), F32))
    y = unlike(b, x, 1)
    graph = b.finish([y, b.add(Softmax(b.add(Mul(y, fixed(b, np.float32(0.5))))))])
    (warning,) = qir.compile(graph, calibration=X).report().warnings
    assert warning == "output %heads: its channels reach 0.0515 to 966 and share a scale"
