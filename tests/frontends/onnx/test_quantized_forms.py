"""Quantized models with dead slices, groups, stored integers and ties, as ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.torch_executor import run_float
from qir.ir.types import Array
from qir.passes import pipelines
from qir.passes.infra.manager import Manager
from tests.frontends.onnx.models import agrees, model, reals, runtime

Z = np.int8(0)


def node(op: str, inputs: Sequence[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), [output], **attributes)


def pair(x: str, y: str, scale: str) -> list[NodeProto]:
    """x through QuantizeLinear and DequantizeLinear as y."""
    return [
        node("QuantizeLinear", [x, scale, "z"], f"{y}_q"),
        node("DequantizeLinear", [f"{y}_q", scale, "z"], y),
    ]


def integers(proto: onnx.ModelProto, x: Array) -> Array:
    """The output of the model's integer graph, as reals."""
    graph = Manager().run(import_onnx(proto), pipelines.CANONICALIZE)
    graph = Manager().run(graph, pipelines.quantize(None))
    graph = Manager().run(graph, pipelines.TO_INTEGER)
    return dequantize_outputs(graph, interpret(graph, quantize_inputs(graph, [x])))[0]


def stored(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-100, 100, shape).astype(np.int8)


DEAD = np.array([0.01, 0.02, 0.0, 0.03], np.float32)


@pytest.mark.parametrize("value", [0, 55], ids=["zeros", "stale"])
def test_a_dead_channel_of_weights_is_zeros(value: int) -> None:
    w = stored(4, 8)
    w[2] = value  # with a scale of 0 it does not matter what is stored
    nodes = [node("DequantizeLinear", ["w", "s", "zs"], "wd", axis=0)]
    nodes.append(node("Gemm", ["x", "wd", "b"], "y", transB=1))
    constants = {"w": w, "s": DEAD, "zs": np.zeros(4, np.int8), "b": reals(4)}
    proto = model(nodes, {"x": (3, 8)}, ["y"], constants)
    agrees(proto, reals(3, 8, seed=1))


def test_dead_weights_of_one_scale_are_zeros() -> None:
    nodes = [node("DequantizeLinear", ["w", "s", "z"], "wd"), node("MatMul", ["x", "wd"], "y")]
    constants = {"w": stored(8, 4), "s": np.float32(0), "z": np.int8(3)}
    agrees(model(nodes, {"x": (3, 8)}, ["y"], constants), reals(3, 8))


def test_a_dead_block_of_weights_is_zeros() -> None:
    nodes = [node("DequantizeLinear", ["w", "s"], "wd", axis=0, block_size=4)]
    nodes.append(node("MatMul", ["x", "wd"], "y"))
    scale = np.array([[0.1, 0.0], [0.2, 0.3]], np.float32)
    constants = {"w": stored(8, 2), "s": scale}
    proto, x = model(nodes, {"x": (3, 8)}, ["y"], constants, opset=21), reals(3, 8)
    (y,) = run_float(import_onnx(proto), [x])
    weights = constants["w"] * np.repeat(scale, 4, axis=0)
    np.testing.assert_allclose(y, x @ weights, rtol=1e-5, atol=1e-4)


def test_dead_activations_are_zeros() -> None:
    constants = {"s": np.float32(0), "z": Z}
    agrees(model(pair("x", "y", "s"), {"x": (3, 8)}, ["y"], constants), reals(3, 8))
    per_channel = [
        node("QuantizeLinear", ["x", "s", "zs"], "q", axis=1),
        node("DequantizeLinear", ["q", "s", "zs"], "y", axis=1),
    ]
    constants = {"s": DEAD, "zs": np.zeros(4, np.int8)}
    agrees(model(per_channel, {"x": (3, 4)}, ["y"], constants), reals(3, 4), within=1e-4)


