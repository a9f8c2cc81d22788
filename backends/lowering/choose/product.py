"""Kernels for products of two activations, softmax and bilinear resizing."""

from __future__ import annotations

from qir.backends.kernels.bilinear import bilinear
from qir.backends.kernels.matmul import matmul
from qir.backends.kernels.softmax import softmax
from qir.backends.lowering.choose.elementwise import epilogue_scale
from qir.backends.lowering.choose.reduction import plane_of
from qir.backends.lowering.context import Call, Context, call
from qir.backends.lowering.fuse import Fusion
from qir.backends.lowering.layout import zero_of
from qir.ir.ops import Bilinear, MatMul, SoftmaxFixed


def choose_matmul(fusion: Fusion, context: Context) -> Call:
    """matmul [+ requantize] -> the product of two strided tensors."""
    op = fusion.anchor
    assert isinstance(op, MatMul)
    a, b, y = (context.place(v) for v in (op.a, op.b, fusion.result))
    scale = epilogue_scale(fusion)
    zeros = zero_of(op.a), zero_of(op.b)
    kernel = matmul(a.view, b.view, zeros, y.view, context.features, scale)
    return call(kernel, {"a": a, "b": b, "y": y}, macs=y.size * a.shape[-1])


def choose_softmax(fusion: Fusion, context: Context) -> Call:
    """softmax_fixed -> one kernel over rows."""
    op = fusion.anchor
    assert isinstance(op, SoftmaxFixed)
    x, y, storage = context.place(op.x), context.place(op.result), op.to.storage
    mult, shift = int(op.ratio.mult.array), int(op.ratio.shift.array)
    zero = int(op.to.zero_point.array)
    table = op.exp_table.array
    kernel = softmax(
        x.view, table, zero, mult, shift, storage.min, storage.max, y.view, context.features
    )
    return call(kernel, {"x": x, "y": y})


def choose_bilinear(fusion: Fusion, context: Context) -> Call:
    """bilinear [+ requantize] -> weighted sums of four neighbours, scaled."""
    op = fusion.anchor
    assert isinstance(op, Bilinear)
    scale = epilogue_scale(fusion)
    x, y = plane_of(op.x, context), plane_of(fusion.result, context)
    tables = (op.rows.array, op.columns.array, op.u.array, op.v.array)
    kernel = bilinear(x, y, *tables, zero_of(op.x), context.features, scale)
    return call(kernel, {"x": context.place(op.x), "y": context.place(fusion.result)})
