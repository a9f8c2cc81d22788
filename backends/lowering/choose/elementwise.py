"""Kernels for requantize, products, tables and gathers."""

from __future__ import annotations

import numpy as np

from qir.backends.kernels import elementwise, move
from qir.backends.kernels.lookup import lookup
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.lowering.context import Call, Context, NoKernel, call
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.layout import zero_of
from qir.ir.op import Value
from qir.ir.ops import Gather, Lookup, Mul, Pad, Requantize
from qir.ir.types import Array


def scale_of(tail: Requantize) -> Scale:
    """The numbers of a requantize as kernels take them."""
    return Scale(
        tuple(m.array for m in tail.mult),
        tail.shift.array,
        one_zero_point(tail.result),
        tail.low,
        tail.high,
        tail.rounding,
    )


def epilogue_scale(fusion: Fusion) -> Scale | None:
    """That of the fusion's tail; None for a fusion that gives its accumulators."""
    return None if fusion.tail is None else scale_of(fusion.tail)


def choose_requantize(fusion: Fusion, context: Context) -> Call:
    """requantize -> one elementwise kernel over all operands."""
    op = fusion.anchor
    assert isinstance(op, Requantize)
    y = context.place(op.result)
    xs = [context.place(x) for x in op.xs]
    zeros = [one_zero_point(x) for x in op.xs]
    ranges = [context.range_of(x) for x in op.xs]
    views = [x.view for x in xs]
    kernel = elementwise.requantize(views, zeros, scale_of(op), y.view, context.features, ranges)
    return call(kernel, {"y": y, **{f"x{i}": x for i, x in enumerate(xs)}})


def one_zero_point(value: Value) -> int:
    """The zero point of all channels.

    Errors: NoKernel where they have several.
    """
    zeros = value.type.quant.zero_point.array
    if not value.type.quant.has_one_zero_point:
        raise NoKernel(
            f"{value} has zero points from {zeros.min()} to {zeros.max()}, one is needed"
        )
    return int(zeros.reshape(-1)[0])


def choose_mul(fusion: Fusion, context: Context) -> Call:
    """mul [+ requantize] -> one elementwise kernel."""
    op = fusion.anchor
    assert isinstance(op, Mul)
    a, b, y = (context.place(v) for v in (op.a, op.b, fusion.result))
    scale = epilogue_scale(fusion)
    zeros = zero_of(op.a), zero_of(op.b)
    kernel = elementwise.multiply(a.view, b.view, zeros, y.view, context.features, scale)
    return call(kernel, {"x0": a, "x1": b, "y": y})


def choose_lookup(fusion: Fusion, context: Context) -> Call:
    """lookup -> the kernel of tables."""
    op = fusion.anchor
    assert isinstance(op, Lookup)
    x, y = context.place(op.x), context.place(op.result)
    first = op.x.type.quant.storage.min
    return call(lookup(x.view, op.table.array, first, y.view, context.features), {"x": x, "y": y})


def choose_gather(fusion: Fusion, context: Context) -> Call:
    """gather -> offsets along one axis."""
    op = fusion.anchor
    assert isinstance(op, Gather) and op.index.array.ndim == 1  # lowering/gathers.py
    x, y = context.place(op.x).normal, context.place(op.result)
    offsets: list[Array | int] = list(x.strides)
    offsets[op.axis] = op.index.array.astype(np.int64) * x.strides[op.axis]
    return call(move.gather(offsets, x.dtype, y.view, context.features), {"x": x, "y": y})


def choose_pad(fusion: Fusion, context: Context) -> Call:
    """pad by reflection or by the edge -> offsets along each padded axis."""
    op = fusion.anchor
    assert isinstance(op, Pad)
    x, y = context.place(op.x).normal, context.place(op.result)
    offsets = [source * stride for source, stride in zip(op.sources(), x.strides, strict=True)]
    return call(move.gather(offsets, x.dtype, y.view, context.features), {"x": x, "y": y})
