"""Softmax, sigmoid, tanh: steps follow what was seen; masks of any size leave scores apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Linear, MatMul, Mul, Sigmoid, Softmax, Sub, Tanh, Transpose
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, U8, Array, Quant, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER, quantize

LOWEST = float(np.finfo(np.float32).min)


def integers(graph: Graph, data: object) -> Graph:
    manager = Manager()
    return manager.run(manager.run(graph, quantize(calibrate(graph, data))), TO_INTEGER)


def decibels(graph: Graph, fit: object, fresh: list[tuple[Array, ...]]) -> float:
    integer = integers(graph, fit)
    power = noise = 0.0
    for x in fresh:
        (expected,) = run_float(graph, x)
        (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, x)))
        power, noise = (
            power + float((expected**2).sum()),
            noise + float(((expected - y) ** 2).sum()),
        )
    return float(10 * np.log10(power / noise))


def layer(
    b: Builder, x: Value, size: int, bias: float = 0.0, gain: float = 1.0, seed: int = 0
) -> Value:
    w = np.random.default_rng(seed).normal(size=(size, x.type.shape[-1])) * gain / 6
    bias_ = b.add(Constant.of(np.full(size, bias, np.float32)))
    return b.add(Linear(x, b.add(Constant.of(w.astype(np.float32))), bias_))


@pytest.mark.parametrize(
    ("op", "size", "bias", "gain", "least"),
    [
        (Softmax, 1000, 0.0, 1.0, 26),  # low confidence: all near 0.001
        (Sigmoid, 16, -4.0, 1.0, 24),  # a rare event
        (Tanh, 16, 0.0, 0.05, 34),  # quiet
        (Sigmoid, 16, 0.0, 40.0, 30),  # wide logits
        (Softmax, 16, 0.0, 40.0, 21),
    ],
)
def test_steps_follow_what_was_seen(
    op: Callable[[Value], Op], size: int, bias: float, gain: float, least: float
) -> None:
    b = Builder("head", "transformed")
    x = b.input("x", Tensor((1, 32), F32))
    graph = b.finish([b.add(op(layer(b, x, size, bias, gain)), "y")])
    data = np.random.default_rng(1).normal(size=(160, 32)).astype(np.float32)
    assert decibels(graph, data[:128], [(row[None],) for row in data[128:]]) > least


def test_the_natural_range_where_all_of_it_was_seen() -> None:
    b = Builder("full", "transformed")
    graph = b.finish([b.add(Sigmoid(b.input("x", Tensor((1, 4), F32))), "y")])
    data = np.linspace(-9, 9, 400, dtype=np.float32).reshape(100, 4)
    assert integers(graph, data).outputs[0].type.elem == Quant.per_tensor(U8, 1 / 256, 0)


def attention(tokens: int, masked: Callable[[Builder, Value], Value]) -> tuple[Graph, Builder]:
    b = Builder("attention", "transformed")
    x = b.input("x", Tensor((1, tokens, 8), F32))
    q, k, v = (layer(b, x, 8, gain=1.5, seed=i) for i in range(3))
    scores = masked(b, b.add(MatMul(q, b.add(Transpose(k, (0, 2, 1))))))
    return b.finish([b.add(MatMul(b.add(Softmax(scores)), v), "y")]), b


def tokens(count: int, of: int) -> Array:
    return np.random.default_rng(2).normal(size=(count, 1, of, 8)).astype(np.float32)


@pytest.mark.parametrize("count", [16, 256])
def test_attention_over_many_tokens(count: int) -> None:
    graph, _ = attention(count, lambda b, s: s)
    x = tokens(28, count)
    assert decibels(graph, [(one,) for one in x[:24]], [(one,) for one in x[24:]]) > 20


@pytest.mark.parametrize("size", [-1e4, -1e9, LOWEST])
@pytest.mark.parametrize("form", ["one", "two", "subtracted"])
def test_masks_as_constants(size: float, form: str) -> None:
    mask = np.triu(np.full((8, 8), size, np.float32), 1)

    def masked(b: Builder, scores: Value) -> Value:
        if form == "subtracted":
            return b.add(Sub(scores, b.add(Constant.of(-mask))))
        total = b.add(Add(scores, b.add(Constant.of(mask / (2 if form == "two" else 1)))))
        slope = (np.arange(8) - np.arange(8)[:, None]) / 8.0 + np.minimum(mask / 2, 0)
        more = b.add(Constant.of(slope.astype(np.float32)))
        return b.add(Add(total, more)) if form == "two" else total

    graph, _ = attention(8, masked)
    x = tokens(40, 8)
    assert decibels(graph, [(one,) for one in x[:32]], [(one,) for one in x[32:]]) > 27


@pytest.mark.parametrize("size", [-1e4, LOWEST])
@pytest.mark.parametrize("is_computed", [False, True])
def test_masks_as_inputs(size: float, is_computed: bool) -> None:
    """The mask itself, or 1 where tokens are, of which (1 - mask) * size is made."""

    def masked(b: Builder, scores: Value) -> Value:
        mask = b.input("mask", Tensor((1, 1, 8), F32))
        if is_computed:
            one, lowest = (b.add(Constant.of(np.float32(v))) for v in (1, size))
            mask = b.add(Mul(b.add(Sub(one, mask)), lowest))
        return b.add(Add(scores, mask))

    graph, _ = attention(8, masked)
    values = np.arange(8) < np.random.default_rng(3).integers(3, 9, (40, 1, 1, 1))
    masks = (values if is_computed else np.where(values, 0, size)).astype(np.float32)
    pairs = list(zip(tokens(40, 8), masks, strict=True))
    assert decibels(graph, pairs[:32], pairs[32:]) > 23


@pytest.mark.parametrize(("greatest", "zero"), [(0.0, 255), (1e-6, 255), (0.003, 255), (0.1, 230)])
def test_a_tanh_of_negative_values_stores_its_zero(greatest: float, zero: int) -> None:
    """All its integers are spent below 0, which is the greatest one."""
    b = Builder("low", "transformed")
    graph = b.finish([b.add(Tanh(b.input("x", Tensor((1, 8), F32))))])
    data = np.linspace(-3, greatest, 64, dtype=np.float32).reshape(8, 8)
    integer = integers(graph, data)
    q = integer.outputs[0].type.quant
    assert int(q.zero_point.array) == zero
    for x in data:
        (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, (x[None],))))
        np.testing.assert_allclose(y, np.tanh(x[None]), atol=1.5 * float(q.scale.array))
