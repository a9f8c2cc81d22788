"""Values of unlike scales that meet in an output: scales along the axis where nothing computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.errors import VerifyError
from qir.ir.fixed import Rounding
from qir.ir.graph import Builder, Graph
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.op import Value
from qir.ir.ops import (
    Concat,
    Constant,
    Dequantize,
    Linear,
    Mul,
    Pad,
    PadMode,
    Quantize,
    Reshape,
    Sigmoid,
    Slice,
    Transpose,
)
from qir.ir.torch_executor import run_float
from qir.ir.types import F32, I4, I8, U8, Array, Int, Quant, Tensor
from qir.passes.bits.choice import Bits
from qir.passes.calibrate.ranges import calibrate
from qir.passes.infra.manager import Manager, Record
from qir.passes.pipelines import TO_INTEGER, quantize
from qir.passes.quantize.joins import is_carried
from qir.passes.quantize.quantize_graph import QuantizeGraph

X = np.random.default_rng(0).normal(size=(48, 6, 4)).astype(np.float32)
Tail = Callable[[Builder, Value], Value]


def heads(tail: Tail, axis: int = 2, wide: float = 320.0, order: str = "bs") -> Graph:
    """boxes (0 to 320) and scores (0 to 1) of (1, 6, 4), joined along an axis, then `tail`."""
    b = Builder("heads", "transformed")
    x = b.input("x", Tensor((1, 6, 4), F32))
    boxes = b.add(Mul(b.add(Sigmoid(x)), b.add(Constant.of(np.float32(wide)))), "boxes")
    one = {"b": boxes, "s": b.add(Sigmoid(x), "scores")}
    joined = b.add(Concat(tuple(one[letter] for letter in order), axis), "joined")
    return b.finish([tail(b, joined)])


def integers(graph: Graph) -> Graph:
    manager = Manager()
    return manager.run(manager.run(graph, quantize(calibrate(graph, X))), TO_INTEGER)


def largest_errors(graph: Graph, integer: Graph, axis: int) -> list[float]:
    """Of the two halves along the axis of the output."""
    worst = [0.0, 0.0]
    for row in X[:8, None]:
        (expected,) = run_float(graph, [row])
        (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [row])))
        for i, part in enumerate(np.split(np.abs(expected - y), 2, axis)):
            worst[i] = max(worst[i], float(part.max()))
    return worst


def turned(b: Builder, y: Value) -> Value:
    return b.add(Transpose(y, (0, 2, 1)))


def merged(b: Builder, y: Value) -> Value:
    return b.add(Reshape(y, (6, 8)))


def cut(b: Builder, y: Value) -> Value:
    return b.add(Slice(y, (0, 1, 2), (1, 6, 6), (1, 1, 1)))


@pytest.mark.parametrize(
    ("tail", "axis"), [(lambda b, y: y, 2), (turned, 1), (merged, 1), (cut, 2)]
)
def test_each_keeps_its_own_scale_in_an_output(tail: Tail, axis: int) -> None:
    graph = heads(tail)
    integer = integers(graph)
    quant = integer.outputs[0].type.quant
    assert quant.axis == axis
    count = graph.outputs[0].type.shape[axis] // 2
    scales = quant.scale.array
    assert len(set(scales[:count])) == len(set(scales[count:])) == 1
    assert scales[0] > 200 * scales[-1]
    boxes, scores = largest_errors(graph, integer, axis)
    assert scores < 0.02 < boxes < 320 * 0.02


def test_three_joined_along_the_first_of_two_axes() -> None:
    graph = heads(lambda b, y: y, axis=1, order="sbs")
    quant = integers(graph).outputs[0].type.quant
    assert quant.axis == 1
    scales = quant.scale.array
    assert (scales[:6] == scales[12:]).all() and (scales[6:12] > 200 * scales[0]).all()


@pytest.mark.parametrize("storage", [I8, I4])
@pytest.mark.parametrize("is_moved", [False, True])
def test_what_the_model_stores_in_another_type(storage: Int, is_moved: bool) -> None:
    """boxes of floats, and scores that the model itself quantizes: a concat has one type, u8 here,
    which holds what has 8 bits or less.
    """
    b = Builder("mixed", "transformed")
    x = b.input("x", Tensor((1, 6, 4), F32))
    boxes = b.add(Mul(b.add(Sigmoid(x)), b.add(Constant.of(np.float32(320)))), "boxes")
    own = Quant.per_tensor(storage, 2.0**-storage.bits, storage.min)
    stored = b.add(Quantize(b.add(Sigmoid(x)), own, Rounding.HALF_EVEN))
    scores = b.add(Dequantize(stored), "scores")
    if is_moved:
        boxes, scores = turned(b, boxes), turned(b, scores)
    graph = b.finish([b.add(Concat((boxes, scores), 1 if is_moved else 2), "joined")])
    integer = integers(graph)
    quant = integer.outputs[0].type.quant
    record = Record("quantize-graph", QuantizeGraph.claim)
    QuantizeGraph(calibrate(graph, X)).run(graph, record)
    assert quant.storage == U8 and not record.warnings
    scales = quant.scale.array.reshape(2, -1)
    assert (scales[1] == 2.0**-storage.bits).all() and (scales[0] > 1).all()
    wide, narrow = largest_errors(graph, integer, 1 if is_moved else 2)
    assert wide < 320 * 0.02 and narrow <= 2.0**-storage.bits


def test_alike_ones_share_one_scale() -> None:
    assert integers(heads(lambda b, y: y, wide=1.5)).outputs[0].type.quant.is_per_tensor


def test_what_computes_with_them_is_warned_of() -> None:
    def layer(b: Builder, y: Value) -> Value:
        w = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
        return b.add(Linear(y, b.add(Constant.of(w)), None))

    graph = heads(layer)
    record = Record("quantize-graph", QuantizeGraph.claim)
    QuantizeGraph(calibrate(graph, X)).run(graph, record)
    (miss,) = [m for m in record.misses if m.at == "joined"]
    assert record.warnings == [f"concat %joined: {miss.why}"]
    assert (
        miss.why.startswith("%scores of range 0.9") and "scale with %boxes of range 3" in miss.why
    )
    assert integers(graph).producers["joined"].results[0].type.quant.is_per_tensor


def test_which_moves_keep_an_axis() -> None:
    for tail, kept in (
        (lambda b, y: b.add(Reshape(y, (48,))), True),
        (lambda b, y: b.add(Reshape(y, (12, 4))), False),
        (lambda b, y: b.add(Pad(y, (0, 0, 1), (0,) * 3, (0,) * 3, PadMode.CONSTANT, 0.0)), False),
        (turned, True),
        (lambda b, y: b.add(Reshape(turned(b, y), (1, 8, 2, 3))), True),
    ):
        graph = heads(tail)
        joined = graph.producers["joined"].results[0]
        assert is_carried(graph, joined, 2) is kept
        assert integers(graph).outputs[0].type.quant.is_per_tensor is not kept


def stored(builder: Builder, name: str, quant: Quant, shape: tuple[int, ...] = (2, 3)) -> Value:
    return builder.input(name, Tensor(shape, quant))


def test_types_of_a_concat_of_several_quantizations() -> None:
    b = Builder("types", "integer")
    one = stored(b, "a", Quant.per_tensor(U8, 0.5, 3))
    other = stored(b, "b", Quant.per_axis(U8, [1.0, 2.0, 4.0], [0, 1, 2], 1))
    joined = b.add(Concat((one, other), 1))
    expected = Quant.per_axis(U8, [0.5, 0.5, 0.5, 1.0, 2.0, 4.0], [3, 3, 3, 0, 1, 2], 1)
    assert joined.type == Tensor((2, 6), expected)
    cut_ = b.add(Slice(joined, (0, 1), (2, 6), (1, 2)))
    assert cut_.type.elem == Quant.per_axis(U8, [0.5, 1.0, 4.0], [3, 0, 2], 1)
    assert b.add(Transpose(joined, (1, 0))).type.quant.axis == 0
    for bad, why in (
        (Concat((one, other), 0), "one storage and scales along the axis"),
        (Concat((one, stored(b, "c", Quant.per_tensor(I8, 0.5, 3))), 1), "one element type, or"),
        (Reshape(joined, (4, 3)), "one scale is needed to move elements"),
    ):
        with pytest.raises(VerifyError, match=why):
            b.add(bad)


@pytest.mark.parametrize("order", ["outer", "inner"])
def test_an_axis_merged_with_others_keeps_the_scale_of_each_element(order: str) -> None:
    def flat(b: Builder, y: Value) -> Value:
        return b.add(Reshape(turned(b, y) if order == "outer" else y, (1, 48)))

    graph = heads(flat)
    integer = integers(graph)
    scales = integer.outputs[0].type.quant.scale.array
    wide = scales.reshape(8, 6)[:4] if order == "outer" else scales.reshape(6, 8)[:, :4]
    assert len(set(scales)) == 2 and (wide == scales.max()).all() and wide.size == 24
    for row in X[:8, None]:
        (expected,) = run_float(graph, [row])
        (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [row])))
        assert (np.abs(expected - y) < 2 * scales).all()


@given(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4), st.data())
def test_scales_follow_a_reshape_as_the_elements_do(shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    size = int(np.prod(shape))
    first = data.draw(st.sampled_from([k for k in range(1, size + 1) if size % k == 0]))
    x = Value("x", Tensor(tuple(shape), F32))
    move = Reshape(x, data.draw(st.sampled_from([(first, size // first), (size,), (1, size)])))
    to = [-1 if i == axis else 1 for i in range(len(shape))]
    source = np.broadcast_to(np.arange(shape[axis]).reshape(to), shape).reshape(move.shape)
    varies = [i for i in range(source.ndim) if (source != source.take([0], i)).any()]
    place = move.place_of(axis)
    assert (place is None) == (len(varies) > 1) or shape[axis] == 1
    if place is not None:
        slices = np.arange(shape[axis])[move.slices_of(axis)]
        to = [-1 if i == place else 1 for i in range(source.ndim)]
        assert np.array_equal(source, np.broadcast_to(slices.reshape(to), source.shape))


@pytest.mark.parametrize("bits", [Bits(4, 4), Bits(8, 6)])
def test_parts_of_an_output_have_8_bits_where_layers_read_fewer(bits: Bits) -> None:
    """boxes, and a linear function of them, and scores: joined along axis 2 behind reshapes."""
    b = Builder("narrow", "transformed")
    x = b.input("x", Tensor((1, 6, 4), F32))
    boxes = b.add(Mul(b.add(Sigmoid(x)), b.add(Constant.of(np.float32(320)))), "boxes")
    w = b.add(Constant.of(np.eye(4, dtype=np.float32)))
    parts = boxes, b.add(Linear(boxes, w, None), "copy"), b.add(Sigmoid(x), "scores")
    moved = tuple(b.add(Reshape(v, (6, 4))) for v in parts)
    graph = b.finish([b.add(Concat(moved, 1), "joined")])
    manager = Manager()
    simulated = manager.run(graph, quantize(calibrate(graph, X), bits))
    integer = manager.run(simulated, TO_INTEGER)
    step = integer.outputs[0].type.quant.scale.array
    assert integer.outputs[0].type.quant.storage == U8
    narrow = 330 / (2**bits.activation - 1)  # a step of what the linear op reads
    for row in X[:8, None]:
        (expected,) = run_float(graph, [row])
        (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [row])))
        error = np.abs(expected - y)
        assert (error[:, :4] < 2 * step[:4]).all() and (error[:, 8:] < 2 * step[8:]).all()
        assert error[:, 4:8].max() < narrow


def test_bits_of_the_parts_are_their_own() -> None:
    """The joined integers are those of each part alone."""
    graph = heads(turned)
    integer = integers(graph)
    parts: dict[str, Array] = {}
    (y,) = interpret(
        integer,
        quantize_inputs(integer, [X[:1]]),
        watch=lambda v, x: parts.update({v.name: x}),
    )
    assert np.array_equal(
        y, np.concatenate([parts["boxes"], parts["scores"]], 2).transpose(0, 2, 1)
    )
