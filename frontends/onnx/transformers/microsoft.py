"""Attention of com.microsoft: fused by ONNX Runtime's optimizers and model builders."""

from __future__ import annotations

import math

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.frontends.onnx.transformers.attention import rotated, rows_of
from qir.frontends.onnx.transformers.heads import Mask, attended, merge_heads, split, without
from qir.ir import ops
from qir.ir.op import Value
from qir.ir.types import Array


def attention(ctx: ImportContext) -> Value:
    """Attention: one projection to q, k and v, then heads; a mask of keys or of scores."""
    without(ctx, 4, "past")
    if ctx.integer("do_rotary", 0):
        ctx.refuse("do_rotary = 1", "0 is needed", "put a RotaryEmbedding before it")
    heads, sizes = ctx.integer("num_heads"), ctx.integers("qkv_hidden_sizes")
    weights = ctx.valued_real(ctx.transposed(ctx.operand(1), (1, 0)))
    wide = ctx.emit(ops.Linear(ctx.real(0), weights, ctx.real(2) if ctx.has(2) else None), "qkv")
    widths = sizes or (wide.type.shape[2] // 3,) * 3
    ends = np.cumsum(widths).tolist()
    q, k, v = (
        split(ctx, _channels(ctx, wide, end - width, end), heads)
        for width, end in zip(widths, ends, strict=True)
    )
    mask = Mask()
    if ctx.has(3):
        _add_keys(ctx, mask, ctx.operand(3), k.type.shape[2])
    if ctx.has(5):
        mask.add(ctx, ctx.operand(5))
    causal = bool(ctx.integer("unidirectional", 0))
    return merge_heads(ctx, attended(ctx, q, k, v, _scale(ctx, q), mask, causal))


def multi_head_attention(ctx: ImportContext) -> Value:
    """MultiHeadAttention: q, k, v of (B, N, C), with a bias of all three in a row."""
    without(ctx, 6, "past_key")
    without(ctx, 7, "past_value")
    heads = ctx.integer("num_heads")
    if not (ctx.has(1) and ctx.has(2)):
        ctx.refuse("packed q, k and v", "three inputs are needed")
    parts = [ctx.real(i) for i in range(3)]
    if ctx.has(3):
        bias, at = ctx.real(3), 0
        for i, x in enumerate(parts):
            width = x.type.shape[-1]
            part = _channels(ctx, bias, at, at + width)
            parts[i], at = ctx.emit(ops.Add(x, part)), at + width
    q, k, v = (x if x.type.rank == 4 else split(ctx, x, heads) for x in parts)
    mask = Mask()
    if ctx.has(4):
        _add_keys(ctx, mask, ctx.operand(4), k.type.shape[2])
    if ctx.has(5):
        mask.add(ctx, ctx.operand(5))
    causal = bool(ctx.integer("unidirectional", 0))
    return merge_heads(ctx, attended(ctx, q, k, v, _scale(ctx, q), mask, causal))


def group_query_attention(ctx: ImportContext) -> Value:
    """GroupQueryAttention of a whole prompt, without a cache: causal, rotated where it says so.

    seqlens_k and total_sequence_length are not looked at: keys behind the valid ones are behind
    every valid query too.
    """
    without(ctx, 3, "past_key")
    without(ctx, 4, "past_value")
    if ctx.number("softcap", 0.0):
        ctx.refuse(f"softcap {ctx.number('softcap', 0.0):g}", "0 is needed")
    heads, kv_heads = ctx.integer("num_heads"), ctx.integer("kv_num_heads")
    q, k, v = _grouped(ctx, heads, kv_heads)
    if ctx.integer("do_rotary", 0):
        n = np.arange(q.type.shape[2])[None]
        cos, sin = (rows_of(ctx, ctx.real(i), ConstantOperand(n, "positions")) for i in (7, 8))
        is_interleaved = bool(ctx.integer("rotary_interleaved", 0))
        q, k = (ctx.emit(rotated(ctx, x, cos, sin, is_interleaved)) for x in (q, k))
    mask = Mask()
    if ctx.has(10):
        mask.add(ctx, ctx.operand(10))
    window = max(ctx.integer("local_window_size", -1), 0)
    return merge_heads(ctx, attended(ctx, q, k, v, _scale(ctx, q), mask, True, window))


def _grouped(ctx: ImportContext, heads: int, kv_heads: int) -> tuple[Value, Value, Value]:
    """Heads of q, k and v, which may stand in one tensor."""
    x = ctx.real(0)
    if ctx.has(1) and ctx.has(2):
        return (
            split(ctx, x, heads),
            split(ctx, ctx.real(1), kv_heads),
            split(ctx, ctx.real(2), kv_heads),
        )
    size = x.type.shape[2] // (heads + 2 * kv_heads)
    first, second = heads * size, (heads + kv_heads) * size
    return (
        split(ctx, _channels(ctx, x, 0, first), heads),
        split(ctx, _channels(ctx, x, first, second), kv_heads),
        split(ctx, _channels(ctx, x, second, x.type.shape[2]), kv_heads),
    )


def rotary_embedding(ctx: ImportContext) -> Value:
    """RotaryEmbedding: x, positions (B, N) or where they start (1,), and tables of cos and sin."""
    x = ctx.real(0)
    if ctx.number("scale", 1.0) != 1 or ctx.integer("is_packed_batching", 0):
        ctx.refuse("scaled or packed positions", "scale 1, is_packed_batching 0 are needed")
    heads, part = ctx.integer("num_heads", 0), ctx.integer("rotary_embedding_dim", 0)
    if x.type.rank == 3 and not heads:
        heads = x.type.shape[2] // (part or 2 * ctx.real(2).type.shape[-1])
    y = x if x.type.rank == 4 else split(ctx, x, heads)
    positions = _positions(ctx, y.type.shape[2])
    cos, sin = (rows_of(ctx, ctx.real(i), positions) for i in (2, 3))
    rotated_op = rotated(ctx, y, cos, sin, bool(ctx.integer("interleaved", 0)))
    return ctx.result(rotated_op) if x.type.rank == 4 else merge_heads(ctx, rotated_op)


def _positions(ctx: ImportContext, count: int) -> Operand:
    """Positions (B, N); from a start that is constant, `count` of them."""
    operand = ctx.operand(1)
    if len(shape_of(operand)) == 2:
        return operand
    if isinstance(operand, Value):
        ctx.refuse("a start of positions (input 1) computed at run time", "a constant is needed")
    start = int(operand.array.reshape(-1)[0])
    return ConstantOperand(np.arange(start, start + count)[None], operand.name)


def _scale(ctx: ImportContext, q: Value) -> float:
    return ctx.number("scale", 0.0) or 1 / math.sqrt(max(q.type.shape[-1], 1))


def _channels(ctx: ImportContext, x: Value, start: int, stop: int) -> Value:
    rank = x.type.rank
    starts, stops = [0] * rank, list(x.type.shape)
    starts[-1], stops[-1] = start, stop
    return ctx.emit(ops.Slice(x, tuple(starts), tuple(stops), (1,) * rank))


def _add_keys(ctx: ImportContext, mask: Mask, lengths: Operand, keys: int) -> None:
    """Which keys are valid: integers (B, M), (B, N, M) or (B, 1, N, M), or how many, (B,)."""
    shape = shape_of(lengths)
    wide = {2: (shape[0], 1, 1, shape[-1]), 3: (shape[0], 1, *shape[1:])}.get(len(shape), shape)
    if len(shape) == 1:
        _add_lengths(ctx, mask, lengths, keys)
    else:
        mask.add(ctx, ctx.reshaped(lengths, wide))


def _add_lengths(ctx: ImportContext, mask: Mask, lengths: Operand, keys: int) -> None:
    table: Array = np.arange(keys) < np.arange(keys + 1)[:, None]  # of each length, its bits
    if isinstance(lengths, ConstantOperand):
        lengths_mask = table[np.clip(lengths.array, 0, keys)]
        mask.hide(~lengths_mask[:, None, None])
        return
    bits = ctx.emit(ops.Take(ctx.constant(table, "lengths"), lengths))
    mask.show(ctx, ctx.emit(ops.Reshape(bits, (bits.type.shape[0], 1, 1, keys))))
