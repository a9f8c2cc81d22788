"""Kernels for ops of sequences: rows with scales of their own, norms, rotations, attention."""

from __future__ import annotations

import numpy as np

from qir.backends.kernels.contraction.spec import RowNumbers
from qir.backends.kernels.sequence import attention, curve, hadamard, ids, indexed, norm, rope, rows
from qir.backends.lowering.choose.codes import clamp_of, norm_numbers, numbers_of
from qir.backends.lowering.context import Call, Context, NoKernel, call
from qir.backends.lowering.fuse import Fusion
from qir.ir.ops import (
    AttentionFixed,
    Hadamard,
    Interpolate,
    NormFixed,
    Positions,
    QuantizeRowBlocks,
    QuantizeRows,
    RopeFixed,
    RowScale,
    ScaleRows,
    SliceRows,
    Take,
    Within,
    WriteRows,
)
from qir.ir.rows import exponent


def choose_row_scale(fusion: Fusion, context: Context) -> Call:
    """row_scale -> the greatest of each block, as a scale."""
    op = fusion.anchor
    assert isinstance(op, RowScale)
    x, y = context.place(op.x), context.place(op.result)
    return call(rows.row_scale(x.view, op.block, y.view, context.features), {"x": x, "y": y})


def choose_quantize_rows(fusion: Fusion, context: Context) -> Call:
    """quantize_rows -> codes of each block."""
    op = fusion.anchor
    assert isinstance(op, QuantizeRows)
    x, scale, y = (context.place(v) for v in (op.x, op.scale, op.result))
    kernel = rows.quantize_rows(x.view, scale.view, op.block, y.view, context.features)
    return call(kernel, {"x": x, "scale": scale, "y": y})


def choose_quantize_row_blocks(fusion: Fusion, context: Context) -> Call:
    """quantize_row_blocks -> codes by the scales of rows and by what blocks reach."""
    op = fusion.anchor
    assert isinstance(op, QuantizeRowBlocks)
    x, scale, y = (context.place(v) for v in (op.x, op.scale, op.result))
    form = op.block, op.bits, op.spread
    kernel = rows.quantize_row_blocks(x.view, scale.view, form, y.view, context.features)
    return call(kernel, {"x": x, "scale": scale, "y": y})


def row_numbers(op: ScaleRows) -> RowNumbers:
    """Its numbers as kernels take them."""
    bias = None if op.bias is None else op.bias.array
    residual = op.residual_mult, op.residual_shift
    return RowNumbers(op.mult.array, op.shift.array, bias, residual, clamp_of(op.to))


def choose_scale_rows(fusion: Fusion, context: Context) -> Call:
    """scale_rows -> sums times scales, with bias and residual."""
    op = fusion.anchor
    assert isinstance(op, ScaleRows)
    x, scale, y = (context.place(v) for v in (op.x, op.scale, op.result))
    places = {"x": x, "scale": scale, "y": y}
    if op.residual is not None:
        places["residual"] = context.place(op.residual)
    residual = places["residual"].view if "residual" in places else None
    kernel = rows.scale_rows(
        x.view, scale.view, residual, row_numbers(op), y.view, context.features
    )
    return call(kernel, places)


def choose_norm(fusion: Fusion, context: Context) -> Call:
    """norm_fixed -> sums over rows, then their elements."""
    op = fusion.anchor
    assert isinstance(op, NormFixed)
    x, y = context.place(op.x), context.place(op.result)
    kernel = norm.norm(x.view, norm_numbers(op), y.view, context.features)
    return call(kernel, {"x": x, "y": y})


def choose_hadamard(fusion: Fusion, context: Context) -> Call:
    """hadamard -> sums and differences of each block."""
    op = fusion.anchor
    assert isinstance(op, Hadamard)
    x, y = context.place(op.x), context.place(op.result)
    return call(hadamard.hadamard(x.view, op.size, y.view, context.features), {"x": x, "y": y})


