"""Why a node is refused: what was found and what is needed, for each rule of each operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qir.frontends.onnx import import_onnx
from qir.ir.errors import FrontendError
from qir.ir.types import Array
from tests.frontends.onnx.models import model, one, reals

IMAGE = (1, 4, 6, 6)
KERNEL = {"w": reals(2, 4, 3, 3)}
FOLD = "give all dimensions of the inputs (batch, shapes), so that it can be folded"
FLOATS = "put a DequantizeLinear (or a Cast of uint8 inputs) before it"
OUTER = {"domain": "com.microsoft"}


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def refusal(proto: onnx.ModelProto, **given: Any) -> str:
    """The one fault of a model, without the node's name."""
    with pytest.raises(FrontendError) as e:
        import_onnx(proto, **given)
    head, line = str(e.value).split("\n")
    assert head == "model: 1 node cannot be imported"
    return line.partition("': ")[2]


# (op, shape of x, constants, attributes) -> the fault
CASES: tuple[tuple[str, tuple[int, ...], dict[str, Array], dict[str, Any], str], ...] = (
    # attributes
    ("LeakyRelu", (2,), {}, {"alpha": 1},
     "attribute alpha is of type INT, a real is needed"),
    ("LeakyRelu", (2,), {}, {"alpha": float("nan")},
     "attribute alpha is NaN, a number is needed"),
    ("Concat", (2,), {}, {}, "attribute axis is absent, an integer is needed"),
    # windows
    ("Conv", (1, 4, 6, 6, 6), {"w": reals(2, 4, 3, 3, 3)}, {},
     "x is of rank 5, rank 3 or 4 is needed (hint: windows over one or two axes are supported;"
     " fold others into the batch)"),
    ("Conv", IMAGE, {"w": reals(2, 4)}, {}, "weights of shape [2, 4], rank 3 or 4 is needed"),
    ("Conv", IMAGE, {"w": reals(2, 4, 3)}, {},
     "x of rank 4, weights [2, 4, 3], one rank is needed"),
    ("Conv", IMAGE, KERNEL, {"kernel_shape": [5, 5]},
     "kernel_shape [5, 5], weights [2, 4, 3, 3], one kernel is needed"),
    ("Conv", IMAGE, KERNEL, {"strides": [1]}, "attribute strides is [1], 2 integers are needed"),
    ("Conv", IMAGE, KERNEL, {"strides": [0, 1]},
     "kernel (3, 3), strides (0, 1), dilations (1, 1), at least 1 each is needed"),
    ("Conv", IMAGE, KERNEL, {"pads": [1, 1]}, "pads [1, 1], 4 are needed"),
    ("Conv", IMAGE, KERNEL, {"pads": [1, 1, -1, 1]},
     "pads [1, 1, -1, 1], at least 0 each is needed (hint: cut with a Slice)"),
    ("Conv", IMAGE, KERNEL, {"auto_pad": "SAME"},
     "auto_pad 'SAME', NOTSET, SAME_UPPER, SAME_LOWER or VALID is needed"),
    ("Conv", IMAGE, KERNEL, {"group": 3},
     "conv: x has 4 channels, w is [2, 3, 3, 4], groups 3, C = I * groups, O % groups = 0"),
    ("ConvTranspose", IMAGE, {"w": reals(4, 2, 3, 3)}, {"group": 3},
     "4 input channels, group 3, a divisor is needed"),
    ("ConvTranspose", IMAGE, {"w": reals(4, 2, 3, 3)}, {"output_padding": [1]},
     "output_padding [1], output_shape None, 2 are needed"),
    ("MaxPool", IMAGE, {}, {}, "attribute kernel_shape is None, 2 integers are needed"),
    ("LpPool", IMAGE, {}, {"kernel_shape": [2, 2], "p": 0}, "p = 0, at least 1 is needed"),
    ("GlobalMaxPool", (2, 3), {}, {}, "x is of rank 2, rank 3 or more is needed"),
    # products
    ("Gemm", (2, 3, 4), {"b": reals(4, 5)}, {},
     "A is [2, 3, 4], B is [4, 5], matrices are needed"),
    ("MatMul", (2, 3), {"b": reals(4, 5)}, {},
     "linear: x is [2, 3], w is [5, 4], x (..., I) and w (O, I) are needed"),
    # functions
    ("Clip", (2,), {"low": f(np.nan)}, {}, "bound 1 is nan, a number is needed"),
    ("Clip", (2,), {"low": f(1, 2)}, {}, "a bound (input 1) has 2 elements, one is needed"),
    ("Gelu", (2,), {}, {"opset": 20, "approximate": "erf"},
     "approximate 'erf', 'none' or 'tanh' is needed"),
    ("Celu", (2,), {}, {"alpha": -0.25}, "alpha -0.25, over 0 is needed"),
    ("Softmax", (), {}, {}, "x is a scalar, rank 1 or more is needed"),
    ("Softmax", (2, 3), {}, {"axis": 2}, "axis 2 of rank 2, an axis of the operand is needed"),
    # normalizations
    ("BatchNormalization", (2, 3), {k: reals(3) for k in "gomv"}, {"training_mode": 1},
     "training_mode = 1, 0 is needed (hint: export the model for inference)"),
    ("BatchNormalization", (2, 3), {k: reals(3) for k in "gomv"}, {"opset": 7, "spatial": 0},
     "spatial = 0, 1 is needed"),
    ("GroupNormalization", IMAGE, {"s": reals(4), "b": reals(4)}, {"opset": 21, "num_groups": 3},
     "4 channels, num_groups 3, a divisor is needed"),
    ("LRN", (2, 3), {}, {"size": 3}, "x is [2, 3], size 3, rank 3, size 1 at least are needed"),
    ("LpNormalization", (2, 3), {}, {"p": 3}, "p = 3, 1 or 2 is needed"),
    ("Dropout", (2,), {"r": f(0.5), "t": np.array(True)}, {},
     "training_mode = true, false is needed (hint: export the model for inference)"),
    # shapes
    ("Reshape", (2, 3), {"s": i(4, 2)}, {}, "shape [4, 2] of [2, 3], as many elements are needed"),
    ("Reshape", (2, 3), {"s": i(-1, -1)}, {},
     "shape [-1, -1] of [2, 3], one free size that comes out is needed"),
    ("Reshape", (2, 3), {"s": i(2, 3, 0)}, {},
     "shape [2, 3, 0] of [2, 3], a size to keep for each 0 is needed"),
    ("Reshape", (2, 3), {"s": f(6)}, {}, "shape (input 1) is float32, integers are needed"),
    ("Flatten", (2, 3), {}, {"axis": 3}, "axis 3 of rank 2, an axis of the operand is needed"),
    ("Transpose", (2, 3), {}, {"perm": [0, 0]}, "perm [0, 0] of rank 2, each axis once is needed"),
    ("Squeeze", (2, 3), {"a": i(0)}, {}, "axes [0] of [2, 3], sizes of 1 are needed"),
    ("Squeeze", (1, 3), {"a": i(0, -2)}, {}, "axes [0, -2] of rank 2, each axis once is needed"),
    ("Unsqueeze", (2,), {}, {}, "no axes, some are needed"),
    ("Split", (6,), {"s": i(2, 3)}, {"outputs": 2},
     "parts [2, 3] of 6 for 2 outputs, parts that fit are needed"),
    ("Slice", (6,), {"s": i(0), "e": i(3), "a": i(0), "k": i(0)}, {},
     "starts [0], ends [3], axes [0], steps [0], one of each for each axis, no step of 0,"
     " is needed"),
    ("Slice", (6,), {}, {}, "no bounds, starts and ends are needed"),
    ("Slice", (6,), {"s": i(3), "e": i(3)}, {},
     "slice gives shape [0], 1 to 2147483648 elements are needed"),
    ("Gather", (6,), {"k": f(1)}, {}, "index is float32, integers are needed"),
    ("Gather", (6,), {"k": i(6)}, {}, "gather: an index outside the axis, 0 to 5 are needed"),
    ("Expand", (2, 3), {"s": i(2, 4)}, {},
     "shape [2, 4] of [2, 3], shapes that broadcast are needed"),
    ("Expand", (2, 3), {"s": i(1 << 40, 1, 1)}, {},
     f"expand gives shape [{1 << 40}, 2, 3], 1 to 2147483648 elements are needed"),
    ("Tile", (2, 3), {"r": i(2)}, {},
     "repeats (2,) of [2, 3], one of at least 1 for each axis is needed"),
    ("DepthToSpace", IMAGE, {}, {"blocksize": 3},
     "mode 'DCR', 4 channels, block 3, DCR or CRD, and block**2 channels, are needed"),
    ("SpaceToDepth", IMAGE, {}, {"blocksize": 4},
     "x is [1, 4, 6, 6], block 4, rank 4 in whole blocks is needed"),
    ("Pad", (2, 3), {"p": i(1, 1)}, {}, "pads (1, 1), 4 integers are needed"),
    ("Pad", (2, 3), {"p": i(1, 1, 1, 1)}, {"mode": "circular"},
     "mode 'circular', constant, reflect, edge or wrap is needed"),
    ("Pad", (2, 3), {"p": i(1, 1, 1, 1), "v": f(np.inf)}, {},
     "constant_value inf, a finite number is needed"),
    ("Pad", (2, 3), {"p": i(1 << 40, 1, 1, 1)}, {},
     f"pads [{1 << 40}, 1, 1, 1], at most 2147483648 each are needed"),
    ("Pad", (2, 3), {"p": i(0, 1 << 30, 0, 1 << 30)}, {"mode": "reflect"},
     f"pads {1 << 30}, {1 << 30} of 3, at most 4194304 elements are needed"),
    # resizing
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 2)}, {},
     "scales (1.0, 1.0, 2.0) for 4 axes, one for each axis is needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 2, np.nan)}, {},
     "scales [1.0, 1.0, 2.0, nan], finite ones over 0 are needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 1e6, 1e6)}, {},
     f"{4 * 6_000_000**2} elements, at most 2147483648 are needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(), "n": i(1, 4, 0, 2)}, {},
     "sizes [1, 4, 0, 2] for 4 axes, one of 1 or more for each is needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 2, 2)}, {"mode": "area"},
     "mode 'area', nearest, linear or cubic is needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 2, 2)}, {"nearest_mode": "up"},
     "nearest_mode 'up', one of round_prefer_floor, round_prefer_ceil, floor, ceil, simple"
     " is needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(1, 1, 2, 2)}, {"coordinate_transformation_mode": "up"},
     "coordinate_transformation_mode 'up', one of ONNX Resize is needed"),
    ("Resize", IMAGE, {"r": f(0, 0), "s": f(1, 1, 2, 2)},
     {"coordinate_transformation_mode": "tf_crop_and_resize"},
     "roi (0.0, 0.0), 8 numbers are needed"),
    ("Resize", IMAGE, {"r": f(), "s": f(), "n": i(1, 4, 2, 2)},
     {"opset": 18, "keep_aspect_ratio_policy": "bent"},
     "keep_aspect_ratio_policy 'bent', stretch, not_larger or not_smaller is needed"),
    ("Resize", (1, 1, 1, 20000), {"r": f(), "s": f(1, 1, 1, 2)}, {"mode": "cubic"},
     "axis 20000 to 40000, a smaller resize is needed"),
    # quantization
    ("QuantizeLinear", (2,), {"s": f(-1)}, {},
     "scale reaches -1.0, finite scales of at least 0 are needed"),
    ("QuantizeLinear", (2,), {"s": f()}, {},
     "an empty scale, finite scales of at least 0 are needed"),
    ("QuantizeLinear", (2, 3), {"s": f(1, 2)}, {},
     "scale [2] along axis 1 of [2, 3], one each is needed"),
    ("QuantizeLinear", (2, 3), {"s": f(1, 2, 3), "z": np.zeros(2, np.uint8)}, {},
     "scale [3], zero point [2], one shape is needed"),
    ("QuantizeLinear", (2,), {"s": f(1), "z": i(0)}, {},
     "integers of type int64, int2 to int16, uint2 to uint16 or int32 is needed"),
    ("QuantizeLinear", (2,), {}, {}, "input 1 is absent, a scale is needed"),
    ("DequantizeLinear", (2,), {"s": f(np.nan)}, {},
     "scale reaches nan, finite scales of at least 0 are needed"),
    ("MatMulInteger", (2, 3), {"w": f(1, 2, 3)}, {},
     "input 1 is float32, 8-bit integers are needed"),
    ("Cast", (2,), {}, {"to": TensorProto.INT8},
     "a cast to int8, a cast to a float type is needed"
     " (hint: integers inside the model come from QuantizeLinear)"),
    # com.microsoft
    ("FusedConv", IMAGE, KERNEL, {**OUTER, "activation": "Sign"},
     "activation 'Sign' of [], Relu, Sigmoid, Tanh, LeakyRelu, Clip or HardSigmoid is needed"),
    ("FusedMatMul", (2, 3), {"b": reals(3, 4)}, {**OUTER, "transBatchA": 1},
     "transBatchA or transBatchB = 1, 0 is needed"),
    ("MatMulNBits", (2, 9), {"w": np.zeros((4, 2, 4), np.uint8), "s": reals(8)},
     {**OUTER, "K": 9, "N": 4, "bits": 4, "block_size": 8},
     "bits 4, K 9, block_size 8, 4 or 8 bits in whole blocks are needed"),
    ("QLinearConcat", (2, 3), {"s": f(1)}, {**OUTER, "axis": 1},
     "2 inputs, 2 and 3 for each operand are needed"),
    ("DynamicQuantizeMatMul", (2, 3), {}, OUTER, "input 1 is absent, 2 inputs are needed"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[4][:40]}")
