"""What every contraction shares: its accumulator's type, its exact sums, and its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Op, Value
from qir.ir.types import I32, Array, Elem, Quant

# The largest sums that every partial sum of float32 and float64 products holds exactly.
EXACT_F32, EXACT_F64 = 1 << 24, 1 << 53


def float_or_quantized(op: Op, *values: Value) -> bool:
    """Whether the operands are quantized; an error when they are mixed with floats."""
    kinds = {isinstance(v.type.elem, Quant) for v in values}
    if len(kinds) > 1 or not (kinds == {True} or all(v.type.is_float for v in values)):
        op.fail(
            ", ".join(f"{v} is {v.type.elem}" for v in values),
            "all floats or all quantized are needed",
        )
    return kinds == {True}


def accumulator(op: Op, x: Value, w: Value, bias: Value | None, out_axis: int) -> Elem:
    """The element of sum(x * w): x's own for floats; for quantized ones i32 of scale sx * sw, zero
    point 0.

    w may be quantized per tensor or per slice of axis 0, which becomes `out_axis` of the result.
    """
    if not float_or_quantized(op, x, w):
        if bias is not None and not bias.type.is_float:
            op.fail(f"bias is {bias.type}", "floats are needed beside float operands")
        return x.type.elem
    qx, qw = x.type.quant, w.type.quant
    if not qx.is_per_tensor:
        op.fail(f"x is quantized along axis {qx.axis}", "one scale is needed")
    if qw.axis not in (None, 0) or qw.block is not None:
        op.fail(
            f"w is quantized along axis {qw.axis}",
            "one scale, or one for each output channel, is needed",
        )
    scale = qx.scale.array * qw.scale.array
    acc = (
        Quant.per_tensor(I32, float(scale), 0)
        if qw.axis is None
        else Quant.per_axis(I32, scale, 0, out_axis)
    )
    if bias is not None:
        qb = bias.type.elem
        if not isinstance(qb, Quant) or qb.storage != I32 or np.any(qb.zero_point.array != 0):
            op.fail(f"bias is {bias.type}", "i32 with zero point 0 is needed")
        if not np.array_equal(np.broadcast_to(qb.scale.array, scale.shape), scale):
            op.fail(
                "bias has its own scale",
                "the accumulator's scale, that of x times that of w, is needed",
            )
    return acc


def exact_float(bound: int) -> np.dtype[Any]:
    """The narrowest float in which every sum up to `bound` is exact, so that BLAS may compute it;
    int64 beyond 2**53.
    """
    if bound < EXACT_F32:
        return np.dtype(np.float32)
    return np.dtype(np.float64 if bound < EXACT_F64 else np.int64)


def exact_matmul(a: Array, b: Array, bound: int) -> Array:
    """a @ b of integers, exactly, where |every partial sum| <= bound < 2**63."""
    kind = exact_float(bound)
    return np.asarray(a.astype(kind) @ b.astype(kind)).astype(np.int64).astype(np.int32)


def _terms(
    x: Value, w: Value, bx: Bounds, bw: Any, padded: bool, centre: bool
) -> tuple[Array, Array]:
    """(sum of least products, sum of greatest products) for each output channel, partial sums
    included.

    `bw` is the array of stored weights. With `centre` zero points are taken off x; without, sums
    are of stored x,
    as kernels compute them before they fold the zero point into the bias.
    """
    low, high = bx.whole
    zx, zw = int(x.type.quant.zero_point.array), w.type.quant.spread(w.type.shape)[1]
    if centre:
        low, high = low - zx, high - zx
    if padded:
        fill = 0 if centre else zx
        low, high = min(low, fill), max(high, fill)
    weights = (bw.astype(np.int64) - zw).reshape(len(bw), -1)
    positive, negative = np.maximum(weights, 0).sum(1), np.minimum(weights, 0).sum(1)
    return positive * low + negative * high, positive * high + negative * low


def contraction_bound(
    x: Value, w: Value, bias: Value | None, bx: Bounds, bw: Any, bb: Any, padded: bool
) -> Bounds:
    """max = sum(w > 0 ? w * xmax : w * xmin) and its minimum, per output channel, with the bias.

    `bw`, `bb` are the stored constants when they are known, else bounds.
    Source: QONNX range_analysis; per channel, on stored integers: this project.
    """
    if isinstance(bw, Bounds):
        return _unknown_weights(x, w, bias, bx, bw, bb)
    low, high = _terms(x, w, bx, bw, padded, centre=True)
    return Bounds.of(low, high).plus(_bias(bias, bb))


def contraction_extremes(
    x: Value, w: Value, bias: Value | None, bx: Bounds, bw: Any, bb: Any, padded: bool
) -> Iterator[Extreme]:
    """The accumulator over stored x, every partial sum of it in any order, and the sum with the
    bias.
    """
    if isinstance(bw, Bounds):
        yield Extreme("accumulator", _unknown_weights(x, w, bias, bx, bw, bb), 32)
        return
    for centre in (False, True):
        low, high = _terms(x, w, bx, bw, padded, centre)
        partial = Bounds.of(np.minimum(low, 0), np.maximum(high, 0))
        yield Extreme("accumulator" if centre else "accumulator of stored x", partial, 32)
    yield Extreme("accumulator with bias", contraction_bound(x, w, bias, bx, bw, bb, padded), 32)


def _bias(bias: Value | None, bb: Any) -> Bounds:
    if bias is None:
        return Bounds.of(0, 0)
    return bb if isinstance(bb, Bounds) else Bounds.of(bb.astype(np.int64), bb.astype(np.int64))


def _unknown_weights(
    x: Value, w: Value, bias: Value | None, bx: Bounds, bw: Bounds, bb: Any
) -> Bounds:
    """Bounds when both operands vary: K products of the widest values."""
    zx, zw = (int(v.type.quant.zero_point.array.max()) for v in (x, w))
    (a, b), (c, d) = bx.shifted(-zx).whole, bw.shifted(-zw).whole
    depth = w.type.size // w.type.shape[0] if w.type.rank != 2 else w.type.shape[1]
    corners = [a * c, a * d, b * c, b * d, 0]
    return Bounds.of(min(corners) * depth, max(corners) * depth).plus(_bias(bias, bb))
