"""Old forms of operators, which the node cases no longer have, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from qir.ir import ops
from tests.frontends.onnx.models import agrees, model, one, reals

IMAGE = (1, 3, 6, 8)


def ints(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 18, 21])
def test_a_small_network_in_every_opset(opset: int) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 0, 0, 1], strides=[2, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "o", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "k", "b"], ["y"], alpha=0.5, beta=2.0),
    ]
    constants = {
        "w": reals(4, 3, 2, 2), "g": reals(4), "o": reals(4), "m": reals(4),
        "v": np.abs(reals(4)) + 1, "k": reals(4, 5), "b": reals(5),
    }  # fmt: skip
    agrees(model(nodes, {"x": IMAGE}, ["y"], constants, opset), reals(*IMAGE))


@pytest.mark.parametrize("opset", [7, 10])
def test_pads_and_bounds_as_attributes(opset: int) -> None:
    x = reals(*IMAGE)
    agrees(one("Pad", IMAGE, opset=opset, pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5), x)
    agrees(one("Pad", IMAGE, opset=opset, pads=[0, 0, 1, 2, 0, 0, 0, 1], mode="reflect"), x)
    agrees(one("Clip", IMAGE, opset=opset, min=-0.5, max=0.25), x)
    agrees(one("Clip", IMAGE, opset=opset, max=0.25), x)


@pytest.mark.parametrize("opset", [7, 9])
def test_slice_split_squeeze_with_attributes(opset: int) -> None:
    x = reals(*IMAGE)
    agrees(one("Slice", IMAGE, opset=opset, starts=[1, -3], ends=[3, 100], axes=[2, 3]), x)
    agrees(one("Split", IMAGE, opset=opset, outputs=2, axis=3, split=[3, 5]), x)
    agrees(one("Split", IMAGE, opset=opset, outputs=3, axis=1), x)
    agrees(one("Squeeze", IMAGE, opset=opset, axes=[0]), x)
    agrees(one("Unsqueeze", IMAGE, opset=opset, axes=[0, 5]), x)


def test_slice_with_inputs() -> None:
    bounds = {"s": ints(-1, 5), "e": ints(-100, 0), "a": ints(3, 2), "k": ints(-2, -1)}
    agrees(one("Slice", IMAGE, bounds, opset=13), reals(*IMAGE))


@pytest.mark.parametrize(("opset", "axis"), [(7, 1), (11, 1), (11, 3), (12, 2), (13, 1), (13, -2)])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_flattens_before_opset_13(op: str, opset: int, axis: int) -> None:
    agrees(one(op, (2, 3, 4, 5), opset=opset, axis=axis), reals(2, 3, 4, 5))


@pytest.mark.parametrize("scale", [2.0, 1.5])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str, scale: float) -> None:
    scales = np.array([1, 1, scale, 2.0], np.float32)
    x = reals(*IMAGE)
    agrees(one("Upsample", IMAGE, opset=7, mode=mode, scales=scales.tolist()), x)
    agrees(one("Upsample", IMAGE, {"scales": scales}, opset=9, mode=mode), x)
    agrees(one("Resize", IMAGE, {"scales": scales}, opset=10, mode=mode), x)


def test_resize_down_before_opset_11() -> None:
    scales = np.array([1, 1, 0.5, 0.6], np.float32)
    agrees(one("Resize", IMAGE, {"scales": scales}, opset=10, mode="nearest"), reals(*IMAGE))


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_to_sizes(mode: str, coordinates: str) -> None:
    constants = {
        "roi": np.zeros(0, np.float32),
        "s": np.zeros(0, np.float32),
        "to": ints(1, 3, 11, 5),
    }
    kind = {"mode": mode, "coordinate_transformation_mode": coordinates}
    graph = agrees(one("Resize", IMAGE, constants, opset=13, **kind), reals(*IMAGE), within=1e-4)
    kinds = {type(op) for op in graph.ops}
    assert {"nearest": ops.Gather, "linear": ops.Bilinear, "cubic": ops.Linear}[mode] in kinds


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"])
def test_reductions_with_axes_as_attribute(op: str) -> None:
    x = reals(*IMAGE)
    agrees(one(op, IMAGE, opset=11, axes=[2, -1], keepdims=0), x)
    agrees(one(op, IMAGE, opset=11), x)


def test_dropout_and_prelu_and_max_with_one_operand() -> None:
    x = reals(*IMAGE)
    agrees(one("Dropout", IMAGE, opset=7, ratio=0.3), x)
    agrees(one("PRelu", IMAGE, {"slope": reals(3, 1, 1)}, opset=9), x)
    agrees(one("Sum", IMAGE, opset=8), x)
    agrees(one("Mean", IMAGE, {"b": reals(1, 3, 1, 8)}, opset=8), x)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_windows_padded_by_themselves(auto: str) -> None:
    x = reals(1, 3, 7, 8)
    shape = x.shape
    agrees(one("Conv", shape, {"w": reals(2, 3, 3, 2)}, auto_pad=auto, strides=[2, 2]), x)
    agrees(one("MaxPool", shape, kernel_shape=[3, 2], auto_pad=auto, strides=[2, 2]), x)
    agrees(one("AveragePool", shape, kernel_shape=[3, 2], auto_pad=auto, strides=[2, 2]), x)
    if auto != "VALID":
        deconv = {"w": reals(3, 2, 3, 3)}
        agrees(one("ConvTranspose", shape, deconv, auto_pad=auto, strides=[2, 2]), x, within=1e-4)


@pytest.mark.parametrize("padded", [0, 1])
@pytest.mark.parametrize("counted", [0, 1])
def test_average_pool_that_rounds_up(padded: int, counted: int) -> None:
    kind = {"ceil_mode": 1, "count_include_pad": counted, "pads": [padded] * 4}
    proto = one("AveragePool", (1, 2, 8, 9), opset=19, kernel_shape=[3, 3], strides=[2, 3], **kind)
    agrees(proto, reals(1, 2, 8, 9))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_of_one_axis(groups: int) -> None:
    x = reals(2, 4, 9)
    kind = {"group": groups, "strides": [2], "dilations": [2], "pads": [1, 2]}
    agrees(one("Conv", x.shape, {"w": reals(8, 4 // groups, 3), "b": reals(8)}, **kind), x)
    agrees(one("ConvTranspose", x.shape, {"w": reals(4, 3, 3)}, **kind), x)
    agrees(one("MaxPool", x.shape, kernel_shape=[3], strides=[2], pads=[1, 1]), x)


def test_transposed_convolution_of_given_size() -> None:
    x = reals(1, 4, 5, 5)
    kind = {"strides": [2, 2], "output_shape": [10, 11]}
    agrees(one("ConvTranspose", x.shape, {"w": reals(4, 2, 3, 3)}, **kind), x)
    agrees(one("ConvTranspose", x.shape, {"w": reals(4, 2, 3, 3)}, strides=[2, 2],
               output_padding=[1, 0], group=2), x)  # fmt: skip


def test_local_response_normalization() -> None:
    x = reals(1, 7, 4, 4)
    agrees(one("LRN", x.shape, size=5, alpha=0.1, beta=0.6, bias=2.0), x)


def test_halves_and_doubles_become_floats() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["h", "one"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"one": np.array([1], np.float16)}
    agrees(model(nodes, {"x": (2, 3)}, ["y"], constants), reals(2, 3), within=1e-2)
