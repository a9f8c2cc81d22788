"""What every contraction shares: its accumulator's type, its exact sums, and its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
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


def signed_sums(rows: Array) -> tuple[Array, Array]:
    """(O,) int64 each: the sums of the positive integers of each row (O, K), and of the others."""
    zero = rows.dtype.type(0)
    positive, negative = (end(rows, zero) for end in (np.maximum, np.minimum))
    return positive.sum(1, dtype=np.int64), negative.sum(1, dtype=np.int64)


def _weight_sums(w: Value, weights: Any) -> tuple[Bounds, Bounds]:
    """The sum of the positive w - zw of each output channel, and of the negative ones.

    `weights` is the array of stored weights, or its bounds: then all of them are in the first sum.
    """
    count, depth = w.type.shape[0], prod(w.type.shape[1:])
    zero = np.broadcast_to(w.type.quant.zero_point.array, (count,))
    if isinstance(weights, Bounds):
        one = weights.forgotten.minus(Bounds.of_array(zero))
        return Bounds.of(one.low * depth, one.high * depth), Bounds.of(0, 0)
    rows = weights.reshape(count, depth)
    if zero.any():
        rows = rows.astype(np.int64) - zero[:, None]
    positive, negative = signed_sums(rows)
    return Bounds.of_array(positive), Bounds.of_array(negative)


def _sums(
    x: Value, bx: Bounds, weights: tuple[Bounds, Bounds], padded: bool, centre: bool
) -> Bounds:
    """Bounds of sum(x * (w - zw)) for each output channel.

    With `centre` zero points are taken off x; without, sums are of stored x, as kernels compute
    them before they fold the zero point into the bias.
    """
    inputs = (Bounds.centred(bx, x.type) if centre else bx).forgotten
    if padded:
        fill = 0 if centre else int(x.type.quant.zero_point.array)
        inputs = inputs.join(Bounds.of(fill, fill))
    positive, negative = weights
    return positive.times(inputs).plus(negative.times(inputs))


def contraction_bound(
    x: Value, w: Value, bias: Value | None, bx: Any, bw: Any, bb: Any, padded: bool
) -> Bounds:
    """max = sum(w > 0 ? w * xmax : w * xmin) and its minimum, per output channel, with the bias.

    `bx`, `bw`, `bb` are the stored constants when they are known, else bounds; of unknown weights
    each product is as large as it can be.
    Source: QONNX range_analysis; per channel, on stored integers: this project.
    """
    sums = _sums(x, Bounds.of_known(bx), _weight_sums(w, bw), padded, centre=True)
    return sums if bias is None else sums.plus(Bounds.of_known(bb))


def contraction_extremes(
    x: Value, w: Value, bias: Value | None, bx: Any, bw: Any, bb: Any, padded: bool
) -> Iterator[Extreme]:
    """The accumulator over stored x, every partial sum of it in any order, and the sum with the
    bias.
    """
    x_bounds, weights = Bounds.of_known(bx), _weight_sums(w, bw)
    yield from centred_extreme(x, x_bounds)
    stored, centred = (_sums(x, x_bounds, weights, padded, centre) for centre in (False, True))
    yield Extreme("accumulator of stored x", stored.with_zero(), I32)
    yield Extreme("accumulator", centred.with_zero(), I32)
    total = centred if bias is None else centred.plus(Bounds.of_known(bb))
    yield Extreme("accumulator with bias", total, I32)


def centred_extreme(x: Value, bounds: Any) -> Iterator[Extreme]:
    """x - zero_point in 32 bits; of at most 16 bits it fits by its type."""
    if x.type.quant.storage.bits > 16:
        yield Extreme(f"{x} less its zero point", Bounds.centred(bounds, x.type), I32)
