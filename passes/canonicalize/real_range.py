"""The reals a value can reach, as far as the op that makes it tells."""

from __future__ import annotations

import math

from qir.ir.op import Op, Value
from qir.ir.ops import (
    Abs,
    AvgPool,
    Clip,
    Concat,
    Constant,
    Dequantize,
    Exp,
    Expand,
    Gather,
    HardSigmoid,
    MaxPool,
    Pad,
    PadMode,
    ReduceMax,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Softplus,
    Sqrt,
    Tanh,
    Transpose,
)  # fmt: skip
from qir.passes.infra.rewriter import Site

MAX_DEPTH = 16  # ops looked through
EVERYTHING = (-math.inf, math.inf)
INSIDE = (Reshape, Transpose, Slice, Gather, Expand, MaxPool, ReduceMax, ReduceMean)


def real_range(at: Site, value: Value, depth: int = MAX_DEPTH) -> tuple[float, float]:
    """(low, high): low <= every element <= high, whatever the inputs."""
    op = at.producer(value)
    if op is None or depth == 0:
        return EVERYTHING
    own = _own(op)
    if own is not None:
        return own
    if isinstance(op, (AvgPool, Pad, Concat, *INSIDE)):
        found = [real_range(at, v, depth - 1) for v in op.operands]
        if isinstance(op, AvgPool) and any(op.pad):
            found.append((0.0, 0.0))
        if isinstance(op, Pad) and op.mode is PadMode.CONSTANT:
            found.append((op.value, op.value))
        return min(r[0] for r in found), max(r[1] for r in found)
    return EVERYTHING


def _own(op: Op) -> tuple[float, float] | None:
    """The range that the op gives by itself."""
    match op:
        case Relu() | Abs() | Exp() | Softplus() | Sqrt():
            return 0.0, math.inf
        case Sigmoid() | HardSigmoid() | Softmax():
            return 0.0, 1.0
        case Tanh():
            return -1.0, 1.0
        case Clip():
            return op.low, op.high
        case Constant() if op.result.type.is_float and op.value.array.size:
            return float(op.value.array.min()), float(op.value.array.max())
        case Dequantize() if op.x.type.quant.is_per_tensor:
            q = op.x.type.quant
            scale, zero = float(q.scale.array), int(q.zero_point.array)
            return (q.storage.min - zero) * scale, (q.storage.max - zero) * scale
        case _:
            return None