def test_refusals(case: tuple[str, tuple[int, ...], dict[str, Array], dict[str, Any], str]) -> None:
    op, shape, constants, attributes, fault = case
    assert refusal(one(op, shape, constants, **attributes)) == fault


@pytest.mark.parametrize(
    ("op", "what"), [("Reshape", "shape"), ("Expand", "shape"), ("Tile", "repeats")]
)
def test_what_must_be_constant(op: str, what: str) -> None:
    node = helper.make_node(op, ["x", "s"], ["y"])
    assert refusal(model([node], {"x": (2,), "s": (1,)}, ["y"])) == (
        f"{what} (input 1) is computed at run time, a constant is needed (hint: {FOLD})"
    )


def test_integers_are_not_added() -> None:
    proto = model(
        [helper.make_node("Add", ["x", "x"], ["y"])], {"x": (2,)}, ["y"], kind=TensorProto.INT8
    )
    assert refusal(proto) == f"%x holds q<i8, 1.0:0>, floats are needed (hint: {FLOATS})"


def test_integers_are_padded_with_their_zero_point() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("Pad", ["q", "p"], ["y"]),
    ]
    constants = {"s": f(1)[0], "z": np.uint8(5), "p": i(1, 1)}
    assert refusal(model(nodes, {"x": (2,)}, ["y"], constants)) == (
        "stored 0.0 around quantized x, its zero point 5 is needed"
    )


