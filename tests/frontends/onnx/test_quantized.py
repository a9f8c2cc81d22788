"""Quantized models keep their own scales and zero points, and mean what ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qir.frontends.onnx import import_onnx
from qir.ir import ops
from qir.ir.fixed import Rounding
from qir.ir.interpret import dequantize_outputs, interpret, quantize_inputs
from qir.ir.torch_executor import run_float
from qir.ir.types import I4, I8, I32, U8, Array, Quant
from qir.passes.infra.manager import Manager
from qir.passes.integer.to_integer import ToInteger
from qir.passes.pipelines import CANONICALIZE
from qir.passes.quantize.quantize_graph import QuantizeGraph
from tests.frontends.onnx.labels import labels, quantized, simulated
from tests.frontends.onnx.labels import runtime as onnx_runtime
from tests.frontends.onnx.models import agrees, model, reals, runtime

U, I = np.uint8, np.int8  # noqa: E741
STEP = 1.001  # of the output's scale: a product on a tie may round to either side


def f(x: float) -> Array:
    return np.array(x, np.float32)


@pytest.mark.parametrize(("name", "form"), [("resnet8", "qdq"), ("dscnn", "operators")])
def test_labels_agree_with_onnx_runtime(
    zoo: ModuleType, name: str, form: str, tmp_path: Path
) -> None:
    case = zoo.ZOO[name]
    path = quantized(case, tmp_path, form)
    inputs = case.inputs()[:100]
    same = labels(simulated(path), inputs) == labels(onnx_runtime(path, optimized=True), inputs)
    assert same.mean() >= 0.99
    graph = import_onnx(path)
    kinds = {type(op) for op in graph.ops}
    assert {ops.Quantize, ops.Dequantize, ops.Conv} <= kinds
    quants = [op.elem for op in graph.ops if isinstance(op, ops.Constant)]
    assert any(isinstance(q, Quant) and q.storage == I8 and q.axis == 0 for q in quants)
    assert any(isinstance(q, Quant) and q.storage == I32 for q in quants)


def test_a_dynamic_model_imports_as_its_real_numbers(zoo: ModuleType, tmp_path: Path) -> None:
    """The weights keep their integers; the activations' rounding at run time is left out."""
    case = zoo.ZOO["autoencoder"]
    path = quantized(case, tmp_path, "dynamic")
    graph = import_onnx(path)
    x = case.inputs()[:1]
    expected = onnx_runtime(path, optimized=True)(x[0])
    (actual,) = run_float(graph, [x])
    assert np.abs(actual - expected).max() < 0.05 * np.abs(expected).max()
    assert not any(isinstance(op, ops.Quantize) for op in graph.ops)


def qdq(x: str, scale: str, zero: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [x, scale, zero], [f"{x}_q"]),
        helper.make_node("DequantizeLinear", [f"{x}_q", scale, zero], [f"{x}_dq"]),
    ]


def test_pairs_keep_scale_zero_point_and_rounding() -> None:
    proto = model(qdq("x", "s", "z"), {"x": (2, 3)}, ["x_dq"], {"s": f(0.5), "z": U(3)})
    graph = agrees(proto, reals(2, 3) * 40, within=0)
    quantize, dequantize = graph.ops
    assert isinstance(quantize, ops.Quantize) and isinstance(dequantize, ops.Dequantize)
    assert quantize.to == Quant.per_tensor(U8, 0.5, 3)
    assert quantize.rounding is Rounding.HALF_EVEN


def test_weights_stay_stored_in_channels_last_order() -> None:
    w = np.random.default_rng(0).integers(-128, 128, (4, 2, 3, 3), dtype=np.int8)
    scale, zero = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([0, 1, -1, 5], np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wr"], axis=0),
        helper.make_node("Conv", ["x", "wr"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 2, 5, 5)}, ["y"], {"w": w, "s": scale, "z": zero})
    graph = agrees(proto, reals(1, 2, 5, 5), within=1e-4)
    (constant,) = (op for op in graph.ops if isinstance(op, ops.Constant))
    assert constant.names == ("w.stored",)
    np.testing.assert_array_equal(constant.value.array, w.transpose(0, 2, 3, 1))
    assert isinstance(constant.elem, Quant) and constant.elem.axis == 0
    np.testing.assert_array_equal(constant.elem.scale.array, scale.astype(np.float64))
    np.testing.assert_array_equal(constant.elem.zero_point.array, zero)


PARAMETERS = {  # integers of the quantized parameters of an op, of scale 0.02
    "PRelu": ([[[40]], [[-20]]],),
    "Clip": (-40, 50),
    "Pow": (100,),  # 100 * 0.02 is 2 in float32, and not in float64
}


