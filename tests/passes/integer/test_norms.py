"""Layer and group norms without attention: 16 bits where others take them, near their floats."""

from __future__ import annotations

import numpy as np
import pytest

from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import Add, Constant, LayerNorm, Linear, Mul, NormFixed, Relu, Reshape
from qir.ir.types import F32, I8, I16, U8, Array, Tensor
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, evaluate
from qir.passes.pipelines import TO_INTEGER, quantize, transform

RNG = np.random.default_rng(0)


def constant(b: Builder, *shape: int) -> Value:
    return b.add(Constant.of(RNG.normal(size=shape).astype(np.float32)))


def layer_norm(b: Builder, x: Value) -> Value:
    """Of a layer, as in a transformer, with gain and offset."""
    h = b.add(Linear(x, constant(b, 32, 32), constant(b, 32)))
    return b.add(LayerNorm(h, constant(b, 32), constant(b, 32), 1e-5), "norm")


def bare_norm(b: Builder, x: Value) -> Value:
    return b.add(LayerNorm(x, None, None, 1e-5), "norm")


def group_norm(b: Builder, x: Value) -> Value:
    """As it is imported: a layer norm of each group, then a gain and an offset by channel."""
    groups = b.add(LayerNorm(b.add(Reshape(x, (1, 4, 8))), None, None, 1e-5))
    flat = b.add(Reshape(groups, (1, 32)))
    return b.add(Add(b.add(Mul(flat, constant(b, 32))), constant(b, 32)), "norm")


def run(graph: Graph, data: Array) -> tuple[Array, Array, float]:
    float_ = Manager(check=True).run(graph, transform(graph, (data,)))
    simulated = Manager().run(float_, quantize(calibrate(float_, data, "min-max")))
    integer = Manager().run(simulated, TO_INTEGER)
    expected = np.concatenate([evaluate(graph, [x[None]])[0] for x in data])
    actual = np.concatenate(
        [
            dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [x[None]])))[0]
            for x in data
        ]
    )
    return expected, actual, float(integer.outputs[0].type.quant.scale.array)


@pytest.mark.parametrize("make", [layer_norm, bare_norm, group_norm])
def test_norms_are_near_their_floats(make: object) -> None:
    assert callable(make)
    b = Builder("net", "canonical")
    graph = b.finish([make(b, b.input("x", Tensor((1, 32), F32)))])
    data = RNG.normal(size=(60, 32)).astype(np.float32) * RNG.uniform(0.5, 2, (60, 1))
    expected, actual, _ = run(graph, data.astype(np.float32))
    assert 10 * np.log10((expected**2).sum() / ((actual - expected) ** 2).sum()) > 30


def test_a_row_of_one_number_becomes_zeros() -> None:
    b = Builder("net", "canonical")
    graph = b.finish([bare_norm(b, b.input("x", Tensor((1, 32), F32)))])
    data = RNG.normal(size=(20, 32)).astype(np.float32)
    data[0] = 1.0
    _, actual, step = run(graph, data)
    assert np.abs(actual[0]).max() <= 1.5 * step


def test_what_a_norm_reads_and_makes_has_16_bits() -> None:
    """Between a layer, whose sums are rounded once, and a relu, which takes 8 bits."""
    b = Builder("net", "canonical")
    y = b.add(Relu(layer_norm(b, b.input("x", Tensor((1, 32), F32)))))
    graph = b.finish([b.add(Linear(y, constant(b, 8, 32), None))])
    data = RNG.normal(size=(40, 32)).astype(np.float32)
    float_ = Manager().run(graph, transform(graph, (data,)))
    simulated = Manager().run(float_, quantize(calibrate(float_, data, "min-max")))
    integer = Manager().run(simulated, TO_INTEGER)
    (norm,) = (op for op in integer.ops if isinstance(op, NormFixed))
    assert norm.x.type.quant.storage == I16
    assert norm.result.type.quant.storage == I8
    (layer,) = (op for op in integer.ops if isinstance(op, Linear) and op.w.type.shape[0] == 8)
    assert layer.x.type.quant.storage == U8