def test_quantized_operands() -> None:
    constants = {"w": np.zeros((3, 4), np.int8), "s": f(1)[0], "z": np.uint8(0), "n": np.int8(0)}

    def product(*inputs: str, **more: tuple[int, ...]) -> str:
        node = helper.make_node("QLinearMatMul", list(inputs), ["y"])
        return refusal(
            model([node], {"x": (2, 3), **more}, ["y"], constants, kind=TensorProto.UINT8)
        )

    assert product("x", "s", "z", "w", "s", "z", "s", "z") == (
        "int8 with a zero point of u8, one type is needed"
    )
    assert product("x", "s", "n", "w", "s", "n", "s", "z") == (
        "%x is u8, read as i8, one type is needed"
    )
    node = helper.make_node("QLinearConv", ["x", "s", "z", "k", "s", "n", "s", "z", "b"], ["y"])
    proto = model(
        [node], {"x": (1, 1, 4, 4)}, ["y"],
        {**constants, "k": np.zeros((2, 1, 3, 3), np.int8), "b": reals(2)}, kind=TensorProto.UINT8,
    )  # fmt: skip
    assert refusal(proto) == "the bias (input 8) is no constant of int32, one is needed"


def test_dynamic_weights_of_microsoft() -> None:
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["y"], **OUTER)
    proto = model([node], {"x": (2, 3), "w": (3, 4)}, ["y"], {"s": f(1)[0]})
    assert refusal(proto) == "b (input 1) is computed at run time, a constant is needed"


