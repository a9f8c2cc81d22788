"""Convolutions: conv1d, conv2d, transposed ones, and the convolution they decompose to."""

from __future__ import annotations

from collections.abc import Sequence

from qir.frontends.torch.context import (
    Complex,
    ImportContext,
    MissingResult,
    Operand,
    QuantizedConstant,
)
from qir.frontends.torch.ops.layout import Spatial, TorchPlane
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Conv, ConvTranspose
from qir.ir.ops.window import Pair, Sides


@imports("aten.conv1d.default", "aten.conv1d.padding", "aten.conv2d.default", "aten.conv2d.padding")
def conv(
    ctx: ImportContext, x: Operand, weight: Operand, bias: Operand | None = None,
    stride: Spatial = 1, padding: Spatial | str = 0, dilation: Spatial = 1, groups: int = 1,
) -> Value:  # fmt: skip
    """conv1d, conv2d -> conv, between transposes; a conv1d has a height of 1."""
    plane = TorchPlane.of(ctx, ctx.value(x), spatial_axes(weight))
    w = image_weight(ctx, weight, plane.axes)
    d = plane.pair(dilation, 1)
    pad = sides_of(padding, plane, (w.type.shape[1], w.type.shape[2]), d)
    y = Conv(plane.x, w, ctx.optional(bias), plane.pair(stride, 1), pad, d, groups)
    return plane.back(ctx.add(y))


@imports("aten.conv_transpose1d.default", "aten.conv_transpose2d.input")
def conv_transpose(
    ctx: ImportContext, x: Operand, weight: Operand, bias: Operand | None = None,
    stride: Spatial = 1, padding: Spatial = 0, output_padding: Spatial = 0, groups: int = 1,
    dilation: Spatial = 1,
) -> Value:  # fmt: skip
    """conv_transpose1d, conv_transpose2d -> conv_transpose, between transposes.

    torch keeps w as (C, O / groups, kh, kw), C = groups * I; qir as (O, kh, kw, I).
    """
    plane = TorchPlane.of(ctx, ctx.value(x), spatial_axes(weight))
    w = image_weight(ctx, outputs_first(ctx, weight, groups), plane.axes)
    top, left = plane.pair(padding, 0)
    y = ConvTranspose(
        plane.x, w, ctx.optional(bias), plane.pair(stride, 1), (top, left, top, left),
        plane.pair(output_padding, 0), plane.pair(dilation, 1), groups,
    )  # fmt: skip
    return plane.back(ctx.add(y))


@imports("aten.convolution.default", "aten._convolution.default")
def convolution(
    ctx: ImportContext, x: Operand, weight: Operand, bias: Operand | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int, *backend_flags: bool,
) -> Value:  # fmt: skip
    """The core form: conv or conv_transpose, by `transposed`."""
    if transposed:
        return conv_transpose(
            ctx, x, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return conv(ctx, x, weight, bias, stride, padding, dilation, groups)


def spatial_axes(weight: Operand) -> int:
    """1 or 2, by the rank of the weight."""
    rank = len(shape_of(weight))
    if rank not in (3, 4):
        raise Unsupported(f"a weight of rank {rank}", "conv1d or conv2d is needed")
    return rank - 2


def shape_of(operand: Operand) -> tuple[int, ...]:
    if isinstance(operand, Value):
        return operand.type.shape
    return () if isinstance(operand, (MissingResult, Complex)) else tuple(operand.shape)


def image_weight(ctx: ImportContext, weight: Operand, axes: int) -> Value:
    """A torch weight (O, I, kh, kw) or (O, I, k) as (O, kh, kw, I)."""
    if axes == 2:
        return ctx.weight(weight, 0, 2, 3, 1)
    match weight:
        case QuantizedConstant():
            return ctx.weight(
                QuantizedConstant(weight.integers.unsqueeze(2), weight.quant, weight.name),
                0,
                2,
                3,
                1,
            )
        case Value():
            o, i, k = weight.type.shape
            return ctx.reshape(ctx.transpose(weight, 0, 2, 1), o, 1, k, i)
        case _:
            w = ctx.constant(weight, "the weight")
            return ctx.weight(ctx.derived(w.unsqueeze(2), w), 0, 2, 3, 1)


def outputs_first(ctx: ImportContext, weight: Operand, groups: int) -> Operand:
    """The weight of a transposed convolution, (G * I, O / G, ...), as (O, I, ...)."""
    if groups == 1 and isinstance(weight, QuantizedConstant):
        return weight.permuted((1, 0, *range(2, len(weight.shape))))
    w = ctx.constant(weight, "the weight of a transposed convolution")
    split = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    weights_first = split.transpose(1, 2).reshape(-1, w.shape[0] // groups, *w.shape[2:])
    return ctx.derived(weights_first, w)


def sides_of(padding: Spatial | str, plane: TorchPlane, kernel: Pair, dilation: Pair) -> Sides:
    """(top, left, bottom, right) of a torch padding; "same" puts the odd element last."""
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        first = [t // 2 for t in total]
        return first[0], first[1], total[0] - first[0], total[1] - first[1]
    if isinstance(padding, str):
        padding = 0  # "valid"
    top, left = plane.pair(padding, 0)
    return top, left, top, left
