"""Norms and embeddings of com.microsoft, fused with what stands before them."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Op, Value


def skip_layer_norm(ctx: ImportContext) -> tuple[Operand, ...]:
    """SkipLayerNormalization: layer_norm(x + skip + bias), and the sum."""
    total = _summed(ctx, 4)
    offset = ctx.real(3) if ctx.has(3) else None
    norm = ops.LayerNorm(total, ctx.real(2), offset, ctx.number("epsilon", 1e-12))
    return _with_sum(ctx, norm, total)


def skip_simplified_layer_norm(ctx: ImportContext) -> tuple[Operand, ...]:
    """SkipSimplifiedLayerNormalization: rms_norm(x + skip + bias), and the sum."""
    total = _summed(ctx, 3)
    return _with_sum(ctx, ops.RmsNorm(total, ctx.real(2), ctx.number("epsilon", 1e-12)), total)


def simplified_layer_norm(ctx: ImportContext) -> Value:
    """SimplifiedLayerNormalization: rms_norm over the last axis."""
    x = ctx.real(0)
    if ctx.axis(ctx.integer("axis", -1), x.type.rank) != x.type.rank - 1:
        ctx.refuse(f"axis {ctx.integer('axis', -1)} of rank {x.type.rank}", "the last is needed")
    return ctx.result(ops.RmsNorm(x, ctx.real(1), ctx.number("epsilon", 1e-5)))


def _summed(ctx: ImportContext, bias: int) -> Value:
    total = ctx.emit(ops.Add(ctx.real(0), ctx.real(1)), "sum")
    return ctx.emit(ops.Add(total, ctx.real(bias)), "sum") if ctx.has(bias) else total


def _with_sum(ctx: ImportContext, norm: Op, total: Value) -> tuple[Operand, ...]:
    """The norm, and the sum as output 3; mean and deviation between them are for training."""
    for index in (1, 2):
        if index < len(ctx.outputs) and ctx.outputs[index]:
            ctx.refuse(f"output {index} of training", "outputs 0 and 3 are needed")
    y = ctx.result(norm)
    return y, y, y, total


def embed_layer_norm(ctx: ImportContext) -> tuple[Operand, ...]:
    """EmbedLayerNormalization: layer_norm of the rows of words, positions and segments; and the
    mask as it came, in place of how many it shows.
    """
    ids = ctx.operand(0)
    n = shape_of(ids)[1]
    total = _rows(ctx, 2, ids)
    places = ctx.operand(8) if ctx.has(8) else ConstantOperand(np.arange(n)[None], "positions")
    total = ctx.emit(ops.Add(total, _rows(ctx, 3, places)))
    if ctx.has(1) and ctx.has(4):
        total = ctx.emit(ops.Add(total, _rows(ctx, 4, ctx.operand(1))))
    epsilon = ctx.number("epsilon", 1e-12)
    y = ctx.result(ops.LayerNorm(total, ctx.real(5), ctx.real(6), epsilon))
    mask = ctx.operand(7) if ctx.has(7) else ConstantOperand(np.ones((1, n), np.int32), "mask")
    return y, mask, total


def _rows(ctx: ImportContext, table: int, index: Operand) -> Value:
    """Rows of a table by ids of the run, or by constants."""
    rows = ctx.real(table)
    if isinstance(index, Value):
        return ctx.emit(ops.Take(rows, index))
    return ctx.emit(ops.Gather(rows, Data(index.array.astype(np.int64)), 0))