@pytest.mark.parametrize(("op", "constants", "fault"), [
    ("ConstantOfShape", {"s": i(1 << 20, 1 << 20)},
     f"a constant of up to {1 << 40} elements, at most {1 << 24} are needed"),
    ("Range", {"a": i(0)[0], "b": i(1 << 50)[0], "c": i(1)[0]},
     f"a constant of up to {1 << 50} elements, at most {1 << 24} are needed"),
    ("Range", {"a": i(0)[0], "b": i(5)[0], "c": i(0)[0]},
     f"a constant of up to {(1 << 24) + 1} elements, at most {1 << 24} are needed"),
    ("Tile", {"x": f(1, 2), "r": i(1 << 40)},
     f"a constant of up to {1 << 41} elements, at most {1 << 24} are needed"),
    ("Expand", {"x": f(1), "s": i(1 << 40)},
     f"a constant of up to {1 << 40} elements, at most {1 << 24} are needed"),
    ("OneHot", {"x": i(1), "d": i(1 << 40)[0], "v": f(0, 1)},
     f"a constant of up to {1 << 40} elements, at most {1 << 24} are needed"),
    ("Pad", {"x": f(1), "p": i(1 << 40, 0)},
     f"a constant of up to {(1 << 40) + 1} elements, at most {1 << 24} are needed"),
    ("Gather", {"x": reals(2, 5000), "i": np.zeros(5000, np.int64)},
     f"a constant of up to {25_000_000} elements, at most {1 << 24} are needed"),
    ("MatMul", {"a": reals(5000, 1), "b": reals(1, 5000)},
     f"a constant of up to {25_000_000} elements, at most {1 << 24} are needed"),
    ("Reshape", {"x": f(1, 2), "s": i(3)},
     "its constants give no result (cannot reshape array of size 2 into shape (3,)), operands"
     " that fit are needed"),
    ("Range", {"a": i(0)[0]}, "input 1 is absent, 2 inputs are needed"),
])  # fmt: skip
def test_constants_that_cannot_be_computed(
    op: str, constants: dict[str, Array], fault: str
) -> None:
    proto = model([helper.make_node(op, list(constants), ["y"])], {}, ["y"], constants)
    assert refusal(proto) == fault


def test_constant_nodes() -> None:
    def text(**attributes: Any) -> str:
        return refusal(model([helper.make_node("Constant", [], ["y"], **attributes)], {}, ["y"]))

    assert text() == "0 attributes, one that holds the value is needed"
    assert text(value_string="a") == "attribute value_string, numbers are needed"
    values = onnx.numpy_helper.from_array(f(1), "v")
    sparse = helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(i(0), "i"), [1 << 40])
    assert text(sparse_value=sparse) == (
        f"sparse tensor of dims [{1 << 40}], at most {1 << 24} elements are needed"
    )
