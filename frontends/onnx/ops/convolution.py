"""Convolutions: windows in two axes, or in one as height 1."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.frontends.onnx.ops.layout import from_image, image, kernel_2d
from qir.frontends.onnx.ops.window import Window, split_sides, window
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops.window import Pair
from qir.ir.types import Quant


def conv(ctx: ImportContext) -> Value:
    """Conv: x (N, C, H, W), w (O, C / group, kh, kw), b (O,)."""
    bias = ctx.real(2) if ctx.has(2) else None
    return convolved(ctx, ctx.real(0), ctx.operand(1), bias)


def convolved(ctx: ImportContext, x: Value, weights: Operand, bias: Value | None) -> Value:
    """The convolution of the node's attributes, as its result."""
    rank = x.type.rank
    y = image(ctx, x)
    w = kernel_2d(ctx, weights)
    if len(shape_of(weights)) != rank:
        ctx.refuse(f"x of rank {rank}, weights {list(shape_of(weights))}", "one rank is needed")
    kernel = kernel_like(ctx, shape_of(w), rank - 2)
    win = window(ctx, y.type.shape[1:3], kernel, rank - 2)  # type: ignore[arg-type]
    stored = ctx.valued_real(ctx.transposed(w, (0, 2, 3, 1)))
    out = ctx.emit(
        ops.Conv(y, stored, bias, win.stride, win.pad, win.dilation, ctx.integer("group", 1)),
        "conv",
    )
    return from_image(ctx, out, rank)


def kernel_like(ctx: ImportContext, shape: tuple[int, ...], spatial: int) -> Pair:
    """The kernel of weights (A, B, kh, kw), checked against the attribute kernel_shape."""
    kernel = ctx.integers("kernel_shape")
    if kernel is not None and kernel != shape[4 - spatial :]:
        ctx.refuse(f"kernel_shape {list(kernel)}, weights {list(shape)}", "one kernel is needed")
    return shape[2], shape[3]


def conv_transpose(ctx: ImportContext) -> Value:
    """ConvTranspose: x (N, C, H, W), w (C, O / group, kh, kw), b (O,)."""
    x = ctx.real(0)
    rank, groups = x.type.rank, ctx.integer("group", 1)
    y = image(ctx, x)
    w = kernel_2d(ctx, ctx.operand(1))
    c = shape_of(w)[0]
    if groups < 1 or c % groups:
        ctx.refuse(f"{c} input channels, group {groups}", "a divisor is needed")
    kernel = kernel_like(ctx, shape_of(w), rank - 2)
    w = _by_outputs(ctx, w, groups)
    bias = ctx.real(2) if ctx.has(2) else None
    win, extra = _widened(ctx, y.type.shape[1:3], kernel, rank - 2)  # type: ignore[arg-type]
    out = ctx.emit(
        ops.ConvTranspose(
            y, ctx.valued_real(w), bias, win.stride, win.pad, extra, win.dilation, groups
        ),
        "conv",
    )
    return from_image(ctx, out, rank)


def _by_outputs(ctx: ImportContext, w: Operand, groups: int) -> Operand:
    """Weights (C, O / groups, kh, kw) as (O, kh, kw, C / groups).

    One scale for each of the O / groups outputs of a group stands for that output of every group.
    """
    if groups == 1:
        return ctx.transposed(w, (1, 2, 3, 0))
    c, each, kh, kw = shape_of(w)
    split_shape, perm = (groups, c // groups, each, kh, kw), (0, 2, 3, 4, 1)
    shape = (groups * each, kh, kw, c // groups)
    if isinstance(w, ConstantOperand) and w.quant is not None and w.quant.axis == 1:
        q = w.quant
        if q.block is None:
            array = w.array.reshape(split_shape).transpose(perm).reshape(shape)
            scale, zero = (np.tile(d.array, groups) for d in (q.scale, q.zero_point))
            return ConstantOperand(array, w.name, Quant(q.storage, Data(scale), Data(zero), 0))
    return ctx.reshaped(ctx.transposed(ctx.reshaped(w, split_shape), perm), shape)


def _widened(ctx: ImportContext, size: Pair, kernel: Pair, spatial: int) -> tuple[Window, Pair]:
    """The window and the extra rows and columns at the end, from output_shape or output_padding.

    out = stride * (in - 1) + output_padding + dilation * (kernel - 1) + 1 - pads
    Source: ONNX ConvTranspose.
    """
    auto = ctx.text("auto_pad", "NOTSET")
    padding = ctx.integers("output_padding") or (0,) * spatial
    shape = ctx.integers("output_shape")
    if len(padding) != spatial or (shape is not None and len(shape) < spatial):
        ctx.refuse(f"output_padding {list(padding)}, output_shape {shape}", f"{spatial} are needed")
    extra = (0, padding[0]) if spatial == 1 else (padding[0], padding[1])
    has_totals = shape is not None or auto.startswith("SAME")
    bare = (
        window(ctx, size, kernel, spatial)
        if not has_totals
        else _unpadded(ctx, size, kernel, spatial)
    )
    if not has_totals:
        return bare, extra
    if shape is not None:
        output_size = (1, shape[-1]) if spatial == 1 else (shape[-2], shape[-1])
    else:
        output_size = (size[0] * bare.stride[0], size[1] * bare.stride[1])
    totals = [
        st * (s - 1) + e + r - o
        for st, s, e, r, o in zip(bare.stride, size, extra, bare.reach, output_size, strict=True)
    ]
    more = (max(-totals[0], 0), max(-totals[1], 0))  # an output beyond the full one is zero there
    pad = split_sides([max(t, 0) for t in totals], more_after=auto == "SAME_UPPER")
    return (
        Window(bare.kernel, bare.stride, bare.dilation, pad),
        (extra[0] + more[0], extra[1] + more[1]),
    )


def _unpadded(ctx: ImportContext, size: Pair, kernel: Pair, spatial: int) -> Window:
    unpadded = window(ctx, size, kernel, spatial)
    return Window(kernel, unpadded.stride, unpadded.dilation, (0, 0, 0, 0))