@pytest.mark.parametrize("op", PARAMETERS)
def test_quantized_parameters_are_the_reals_they_stand_for(op: str) -> None:
    constants, nodes = {"s": f(0.02), "z": np.int8(0)}, []
    for i, integers in enumerate(PARAMETERS[op]):
        constants[f"p{i}"] = np.array(integers, np.int8)
        nodes.append(helper.make_node("DequantizeLinear", [f"p{i}", "s", "z"], [f"r{i}"]))
    names = [f"r{i}" for i in range(len(PARAMETERS[op]))]
    nodes.append(helper.make_node(op, ["x", *names], ["y"]))
    proto = model(nodes, {"x": (1, 2, 3, 3)}, ["y"], constants)
    graph = agrees(proto, reals(1, 2, 3, 3), within=1e-6)
    assert not any(isinstance(one, ops.Dequantize) for one in graph.ops)


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_matrices_are_quantized_along_their_outputs(op: str) -> None:
    w = np.random.default_rng(0).integers(-128, 128, (6, 4), dtype=np.int8)
    scale = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wr"], axis=1),
        helper.make_node(op, ["x", "wr"], ["y"]),
    ]
    proto = model(nodes, {"x": (3, 6)}, ["y"], {"w": w, "s": scale})
    graph = agrees(proto, reals(3, 6), within=1e-4, optimized=False)  # else it rounds x as well
    (constant,) = (o for o in graph.ops if isinstance(o, ops.Constant))
    assert isinstance(constant.elem, Quant) and constant.elem.axis == 0
    assert constant.value.shape == (4, 6)


def test_float_weights_behind_a_pair_are_stored() -> None:
    """PyTorch's exporter leaves weights float, with both nodes behind them."""
    nodes = [*qdq("w", "s", "z"), helper.make_node("MatMul", ["x", "w_dq"], ["y"])]
    constants = {"w": reals(6, 4), "s": f(0.02), "z": I(0)}
    proto = model(nodes, {"x": (3, 6)}, ["y"], constants)
    graph = agrees(proto, reals(3, 6), optimized=False)
    (constant,) = (o for o in graph.ops if isinstance(o, ops.Constant))
    assert constant.elem == Quant.per_tensor(I8, float(f(0.02)), 0)


def test_four_bit_weights_in_blocks() -> None:
    w = np.random.default_rng(0).integers(-8, 8, (4, 6))
    stored = helper.make_tensor("w", TensorProto.INT4, (4, 6), w.ravel().tolist())
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wr"], axis=1, block_size=3),
        helper.make_node("MatMul", ["x", "wr"], ["y"]),
    ]
    scale = np.abs(reals(4, 2)) + 0.1
    proto = model(nodes, {"x": (2, 4)}, ["y"], {"s": scale}, opset=21)
    proto.graph.initializer.append(stored)
    graph = import_onnx(proto)
    x = reals(2, 4)
    expected = x @ (w * np.repeat(scale, 3, axis=1))
    np.testing.assert_allclose(run_float(graph, [x])[0], expected, rtol=1e-5, atol=1e-5)
    (constant,) = (o for o in graph.ops if isinstance(o, ops.Constant))
    assert isinstance(constant.elem, Quant)
    assert (constant.elem.storage, constant.elem.block, constant.elem.axis) == (I4, 3, 0)


def test_integer_inputs_take_the_scale_of_their_reader() -> None:
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])
    constants = {"s": f(0.25), "z": U(7)}
    graph = import_onnx(model([node], {"x": (2, 2)}, ["y"], constants, kind=TensorProto.UINT8))
    assert graph.inputs[0].type.elem == Quant.per_tensor(U8, 0.25, 7)
    assert [type(op) for op in graph.ops] == [ops.Dequantize]


def test_images_of_bytes_are_cast_to_their_numbers() -> None:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    proto = model([node], {"x": (1, 4)}, ["y"], kind=TensorProto.UINT8)
    agrees(proto, np.array([[0, 1, 128, 255]], np.uint8), within=0)


def test_one_tensor_read_with_two_scales() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s2", "z2"], ["y"]),
    ]
    constants = {"s": f(0.5), "z": U(3), "s2": f(0.125), "z2": U(9)}
    agrees(model(nodes, {"x": (2, 3)}, ["y"], constants), reals(2, 3) * 40)


def integers(*shape: int, dtype: type = np.uint8, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape, dtype=dtype)


X = ["x", "sx", "zx"]
W = ["w", "sw", "zw"]
Y = ["sy", "zy"]
WINDOW = {"kernel_shape": [2, 2], "strides": [2, 1], "pads": [0, 0, 0, 1]}
BIAS = np.arange(6, dtype=np.int32) * 100
TENSOR = {"sw": f(0.03), "zw": U(100)}
CHANNELS = {"sw": np.abs(reals(6)) / 50 + f(0.01), "zw": np.zeros(6, I)}