def test_a_dead_channel_of_a_qlinear_conv() -> None:
    names = ["x", "sx", "z", "w", "s", "zs", "sy", "z", "b"]
    nodes = [
        node("QuantizeLinear", ["f", "sx", "z"], "x"),
        helper.make_node("QLinearConv", names, ["q"]),
        node("DequantizeLinear", ["q", "sy", "z"], "y"),
    ]
    bias = np.array([5, -7, 0, 9], np.int32)
    constants = {
        "sx": np.float32(0.02), "z": Z, "w": stored(4, 3, 3, 3), "s": DEAD,
        "zs": np.zeros(4, np.int8), "sy": np.float32(0.05), "b": bias,
    }  # fmt: skip
    proto = model(nodes, {"f": (1, 3, 6, 6)}, ["y"], constants)
    agrees(proto, reals(1, 3, 6, 6), within=1e-4, optimized=False)


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf])
def test_scales_that_are_none(scale: float) -> None:
    constants = {"s": np.float32(scale), "z": Z}
    with pytest.raises(FrontendError, match="finite scales of at least 0 are needed"):
        import_onnx(model(pair("x", "y", "s"), {"x": (3, 8)}, ["y"], constants))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_transposed_convolution_with_scales_per_channel(groups: int) -> None:
    each = 3
    nodes = [*pair("x", "a", "sx"), node("DequantizeLinear", ["w", "sw", "zw"], "wd", axis=1)]
    nodes.append(node("ConvTranspose", ["a", "wd"], "c", group=groups, strides=[2, 2]))
    nodes += pair("c", "y", "sy")
    constants = {
        "w": stored(4, each, 2, 2), "z": Z, "sx": np.float32(0.02), "sy": np.float32(0.03),
        "sw": np.array([0.01, 0.02, 0.005], np.float32), "zw": np.zeros(each, np.int8),
    }  # fmt: skip
    proto = model(nodes, {"x": (1, 4, 5, 5)}, ["y"], constants)
    x = reals(1, 4, 5, 5)
    steps = np.abs(integers(proto, x) - runtime(proto, x)[0]) / 0.03
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.02


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (0, 127), (-128, 127), (None, 5), (-3, None)])
def test_clip_of_stored_integers(low: int | None, high: int | None) -> None:
    bounds = {n: np.int8(v) for n, v in (("lo", low), ("hi", high)) if v is not None}
    names = ["x_q", *(n if n in bounds else "" for n in ("lo", "hi"))]
    nodes = [node("QuantizeLinear", ["x", "s", "z"], "x_q"), node("Clip", names, "c")]
    nodes.append(node("DequantizeLinear", ["c", "s", "z"], "y"))
    proto = model(nodes, {"x": (1, 64)}, ["y"], {"s": np.float32(0.25), "z": np.int8(-3), **bounds})
    x = np.linspace(-40, 40, 64, dtype=np.float32)[None]
    expected = runtime(proto, x)[0]
    agrees(proto, x)
    np.testing.assert_array_equal(integers(proto, x), expected)


def test_bounds_of_stored_integers_as_inputs_are_refused() -> None:
    clip = node("Clip", ["x", "low"], "y")
    proto = model([clip], {"x": (1, 4), "low": ()}, ["y"], kind=onnx.TensorProto.INT8)
    with pytest.raises(FrontendError, match="bounds of stored integers computed at run time"):
        import_onnx(proto)


def test_relu_of_stored_integers() -> None:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], "q"), node("Relu", ["q"], "r")]
    nodes.append(node("DequantizeLinear", ["r", "s", "z"], "y"))
    proto = model(nodes, {"x": (1, 64)}, ["y"], {"s": np.float32(0.25), "z": np.int8(5)})
    x = np.linspace(-40, 40, 64, dtype=np.float32)[None]
    zero, scale = 5, 0.25
    q = np.clip(np.rint(x / np.float32(scale)) + zero, -128, 127)
    np.testing.assert_array_equal(integers(proto, x), (np.maximum(q, 0) - zero) * scale)


@pytest.mark.parametrize("factor", [2.0, 4.0, 0.5])
@pytest.mark.parametrize("shape", [(1, 1, 1, 64), (1, 2, 8, 8)], ids=str)
def test_linear_resize_rounds_ties_to_even(shape: tuple[int, ...], factor: float) -> None:
    scales = np.array([1, 1, factor if shape[2] > 1 else 1, factor], np.float32)
    nodes = [*pair("x", "a", "s"), node("Resize", ["a", "", "k"], "r", mode="linear")]
    nodes += pair("r", "y", "s")
    proto = model(nodes, {"x": shape}, ["y"], {"s": np.float32(1), "z": Z, "k": scales})
    x = np.random.default_rng(0).integers(-120, 120, shape).astype(np.float32)
    np.testing.assert_array_equal(integers(proto, x), runtime(proto, x)[0])
