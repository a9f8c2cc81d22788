"""Attention and RotaryEmbedding of ONNX, since opset 23."""

from __future__ import annotations

import math

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import Operand
from qir.frontends.onnx.transformers.heads import Mask, attended, merge_heads, split, without
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Op, Value


def attention(ctx: ImportContext) -> Value:
    """Attention: q, k, v of (B, N, heads * size), or of (B, heads, N, size)."""
    for index, role in ((4, "past_key"), (5, "past_value"), (6, "nonpad_kv_seqlen")):
        without(ctx, index, role)
    if ctx.number("softcap", 0.0):
        ctx.refuse(f"softcap {ctx.number('softcap', 0.0):g}", "0 is needed")
    q, k, v = (ctx.real(i) for i in range(3))
    is_split = q.type.rank == 4
    if not is_split:
        heads = ctx.integer("q_num_heads", 0), ctx.integer("kv_num_heads", 0)
        q, k, v = (split(ctx, x, n) for x, n in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    mask = Mask()
    if ctx.has(3):
        mask.add(ctx, ctx.operand(3))
    distance = np.arange(q.type.shape[2])[:, None] - np.arange(k.type.shape[2])
    for name, sign in (("left_window_size", 1), ("right_window_size", -1)):
        if (reach := ctx.integer(name, -1)) >= 0:
            mask.hide(distance * sign > reach)
    scale = ctx.number("scale", 1 / math.sqrt(max(q.type.shape[-1], 1)))
    y = attended(ctx, q, k, v, scale, mask, bool(ctx.integer("is_causal", 0)))
    return ctx.result(y) if is_split else merge_heads(ctx, y)


def rotary_embedding(ctx: ImportContext) -> Value:
    """RotaryEmbedding: x, cos and sin, and positions that choose their rows."""
    positions = ctx.operand(3) if ctx.has(3) else None
    cos, sin = (rows_of(ctx, ctx.real(i), positions) for i in (1, 2))
    x = ctx.real(0)
    is_interleaved = bool(ctx.integer("interleaved", 0))
    if x.type.rank == 4:
        return ctx.result(rotated(ctx, x, cos, sin, is_interleaved))
    heads = split(ctx, x, ctx.integer("num_heads", 0))
    return merge_heads(ctx, rotated(ctx, heads, cos, sin, is_interleaved))


def rows_of(ctx: ImportContext, table: Value, positions: Operand | None) -> Value:
    """The rows of a table at the positions, (B or 1, 1, N, R / 2)."""
    if positions is None:
        rows = table
    elif isinstance(positions, Value):
        rows = ctx.emit(ops.Take(table, positions))
    else:
        every = positions.array.astype(np.int64)
        is_same = np.array_equal(every, np.broadcast_to(every[:1], every.shape))
        rows = ctx.emit(ops.Gather(table, Data(every[:1] if is_same else every), 0))
    return ctx.emit(ops.Reshape(rows, (rows.type.shape[0], 1, *rows.type.shape[1:])))


def rotated(ctx: ImportContext, x: Value, cos: Value, sin: Value, is_interleaved: bool) -> Op:
    """x (B, heads, N, size) with the first R channels of each head turned."""
    pairs, size = cos.type.shape[-1], x.type.shape[-1]
    step = 2 if is_interleaved else 1
    a = _part(ctx, x, 0, 2 * pairs if is_interleaved else pairs, step)
    b = _part(ctx, x, 1 if is_interleaved else pairs, 2 * pairs, step)
    one = ctx.emit(ops.Sub(ctx.emit(ops.Mul(a, cos)), ctx.emit(ops.Mul(b, sin))))
    two = ctx.emit(ops.Add(ctx.emit(ops.Mul(a, sin)), ctx.emit(ops.Mul(b, cos))))
    rotated_pairs: Op = ops.Concat((one, two), 3)
    if is_interleaved:
        columns = tuple(ctx.emit(ops.Reshape(v, (*one.type.shape, 1))) for v in (one, two))
        pairwise = ctx.emit(ops.Concat(columns, 4))
        rotated_pairs = ops.Reshape(pairwise, (*x.type.shape[:-1], 2 * pairs))
    if size == 2 * pairs:
        return rotated_pairs
    return ops.Concat((ctx.emit(rotated_pairs), _part(ctx, x, 2 * pairs, size)), 3)


def _part(ctx: ImportContext, x: Value, start: int, stop: int, step: int = 1) -> Value:
    """Channels of the last axis."""
    shape, rank = x.type.shape, x.type.rank
    if (start, stop, step) == (0, shape[-1], 1):
        return x
    starts, stops, steps = [0] * rank, list(shape), [1] * rank
    starts[-1], stops[-1], steps[-1] = start, stop, step
    return ctx.emit(ops.Slice(x, tuple(starts), tuple(stops), tuple(steps)))