# Operator -> inputs, shape of x, attributes, constants beside the scales of x and y.
OPERATORS: dict[str, tuple[list[str], tuple[int, ...], dict[str, Any], dict[str, Array]]] = {
    "QLinearConv": ([*X, *W, *Y, "b"], (1, 4, 6, 6), {"pads": [1, 1, 0, 1], "group": 2},
                    {"w": integers(6, 2, 3, 3, dtype=I), "b": BIAS, **CHANNELS}),
    "QLinearMatMul": ([*X, *W, *Y], (3, 8), {}, {"w": integers(8, 6, dtype=I), **CHANNELS}),
    "com.microsoft.QGemm": ([*X, *W, "b", *Y], (3, 8), {"transB": 1},
                            {"w": integers(6, 8, dtype=I), "sw": f(0.02), "zw": I(0), "b": BIAS}),
    "com.microsoft.QLinearAdd": ([*X, *W, *Y], (2, 3, 4), {},
                                 {"w": integers(1, 3, 1, seed=1), **TENSOR}),
    "com.microsoft.QLinearMul": ([*X, *W, *Y], (2, 3, 4), {},
                                 {"w": integers(1, 3, 1, seed=1), **TENSOR}),
    "com.microsoft.QLinearSigmoid": ([*X, *Y], (2, 9), {}, {}),
    "com.microsoft.QLinearLeakyRelu": ([*X, *Y], (2, 9), {"alpha": 0.2}, {}),
    "com.microsoft.QLinearSoftmax": ([*X, *Y], (2, 9), {"axis": -1, "opset": 13}, {}),
    "com.microsoft.QLinearGlobalAveragePool": ([*X, *Y], (2, 3, 4, 5), {}, {}),
    "com.microsoft.QLinearAveragePool": ([*X, *Y], (2, 3, 6, 5), WINDOW, {}),
    "com.microsoft.QLinearConcat": ([*Y, *X, *W], (2, 3), {"axis": 1},
                                    {"w": integers(2, 5, seed=1), **TENSOR}),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operators_on_stored_integers(name: str) -> None:
    """The same integers as ONNX Runtime, but for ties that its float32 scales round otherwise."""
    inputs, shape, attributes, extra = OPERATORS[name]
    domain, _, op = name.rpartition(".")
    node = helper.make_node(op, inputs, ["q"], domain=domain, **attributes)
    back = helper.make_node("DequantizeLinear", ["q", "sy", "zy"], ["y"])
    sy = f(1 / 256) if op in ("QLinearSigmoid", "QLinearSoftmax") else f(0.05)
    zy = U(0) if op in ("QLinearSigmoid", "QLinearSoftmax") else U(120)
    constants = {"sx": f(0.04), "zx": U(110), "sy": sy, "zy": zy, **extra}
    proto = model([node, back], {"x": shape}, ["y"], constants, kind=TensorProto.UINT8)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    x = integers(*shape)
    (expected,) = runtime(proto, x)
    graph = import_onnx(proto)
    (actual,) = run_float(graph, [x])
    assert np.abs(actual - expected).max() <= STEP * sy
    assert np.mean(actual != expected) < 0.02
    quants = [o.to for o in graph.ops if isinstance(o, ops.Quantize)]
    assert quants == [Quant.per_tensor(U8, float(sy), int(zy))]


@pytest.mark.parametrize("form", ["MatMulInteger", "ConvInteger"])
def test_integer_products_hold_the_integers(form: str) -> None:
    shape, w = ((3, 8), (8, 5)) if form == "MatMulInteger" else ((1, 2, 5, 5), (3, 2, 3, 3))
    constants = {"w": integers(*w, dtype=I), "zx": U(13), "zw": I(-2)}
    node = helper.make_node(form, ["x", "w", "zx", "zw"], ["y"])
    proto = model([node], {"x": shape}, ["y"], constants, kind=TensorProto.UINT8)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    agrees(proto, integers(*shape), within=0)


def test_dynamic_products_of_microsoft() -> None:
    constants = {"w": integers(8, 5, dtype=I), "sw": f(0.02), "zw": I(3), "b": reals(5)}
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["x", "w", "sw", "zw", "b"], ["y"], domain="com.microsoft"
    )
    x = reals(3, 8)
    graph = import_onnx(model([node], {"x": (3, 8)}, ["y"], constants))
    expected = x @ ((constants["w"].astype(np.float32) - 3) * f(0.02)) + constants["b"]
    np.testing.assert_allclose(run_float(graph, [x])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_zero", [False, True])
def test_four_bit_products_of_microsoft(has_zero: bool) -> None:
    n, k, block = 6, 32, 16
    constants = {
        "w": integers(n, k // block, block // 2), "s": np.abs(reals(n * k // block)) / 10 + f(0.01),
        **({"z": integers(n * k // block // 2)} if has_zero else {}),
    }  # fmt: skip
    node = helper.make_node(
        "MatMulNBits",
        ["x", *constants],
        ["y"],
        domain="com.microsoft",
        K=k,
        N=n,
        bits=4,
        block_size=block,
    )
    agrees(model([node], {"x": (2, k)}, ["y"], constants), reals(2, k), within=1e-4)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "HardSigmoid", "Clip"])
def test_fused_activations_are_ops_of_their_own(activation: str) -> None:
    parameters = {"LeakyRelu": [0.1], "HardSigmoid": [0.3, 0.4], "Clip": [-0.5, 0.5]}.get(
        activation, []
    )
    attributes = {
        "activation": activation,
        **({"activation_params": parameters} if parameters else {}),
    }
    node = helper.make_node(
        "FusedConv", ["x", "w", "b"], ["y"], domain="com.microsoft", **attributes
    )
    proto = model([node], {"x": (1, 2, 5, 5)}, ["y"], {"w": reals(3, 2, 3, 3), "b": reals(3)})
    graph = agrees(proto, reals(1, 2, 5, 5))
    kind = {"Relu": ops.Relu, "LeakyRelu": ops.LeakyRelu, "HardSigmoid": ops.HardSigmoid,
            "Clip": ops.Clip}[activation]  # fmt: skip
    assert isinstance(graph.producers[graph.outputs[0].name], kind)


def test_fused_matrices() -> None:
    kind = {"domain": "com.microsoft"}
    x, w = reals(4, 6), {"w": reals(4, 5)}
    node = helper.make_node("FusedMatMul", ["x", "w"], ["y"], transA=1, alpha=0.5, **kind)
    agrees(model([node], {"x": (4, 6)}, ["y"], w), x)
    gelu = helper.make_node("Gelu", ["x"], ["a"], **kind)
    quick = helper.make_node("QuickGelu", ["a"], ["b"], **kind)
    bias = helper.make_node("BiasGelu", ["b", "w"], ["y"], **kind)
    agrees(model([gelu, quick, bias], {"x": (4, 6)}, ["y"], {"w": reals(6)}), x)


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (None, 7), (-3, None)])
def test_a_clip_of_stored_integers_clips_the_reals_they_stand_for(
    low: int | None, high: int | None
) -> None:
    """As exporters of few bits write it, between the two nodes of a pair."""
    bounds = {n: I(v) for n, v in (("lo", low), ("hi", high)) if v is not None}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Clip", ["q", *(n * (n in bounds) for n in ("lo", "hi"))], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 64)}, ["y"], {"s": f(0.25), "z": I(2), **bounds}, opset=13)
    x = np.linspace(-40, 40, 64, dtype=np.float32)[None]
    stored = np.clip(np.rint(x / f(0.25)) + 2, -128, 127).clip(low, high)
    graph = import_onnx(proto)
    assert np.array_equal(run_float(graph, [x])[0], (stored - 2) * f(0.25))
    integer = Manager().run(Manager().run(graph, CANONICALIZE), [QuantizeGraph(), ToInteger()])
    (y,) = interpret(integer, quantize_inputs(integer, [x]))
    assert np.array_equal(y, stored)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_with_scales_by_channel_is_all_integers(groups: int) -> None:
    """Of ONNX Runtime's values within a step, without calibration."""
    rng = np.random.default_rng(0)
    count = 4 // groups
    w = rng.integers(-90, 90, (4, count, 2, 2)).astype(np.int8)
    nodes = [
        *qdq("x", "sx", "z"),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=1),
        helper.make_node("ConvTranspose", ["x_dq", "wd"], ["c"], group=groups, strides=[2, 2]),
        *qdq("c", "sy", "z"),
    ]
    constants = {
        "w": w, "z": I(0), "sx": f(0.02), "sy": f(0.03), "zw": np.zeros(count, np.int8),
        "sw": np.linspace(0.01, 0.02, count, dtype=np.float32),
    }  # fmt: skip
    proto = model(nodes, {"x": (1, 4, 5, 5)}, ["c_dq"], constants, opset=13)
    x = reals(1, 4, 5, 5)
    graph = Manager().run(import_onnx(proto), CANONICALIZE)
    integer = Manager().run(graph, [QuantizeGraph(), ToInteger()])
    (y,) = dequantize_outputs(integer, interpret(integer, quantize_inputs(integer, [x])))
    assert np.abs(y - runtime(proto, x)[0]).max() < 1.5 * 0.03
