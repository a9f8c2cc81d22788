"""Maximum, minimum and division of two activations, on all pairs of stored integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qir.ir.errors import LowerError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import interpret
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Constant,
    Dequantize,
    Div,
    Maximum,
    Minimum,
    Mul,
    Quantize,
    ReduceSum,
    Relu,
    Requantize,
    Sqrt,
)
from qir.ir.ops.quantize import dequantized, quantized
from qir.ir.types import F32, I8, U3, U8, Array, Quant, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.pipelines import TO_INTEGER, quantize

EXTREMA = {Maximum: np.maximum, Minimum: np.minimum}


def of_all_pairs(op: Any, a: Quant, b: Quant, y: Quant) -> tuple[Array, Array, Array, Graph]:
    """(reals of a, reals of b, stored results, the integer graph) of a QDQ model op(a, b)."""
    g = Builder("pairs", "transformed")
    stored = [np.arange(q.storage.min, q.storage.max + 1).astype(q.carrier) for q in (a, b)]
    shapes = (len(stored[0]), 1), (1, len(stored[1]))
    xs = [g.input(n, Tensor(s, F32)) for n, s in zip("ab", shapes, strict=True)]
    reals = [
        g.add(Dequantize(g.add(Quantize(x, q, Rounding.HALF_EVEN))))
        for x, q in zip(xs, (a, b), strict=True)
    ]
    result = g.add(Quantize(g.add(op(*reals), "y"), y, Rounding.HALF_EVEN))
    graph = g.finish([g.add(Dequantize(result))])
    integer = Manager().run(Manager().run(graph, quantize(None)), TO_INTEGER)
    arrays = [x.reshape(s) for x, s in zip(stored, shapes, strict=True)]
    (actual,) = interpret(integer, arrays)
    return dequantized(arrays[0], a), dequantized(arrays[1], b), actual, integer


@pytest.mark.parametrize("op", EXTREMA)
@pytest.mark.parametrize("same", [Quant.per_tensor(U8, 0.1, 20), Quant.per_tensor(I8, 0.3, -90)])
def test_an_extremum_of_one_quantization_is_exact(op: type[Op], same: Quant) -> None:
    a, b, actual, integer = of_all_pairs(op, same, same, same)
    assert np.array_equal(actual, quantized(EXTREMA[op](a, b), same, Rounding.HALF_EVEN))
    assert {type(o) for o in integer.ops} == {Requantize}


@pytest.mark.parametrize("op", EXTREMA)
def test_an_extremum_is_the_result_of_rounding_each_operand(op: type[Op]) -> None:
    a, b = Quant.per_tensor(U8, 0.11, 100), Quant.per_tensor(I8, 0.03, 5)
    for y in (Quant.per_tensor(U8, 0.05, 77), Quant.per_tensor(U3, 0.7, 2)):
        x, z, actual, _ = of_all_pairs(op, a, b, y)
        expected = quantized(EXTREMA[op](x, z), y, Rounding.HALF_EVEN)
        apart = np.abs(actual.astype(int) - expected)
        assert apart.max() <= 1 and np.mean(apart > 0) < 0.02  # ties of an operand's rescaling


def test_a_quotient_is_that_of_the_stored_operands() -> None:
    a = Quant.per_tensor(I8, 0.02, 3)
    for b in (Quant.per_tensor(U8, 0.05, 0), Quant.per_tensor(I8, 0.05, 20)):
        y = Quant.per_tensor(I8, 0.01, -4)
        x, z, actual, _ = of_all_pairs(Div, a, b, y)
        zero = int(b.zero_point.array) - b.storage.min
        z[0, zero] = z[0, zero + 1]  # 1 / 0 is that of the next
        expected = x.astype(np.float64) / z / 0.01 - 4
        error = np.abs(actual - expected.clip(-128, 127))
        assert np.all(error <= 0.5001 + np.abs(expected.clip(-128, 127) + 4) * 2.0**-14)


def run(make: Callable[[Builder, Value], Value], data: Array) -> tuple[Array, float]:
    g = Builder("net", "transformed")
    y = make(g, g.input("x", Tensor((1, *data.shape[1:]), F32)))
    graph = g.finish([y])
    simulated = Manager().run(graph, quantize(calibrate(graph, data, "min-max")))
    integer = Manager().run(simulated, TO_INTEGER)
    kind, out = integer.inputs[0].type.quant, integer.outputs[0].type.quant
    stored = [interpret(integer, [quantized(v[None], kind, Rounding.HALF_EVEN)])[0] for v in data]
    return dequantized(np.concatenate(stored), out), float(out.scale.array)


def test_a_vector_by_its_own_norm() -> None:
    data = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)

    def normalized(g: Builder, x: Value) -> Value:
        norm = g.add(Sqrt(g.add(ReduceSum(g.add(Mul(x, x)), (1,), True))))
        return g.add(Div(x, norm))

    actual, _ = run(normalized, data)
    expected = data / np.linalg.norm(data, axis=1, keepdims=True)
    assert 10 * np.log10((expected**2).sum() / ((actual - expected) ** 2).sum()) > 30


def test_extrema_with_constants_of_every_place_and_of_two_readers() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 4, 3)).astype(np.float32)
    floor = rng.normal(size=(1, 4, 3)).astype(np.float32)

    def bounded(g: Builder, x: Value) -> Value:
        r = g.add(Relu(x))
        low = g.add(Constant.of(floor))
        return g.add(Minimum(g.add(Maximum(x, low)), g.add(Maximum(r, low))))

    actual, step = run(bounded, data)
    expected = np.minimum(np.maximum(data, floor), np.maximum(data.clip(0), floor))
    assert np.abs(actual - expected).max() < 1.5 * step


def test_a_constant_divided_by_an_activation_and_the_other_way_round() -> None:
    rng = np.random.default_rng(0)
    data = rng.uniform(1, 2, size=(50, 4, 3)).astype(np.float32)
    c = rng.uniform(1, 2, size=(1, 4, 3)).astype(np.float32)
    for first in (True, False):

        def quotient(g: Builder, x: Value, first: bool = first) -> Value:
            k = g.add(Constant.of(c))
            return g.add(Div(k, x) if first else Div(x, k))

        actual, step = run(quotient, data)
        expected = c / data if first else data / c
        assert np.abs(actual - expected).max() < 0.02 and step < 0.01


def test_division_by_a_constant_zero_is_refused() -> None:
    g, to = Builder("zero", "transformed"), Quant.per_tensor(U8, 0.1, 3)
    x = g.add(Quantize(g.input("x", Tensor((2, 2), F32)), to, Rounding.HALF_EVEN))
    c = g.add(Constant.of(np.array([[1, 0], [2, 3]], np.float32)))
    y = g.add(Quantize(g.add(Div(g.add(Dequantize(x)), c)), to, Rounding.HALF_EVEN))
    graph = Manager().run(g.finish([g.add(Dequantize(y))]), quantize(None))
    with pytest.raises(LowerError, match="div %div: it divides by a constant that holds 0"):
        Manager().run(graph, TO_INTEGER)
