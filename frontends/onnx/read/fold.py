"""Evaluates nodes of constant inputs with onnx's reference implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from qir.frontends.onnx.read.budget import Budget
from qir.ir.errors import FrontendError
from qir.ir.types import Array

MAX_FOLDED = 1 << 24  # elements that a fold may make where its inputs hold fewer
MAX_RANK = 64  # NumPy's
MAX_SLOW = 1 << 22  # elements of a fold that is a loop in Python
IR_VERSION = 10  # any the reference implementation takes: one node has no old form
NODE_NS = 350_000  # of one evaluation of the reference implementation, without its elements
ELEMENT_NS = 20
INTEGER_PRODUCT_NS, FLOAT_PRODUCT_NS = 3, 0.2  # integers have no BLAS

# Loops in Python: nanoseconds for each element, measured.
SLOW_NS = {
    "Erf": 400, "GatherND": 1000, "ScatterElements": 400, "ScatterND": 1000, "TopK": 200,
}  # fmt: skip

Arrays = Sequence[Array | None]
Count = Callable[[NodeProto, Arrays], int]


def _elements(node: NodeProto, arrays: Arrays) -> int:
    return sum(a.size for a in arrays if a is not None)


def _broadcast(node: NodeProto, arrays: Arrays) -> int:
    return prod(np.broadcast_shapes(*(a.shape for a in arrays if a is not None)))


def _sizes(arrays: Arrays, index: int) -> list[int]:
    """Input `index` as sizes of a shape, or of what stands for one."""
    sizes = _at(arrays, index).reshape(-1)
    if sizes.size > 2 * MAX_RANK:
        raise FrontendError(f"{sizes.size} sizes in input {index}, at most {MAX_RANK} are needed")
    return [abs(int(s)) for s in sizes]


def _shaped(node: NodeProto, arrays: Arrays) -> int:
    return prod(_sizes(arrays, 0))


def _expanded(node: NodeProto, arrays: Arrays) -> int:
    return prod(np.broadcast_shapes(_at(arrays, 0).shape, tuple(_sizes(arrays, 1))))


def _tiled(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * prod(_sizes(arrays, 1))


def _ranged(node: NodeProto, arrays: Arrays) -> int:
    start, limit, step = (float(_at(arrays, i).reshape(-1)[0]) for i in range(3))
    return int(max((limit - start) / step, 0)) if step else MAX_FOLDED + 1


def _padded(node: NodeProto, arrays: Arrays) -> int:
    pads = _sizes(arrays, 1) if len(arrays) > 1 else []
    pads += [abs(int(p)) for a in node.attribute if a.name in ("pads", "paddings") for p in a.ints]
    reach = sum(pads)
    return prod(s + reach for s in _at(arrays, 0).shape)


def _gathered(node: NodeProto, arrays: Arrays) -> int:
    """Slices of one axis: the index takes the place of the axis."""
    x, index = _at(arrays, 0), _at(arrays, 1)
    axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
    return int(x.size // max(x.shape[axis], 1) * index.size)


def _indexed(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 1).size


def _gathered_parts(node: NodeProto, arrays: Arrays) -> int:
    """Slices of the first axes, by the last axis of the index."""
    x, index = _at(arrays, 0), _at(arrays, 1)
    batch_dims = next((int(a.i) for a in node.attribute if a.name == "batch_dims"), 0)
    depth = index.shape[-1]
    return int(index.size // max(depth, 1) * prod(x.shape[batch_dims + depth :]))


def _one_hot(node: NodeProto, arrays: Arrays) -> int:
    return _at(arrays, 0).size * abs(int(_at(arrays, 1).reshape(-1)[0]))


def _multiplied(node: NodeProto, arrays: Arrays) -> int:
    a, b = _at(arrays, 0).shape, _at(arrays, 1).shape
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return prod(batch) * prod(a[-2:-1]) * (b[-1] if len(b) > 1 else 1)


def _places(node: NodeProto, arrays: Arrays) -> int:
    return _elements(node, arrays) * max(_at(arrays, 0).ndim, 1)


def _at(arrays: Arrays, index: int) -> Array:
    array = arrays[index] if index < len(arrays) else None
    if array is None:
        raise FrontendError(f"input {index} is absent, {index + 1} inputs are needed")
    return array


_ELEMENTWISE = (
    "Abs", "Add", "And", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Clip",
    "Cos", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt",
    "Sub", "Sum", "Tanh", "Where", "Xor",
)  # fmt: skip
_MOVES = (
    "ArgMax", "ArgMin", "Cast", "CastLike", "Compress", "Concat", "CumSum", "DepthToSpace",
    "Flatten", "Identity", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "ScatterElements",
    "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "TopK",
    "Transpose", "Trilu", "Unsqueeze",
)  # fmt: skip

# Op of the default domain -> how many elements its result may have, known before it is computed.
FOLDED: dict[str, Count] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(_MOVES, _elements),
    "ConstantOfShape": _shaped,
    "EyeLike": _elements,
    "Expand": _expanded,
    "Gather": _gathered,
    "GatherElements": _indexed,
    "GatherND": _gathered_parts,
    "MatMul": _multiplied,
    "NonZero": _places,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _ranged,
    "Tile": _tiled,
}


def fold(node: NodeProto, arrays: Arrays, opset: int, budget: Budget) -> list[Array]:
    """The results of a node of FOLDED on constant inputs (None: absent).

    Errors: FrontendError when they would be absurdly large or cannot be computed; OverBudget when
            all folds so far take too much.
    """
    limit = max(MAX_FOLDED, 4 * _elements(node, arrays))
    try:
        count = FOLDED[node.op_type](node, arrays)
        if count > limit:
            raise FrontendError(f"a constant of up to {count} elements, at most {limit} are needed")
        _spend(node, arrays, count, budget)
        with np.errstate(all="ignore"):
            results = _evaluated(node, arrays, opset)
    except FrontendError:
        raise
    except Exception as e:  # the reference implementation fails in many ways on damaged models
        reason = str(e).split("\n")[0] or type(e).__name__
        raise FrontendError(
            f"its constants give no result ({reason}), operands that fit are needed"
        ) from e
    budget.spend_bytes(sum(a.nbytes for a in results), f"the result of {node.op_type}")
    return results


def _spend(node: NodeProto, arrays: Arrays, count: int, budget: Budget) -> None:
    """The time that the node takes, and whether its `count` elements have room."""
    size = count + _elements(node, arrays)
    slow = SLOW_NS.get(node.op_type, ELEMENT_NS)
    if slow > ELEMENT_NS and size > MAX_SLOW:
        raise FrontendError(f"{size} constant elements, at most {MAX_SLOW} are needed")
    time = NODE_NS + slow * size
    if node.op_type == "MatMul":
        a = _at(arrays, 0)
        each = FLOAT_PRODUCT_NS if a.dtype.kind == "f" else INTEGER_PRODUCT_NS
        time += int(count * a.shape[-1] * each)
    budget.spend_time(time, node.op_type)
    widest = max((a.dtype.itemsize for a in arrays if a is not None), default=8)
    budget.check_bytes(count * widest, f"the result of {node.op_type}")


def _evaluated(node: NodeProto, arrays: Arrays, opset: int) -> list[Array]:
    if node.op_type in OWN:
        return [OWN[node.op_type](node, arrays)]
    if node.op_type == "Cast" and any(
        a.name == "to" and a.i == TensorProto.STRING for a in node.attribute
    ):
        raise FrontendError("a cast to texts, a cast to numbers is needed")
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


def _gather_elements(node: NodeProto, arrays: Arrays) -> Array:
    """y[i][j] = x[index[i][j]][j] for axis 0: onnx's reference fails on most shapes."""
    x, index = _at(arrays, 0), _at(arrays, 1)
    axis = next((int(a.i) for a in node.attribute if a.name == "axis"), 0)
    part = x[tuple(slice(s if k != axis % x.ndim else None) for k, s in enumerate(index.shape))]
    places = np.where(index < 0, index + x.shape[axis], index)
    return np.asarray(np.take_along_axis(part, places, axis))


def _range(node: NodeProto, arrays: Arrays) -> Array:
    """start + i * step below the limit: onnx's reference is a loop in Python."""
    start, limit, step = (_at(arrays, i).reshape(-1)[0] for i in range(3))
    count = max(int(np.ceil((limit - start) / step)), 0)
    return np.asarray(start + np.arange(count).astype(start.dtype) * step, start.dtype)


OWN = {"GatherElements": _gather_elements, "Range": _range}


def _info(name: str, array: Array) -> ValueInfoProto:
    try:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    except (KeyError, ValueError):
        kind = TensorProto.UNDEFINED
    return helper.make_tensor_value_info(name, kind, array.shape)
