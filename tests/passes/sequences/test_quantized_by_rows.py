"""A decoder by rows: its simulated and integer graphs against floats, and causality bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from qir.ir.errors import LowerError
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Add,
    Attention,
    AttentionFixed,
    Concat,
    Constant,
    Conv,
    Embed,
    Gelu,
    Interpolate,
    LayerNorm,
    Linear,
    NormFixed,
    Reshape,
    RoundRows,
    ScaleRows,
    Slice,
    Take,
)
from qir.ir.ranges import prove_no_overflow
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, I16, I32, U1, Array, Int, Tensor
from qir.passes import pipelines
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager
from qir.passes.quantize.place_rows import Scales, row_passes
from qir.passes.quantize.placement import plan_quantization
from tests.float_decoders import float_graph, random_decoder

COUNT = 12


def quantized(graph: Graph, *samples: Array, scales: Scales = Scales.AUTO) -> tuple[Graph, Graph]:
    """The simulated and the integer graph."""
    manager = Manager()
    graph = manager.run(graph.at_stage("transformed"), pipelines.lower(graph))
    ranges = calibrate(graph, [samples])
    pairs = pipelines.quantize(ranges, rows=row_passes(graph, scales))
    simulated = manager.run(graph, pairs)
    return simulated, manager.run(simulated, pipelines.TO_INTEGER)


@cache
def decoder(is_tied: bool = True) -> tuple[Graph, Graph, Graph, Array]:
    """(float, simulated, integer graph, tokens) of a small decoder."""
    tokens = np.random.default_rng(5).integers(0, 40, (32, COUNT)).astype(np.int32)
    graph = float_graph(random_decoder(is_tied=is_tied), 1, COUNT)
    return graph, *quantized(graph, tokens), tokens


def decibels(reals: Array, found: Array) -> float:
    return float(10 * np.log10((reals**2).sum() / ((reals - found) ** 2).sum()))


def run_integers(graph: Graph, *inputs: Array) -> Array:
    return dequantize_outputs(graph, interpret(graph, inputs))[0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_decoder_is_near_to_floats(is_tied: bool) -> None:
    graph, simulated, integer, tokens = decoder(is_tied)
    for row in tokens[:4]:
        expected = run_float(graph, [row[None]])[0]
        assert decibels(expected, run_float(simulated, [row[None]])[0]) > 25
        assert decibels(expected, run_integers(integer, row[None])) > 25


def test_widths_of_a_decoder() -> None:
    """The stream has 20 bits, keys and values 8, all else 16; a tied head is one constant."""
    _, simulated, integer, _ = decoder()
    kinds = {type(op) for op in integer.ops}
    assert {AttentionFixed, Embed, Interpolate, NormFixed, ScaleRows} <= kinds
    ops_by_name = {op.names[0]: op for op in integer.ops}
    for i in range(2):
        for name in (f"middle{i}", f"end{i}"):
            assert (
                isinstance(ops_by_name[name], ScaleRows) and ops_by_name[name].residual is not None
            )
            assert ops_by_name[name].result.type.quant.storage == Int(20, True)
        assert ops_by_name[f"layer{i}_v"].result.type.quant.storage.bits == 8
        assert ops_by_name[f"layer{i}_gate"].result.type.quant.storage == I16
    (table,) = (op.table for op in integer.ops if isinstance(op, Embed))
    (head,) = (op.w for op in integer.ops if isinstance(op, Linear) and op.w.type.shape[0] == 40)
    assert table == head
    assert sum(isinstance(op, RoundRows) for op in simulated.ops) == 2 * 5 + 1
    assert prove_no_overflow(integer)


def test_prefix_is_the_same_whatever_follows() -> None:
    *_, integer, tokens = decoder()
    row = tokens[:1]
    outputs = interpret(integer, [row])[0]
    for count in (1, 5, COUNT - 1):
        other = row.copy()
        other[:, count:] = (other[:, count:] + 7) % 40
        assert np.array_equal(interpret(integer, [other])[0][:, :count], outputs[:, :count])


def test_static_scales_keep_rows_of_queries_alone() -> None:
    graph, *_, tokens = decoder()
    simulated, integer = quantized(graph, tokens, scales=Scales.STATIC)
    assert sum(isinstance(op, RoundRows) for op in simulated.ops) == 2
    assert not any(isinstance(op, ScaleRows) for op in integer.ops)
    expected = run_float(graph, [tokens[:1]])[0]
    assert decibels(expected, run_integers(integer, tokens[:1])) > 18


def encoder() -> Graph:
    """A vision encoder: patches by a convolution, a class token, positions, one block with biases,
    of one linear op for queries, keys and values, whose keys an input hides, layer norms, and the
    class of the first token.
    """
    rng, b, width = np.random.default_rng(2), Builder("encoder", "canonical"), 16

    def constant(*shape: int) -> Value:
        values = rng.standard_normal(shape) / np.sqrt(shape[-1])
        return b.add(Constant.of(values.astype(np.float32)))

    def linear(x: Value, size: int) -> Value:
        return b.add(Linear(x, constant(size, x.type.shape[-1]), constant(size)))

    def norm(x: Value) -> Value:
        gain = b.add(Constant.of(rng.uniform(0.5, 1.5, width).astype(np.float32)))
        return b.add(LayerNorm(x, gain, constant(width), 1e-5))

    image = b.input("image", Tensor((1, 8, 8, 3), F32))
    table = b.add(Constant.of(np.array([0, 1], np.uint8), U1))
    mask = b.add(Take(table, b.input("mask", Tensor((1, 17), I32))))
    visible = b.add(Reshape(mask, (1, 1, 1, 17)))
    none = (0, 0, 0, 0)
    patches = b.add(Conv(image, constant(width, 2, 2, 3), constant(width), (2, 2), none, (1, 1), 1))
    tokens = b.add(Concat((constant(1, 1, width), b.add(Reshape(patches, (1, 16, width)))), 1))
    x = b.add(Add(tokens, constant(1, 17, width)))
    normed = norm(x)
    whole = linear(normed, 3 * width)
    q, k, v = (
        b.add(Slice(whole, (0, 0, i * width), (1, 17, (i + 1) * width), (1, 1, 1)))
        for i in range(3)
    )
    heads = b.add(Attention(q, k, v, None, visible, None, 2, 2, 8**-0.5, False, 0))
    x = b.add(Add(x, linear(heads, width)))
    x = b.add(Add(x, linear(b.add(Gelu(linear(norm(x), 2 * width), False)), width)))
    first = b.add(Slice(norm(x), (0, 0, 0), (1, 1, width), (1, 1, 1)))
    return b.finish([linear(b.add(Reshape(first, (1, width))), 5)])


@pytest.mark.parametrize("scales", [Scales.AUTO, Scales.STATIC])
def test_encoder(scales: Scales) -> None:
    rng, graph = np.random.default_rng(4), encoder()
    images = rng.standard_normal((24, 8, 8, 3)).astype(np.float32)
    mask = (rng.random((24, 17)) < 0.8).astype(np.int32)
    simulated, integer = quantized(graph, images, mask, scales=scales)
    runs = [(images[i : i + 1], mask[i : i + 1]) for i in range(8)]
    expected, near = (
        np.concatenate([run_float(g, r)[0] for r in runs]) for g in (graph, simulated)
    )
    outputs = np.concatenate([run_integers(integer, *quantize_inputs(integer, r)) for r in runs])
    least = 28 if scales is Scales.AUTO else 22
    assert decibels(expected, near) > least
    assert decibels(expected, outputs) > least


def test_small_tables_have_the_steps_of_the_result() -> None:
    """Rows of a table that is tied to no layer, and small: taken as they are stored."""
    _, _, integer, _ = decoder(is_tied=False)
    (taken,) = (op for op in integer.ops if isinstance(op, Take))
    assert taken.result.type.quant.storage == Int(20, True)


def test_attention_needs_rows() -> None:
    graph = float_graph(random_decoder(), 1, COUNT)
    with pytest.raises(LowerError, match=r"rows are needed \(place-rows\)"):
        plan_quantization(graph)


def test_what_a_curve_draws_has_16_bits() -> None:
    """A sum would read 20."""
    rng, b = np.random.default_rng(6), Builder("curve", "canonical")
    x = b.input("x", Tensor((1, 5, 8), F32))
    y = b.add(Add(b.add(Gelu(x, False), "curve"), x))
    w = b.add(Constant.of(rng.standard_normal((8, 8)).astype(np.float32)))
    q = b.add(Linear(y, w, None))
    graph = b.finish([b.add(Attention(q, q, q, None, None, None, 2, 2, 0.5, False, 0))])
    sample = rng.standard_normal((16, 5, 8)).astype(np.float32)
    _, integer = quantized(graph, sample)
    (made,) = (op for op in integer.ops if isinstance(op, Interpolate))
    assert made.to.storage == I16
    runs = [sample[i : i + 1] for i in range(4)]
    expected = np.concatenate([run_float(graph, [x])[0] for x in runs])
    outputs = np.concatenate([run_integers(integer, *quantize_inputs(integer, [x])) for x in runs])
    assert decibels(expected, outputs) > 30