def choose_rope(fusion: Fusion, context: Context) -> Call:
    """rope_fixed -> pairs of channels turned."""
    op = fusion.anchor
    assert isinstance(op, RopeFixed)
    x, cos, sin, y = (context.place(v) for v in (op.x, op.cos, op.sin, op.result))
    numbers = rope.RopeNumbers(
        op.size, op.interleaved, *numbers_of(op.ratio), op.one, clamp_of(op.to)
    )
    are_constants = [context.is_constant(table) for table in (cos, sin)]
    if len(set(are_constants)) > 1:
        raise NoKernel("one of cos and sin is a constant, both or none are needed")
    kernel = rope.rope(
        x.view, cos.view, sin.view, numbers, y.view, context.features, are_constants[0]
    )
    return call(kernel, {"x": x, "cos": cos, "sin": sin, "y": y})


def choose_interpolate(fusion: Fusion, context: Context) -> Call:
    """interpolate -> a line of a table for each element."""
    op = fusion.anchor
    assert isinstance(op, Interpolate)
    x, y = context.place(op.x), context.place(op.result)
    kernel = curve.interpolate(x.view, op.table.array, y.view, context.features)
    return call(kernel, {"x": x, "y": y})


def choose_within(fusion: Fusion, context: Context) -> Call:
    """within -> a bit for each integer."""
    op = fusion.anchor
    assert isinstance(op, Within)
    x, y = context.place(op.x), context.place(op.result)
    return call(ids.within(x.view, op.low, op.high, op.outside, y.view), {"x": x, "y": y})


def choose_positions(fusion: Fusion, context: Context) -> Call:
    """positions -> a count along each row of tokens."""
    op = fusion.anchor
    assert isinstance(op, Positions)
    bits, y = context.place(op.bits), context.place(op.result)
    return call(ids.positions(bits.view, op.first, op.hidden, y.view), {"bits": bits, "y": y})


def choose_take(fusion: Fusion, context: Context) -> Call:
    """take -> rows of a table."""
    op = fusion.anchor
    assert isinstance(op, Take)
    values = {"table": op.table, "index": op.index, "y": op.result}
    places = {name: context.place(value) for name, value in values.items()}
    table, index, y = (place.view for place in places.values())
    is_constant = context.is_constant(places["table"])
    return call(indexed.take(table, index, y, context.features, is_constant), places)


def choose_slice_rows(fusion: Fusion, context: Context) -> Call:
    """slice_rows -> a copy from where `start` says."""
    op = fusion.anchor
    assert isinstance(op, SliceRows)
    x, start, y = (context.place(v) for v in (op.table, op.start, op.result))
    is_constant = context.is_constant(x)
    kernel = indexed.copy_rows(x.view, start.view, y.view, 0, context.features, is_constant)
    return call(kernel, {"x": x, "start": start, "y": y})


def choose_write_rows(fusion: Fusion, context: Context) -> Call:
    """write_rows -> a copy to where `start` says; the rest of the cache is in place already."""
    op = fusion.anchor
    assert isinstance(op, WriteRows)
    x, start, y = (context.place(v) for v in (op.x, op.start, op.result))
    is_constant = context.is_constant(x)
    kernel = indexed.copy_rows(x.view, start.view, y.view, 1, context.features, is_constant)
    return call(kernel, {"x": x, "start": start, "y": y})


def choose_attention(fusion: Fusion, context: Context) -> Call:
    """attention_fixed -> a row of scores at a time."""
    op = fusion.anchor
    assert isinstance(op, AttentionFixed)
    values = {
        "q": op.q, "scale": op.scale, "k": op.k, "v": op.v, "bias": op.bias,
        "visible": op.visible, "start": op.start, "y": op.result,
    }  # fmt: skip
    places = {name: context.place(v) for name, v in values.items() if v is not None}
    q, scale, k, v, y = (places[name].view for name in ("q", "scale", "k", "v", "y"))
    others = [places[n].view if n in places else None for n in ("bias", "visible", "start")]
    bias, visible, start = others
    views = attention.AttentionViews(q, scale, k, v, bias, visible, start, y)
    numbers = attention.AttentionNumbers(
        op.heads, op.kv_heads, op.causal, op.window, op.mult, op.shift,
        None if op.bias_ratio is None else numbers_of(op.bias_ratio),
        "bias" in places and context.is_constant(places["bias"]),
        int(exponent(np.array(context.range_of(op.scale)[1]))),
    )  # fmt: skip
    b, n, width = op.q.type.shape
    keys, values_width = op.k.type.shape[1], op.v.type.shape[2] // op.kv_heads * op.heads
    macs = b * n * keys * (width + values_width)
    return call(attention.attention(views, numbers, context.features), places, macs=macs)
