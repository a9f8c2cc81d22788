"""Computes nodes whose inputs are all constants, by onnx's own reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from qir.ir.errors import FrontendError
from qir.ir.types import Array

MAX_FOLDED = 1 << 24  # elements that a fold may make where its inputs hold fewer
IR_VERSION = 10  # any the reference implementation takes: one node has no old form

Arrays = Sequence[Array | None]
Count = Callable[[NodeProto, Arrays], int]


def _held(node: NodeProto, arrays: Arrays) -> int:
    return sum(a.size for a in arrays if a is not None)


def _broadcast(node: NodeProto, arrays: Arrays) -> int:
    return prod(np.broadcast_shapes(*(a.shape for a in arrays if a is not None)))


def _shaped(index: int) -> Count:
    """Input `index` holds the shape of the result."""
    return lambda node, arrays: prod(abs(int(s)) for s in _at(arrays, index).reshape(-1))


def _expanded(node: NodeProto, arrays: Arrays) -> int:
    shape = tuple(abs(int(s)) for s in _at(arrays, 1).reshape(-1))
    return prod(np.broadcast_shapes(_at(arrays, 0).shape, shape))


def _tiled(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * prod(abs(int(r)) for r in _at(arrays, 1).reshape(-1))


def _ranged(node: NodeProto, arrays: Arrays) -> int:
    start, limit, step = (float(_at(arrays, i).reshape(-1)[0]) for i in range(3))
    return int(max((limit - start) / step, 0)) if step else MAX_FOLDED + 1


def _padded(node: NodeProto, arrays: Arrays) -> int:
    pads = [int(p) for p in _at(arrays, 1).reshape(-1)] if len(arrays) > 1 else []
    pads += [int(p) for a in node.attribute if a.name in ("pads", "paddings") for p in a.ints]
    reach = sum(abs(p) for p in pads)
    return prod(s + reach for s in _at(arrays, 0).shape)


def _gathered(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * max(_at(arrays, 1).size, 1)


def _one_hot(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * abs(int(_at(arrays, 1).reshape(-1)[0]))


def _matmul(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * _at(arrays, 1).size


def _at(arrays: Arrays, index: int) -> Array:
    found = arrays[index] if index < len(arrays) else None
    if found is None:
        raise FrontendError(f"input {index} is absent, {index + 1} inputs are needed")
    return found


_ELEMENTWISE = (
    "Abs", "Add", "And", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip",
    "Cos", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt",
    "Sub", "Sum", "Tanh", "Where", "Xor",
)  # fmt: skip
_MOVES = (
    "ArgMax", "ArgMin", "Cast", "CastLike", "Compress", "Concat", "CumSum", "DepthToSpace",
    "Flatten", "Identity", "NonZero", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "ScatterElements",
    "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "TopK",
    "Transpose", "Trilu", "Unsqueeze",
)  # fmt: skip

# Op of the default domain -> how many elements its result may have, known before it is computed.
FOLDED: dict[str, Count] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(_MOVES, _held),
    "ConstantOfShape": _shaped(0),
    "EyeLike": _held,
    "Expand": _expanded,
    "Gather": _gathered,
    "GatherElements": _gathered,
    "GatherND": _gathered,
    "MatMul": _matmul,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _ranged,
    "Tile": _tiled,
}


def fold(node: NodeProto, arrays: Arrays, opset: int) -> list[Array]:
    """The results of a node of FOLDED on constant inputs (None: absent).

    Errors: FrontendError when they would be absurdly large or cannot be computed.
    """
    limit = max(MAX_FOLDED, 4 * _held(node, arrays))
    try:
        count = FOLDED[node.op_type](node, arrays)
        if count > limit:
            raise FrontendError(f"a constant of up to {count} elements, at most {limit} are needed")
        with np.errstate(all="ignore"):
            return _evaluated(node, arrays, opset)
    except FrontendError:
        raise
    except Exception as e:  # the reference implementation fails in many ways on damaged models
        reason = str(e).split("\n")[0] or type(e).__name__
        raise FrontendError(
            f"its constants give no result ({reason}), operands that fit are needed"
        ) from e


def _evaluated(node: NodeProto, arrays: Arrays, opset: int) -> list[Array]:
    feeds = {name: a for name, a in zip(node.input, arrays, strict=True) if a is not None}
    model = ModelProto(
        ir_version=IR_VERSION,
        opset_import=[helper.make_opsetid("", opset)],
        graph=GraphProto(
            name="fold",
            node=[node],
            input=[_info(name, a) for name, a in feeds.items()],
            output=[ValueInfoProto(name=name) for name in node.output if name],
        ),
    )
    results: Any = iter(ReferenceEvaluator(model).run(None, feeds))
    return [np.asarray(next(results)) if name else np.zeros(0) for name in node.output]


def _info(name: str, array: Array) -> ValueInfoProto:
    try:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    except (KeyError, ValueError):
        kind = TensorProto.UNDEFINED
    return helper.make_tensor_value_info(name, kind, array.shape)
