"""Poolings, with torch's rules for ceil_mode, padding and divisors."""

from __future__ import annotations

from collections.abc import Sequence

from qir.frontends.torch.context import ImportContext, MissingResult, Operand
from qir.frontends.torch.ops.layout import Spatial, TorchPlane
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import AvgPool, MaxPool, Mul, Pad, PadMode, ReduceMax, ReduceMean
from qir.ir.ops.window import Pair, Sides, ceil_padding

INDICES = MissingResult("the indices of a max pool are read", "its values alone are needed")


@imports("aten.max_pool2d.default")
def max_pool2d(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, dilation: Spatial = 1, ceil_mode: bool = False, axes: int = 2,
) -> Value:  # fmt: skip
    """max_pool -> max_pool, between transposes; ceil_mode as more padding at the end."""
    plane = TorchPlane.of(ctx, ctx.value(x), axes)
    kernel, steps, d = (
        plane.pair(kernel_size, 1),
        strides(plane, stride, kernel_size),
        plane.pair(dilation, 1),
    )
    pad = ceiled(plane, kernel, steps, plane.pair(padding, 0), d, ceil_mode)
    return plane.back(ctx.add(MaxPool(plane.x, kernel, steps, pad, d)))


@imports("aten.max_pool1d.default")
def max_pool1d(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, dilation: Spatial = 1, ceil_mode: bool = False,
) -> Value:  # fmt: skip
    return max_pool2d(ctx, x, kernel_size, stride, padding, dilation, ceil_mode, axes=1)


@imports("aten.max_pool2d_with_indices.default")
def max_pool2d_with_indices(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, dilation: Spatial = 1, ceil_mode: bool = False,
) -> tuple[Operand, Operand]:  # fmt: skip
    y = max_pool2d(ctx, x, kernel_size, stride, padding, dilation, ceil_mode)
    return y, INDICES


@imports("aten.max_pool1d_with_indices.default")
def max_pool1d_with_indices(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, dilation: Spatial = 1, ceil_mode: bool = False,
) -> tuple[Operand, Operand]:  # fmt: skip
    y = max_pool1d(ctx, x, kernel_size, stride, padding, dilation, ceil_mode)
    return y, INDICES


@imports("aten.avg_pool2d.default")
def avg_pool2d(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None, axes: int = 2,
) -> Value:  # fmt: skip
    """avg_pool -> avg_pool, between transposes.

    torch counts the padding it was given (count_include_pad) but never what ceil_mode adds beyond
    it: where both meet, the given padding becomes a pad of its own and the rest is not counted.
    divisor_override d: the mean over the whole window times kh * kw / d.
    """
    plane = TorchPlane.of(ctx, ctx.value(x), axes)
    kernel, steps, one = plane.pair(kernel_size, 1), strides(plane, stride, kernel_size), (1, 1)
    own_padding = plane.pair(padding, 0)
    pad = ceiled(plane, kernel, steps, own_padding, one, ceil_mode)
    image = plane.x
    if divisor_override is not None:
        y = ctx.add(AvgPool(image, kernel, steps, pad, one, True))
        factor = kernel[0] * kernel[1] / int(divisor_override)
        return plane.back(ctx.add(Mul(y, ctx.value(factor))))
    if count_include_pad and (beyond := (pad[2] - own_padding[0], pad[3] - own_padding[1])) != (
        0,
        0,
    ):
        image, pad = zero_padded(ctx, image, own_padding), (0, 0, *beyond)
        count_include_pad = False
    return plane.back(ctx.add(AvgPool(image, kernel, steps, pad, one, count_include_pad)))


@imports("aten.avg_pool1d.default")
def avg_pool1d(
    ctx: ImportContext, x: Operand, kernel_size: Spatial, stride: Spatial = (),
    padding: Spatial = 0, ceil_mode: bool = False, count_include_pad: bool = True,
) -> Value:  # fmt: skip
    return avg_pool2d(ctx, x, kernel_size, stride, padding, ceil_mode, count_include_pad, axes=1)


@imports("aten.adaptive_avg_pool2d.default", "aten._adaptive_avg_pool2d.default")
def adaptive_avg_pool2d(
    ctx: ImportContext, x: Operand, output_size: Spatial, axes: int = 2
) -> Value:
    """To 1x1: the mean over height and width. To a divisor of the size: avg_pool."""
    plane = TorchPlane.of(ctx, ctx.value(x), axes)
    kernel = adaptive_kernel(plane, output_size)
    if kernel == plane.x.type.shape[1:3]:
        return plane.back(ctx.add(ReduceMean(plane.x, (1, 2), True)))
    return plane.back(ctx.add(AvgPool(plane.x, kernel, kernel, (0, 0, 0, 0), (1, 1), True)))


@imports("aten.adaptive_avg_pool1d.default")
def adaptive_avg_pool1d(ctx: ImportContext, x: Operand, output_size: Spatial) -> Value:
    return adaptive_avg_pool2d(ctx, x, output_size, axes=1)


@imports("aten.adaptive_max_pool2d.default")
def adaptive_max_pool2d(
    ctx: ImportContext, x: Operand, output_size: Spatial, axes: int = 2
) -> tuple[Operand, Operand]:
    """To 1x1: the greatest over height and width. To a divisor of the size: max_pool."""
    plane = TorchPlane.of(ctx, ctx.value(x), axes)
    kernel = adaptive_kernel(plane, output_size)
    if kernel == plane.x.type.shape[1:3]:
        y = ctx.add(ReduceMax(plane.x, (1, 2), True))
    else:
        y = ctx.add(MaxPool(plane.x, kernel, kernel, (0, 0, 0, 0), (1, 1)))
    return plane.back(y), INDICES


@imports("aten.adaptive_max_pool1d.default")
def adaptive_max_pool1d(
    ctx: ImportContext, x: Operand, output_size: Spatial
) -> tuple[Operand, Operand]:
    return adaptive_max_pool2d(ctx, x, output_size, axes=1)


def strides(plane: TorchPlane, stride: Spatial, kernel_size: Spatial) -> Pair:
    """The stride, which is the kernel where none is given."""
    is_absent = isinstance(stride, Sequence) and not stride
    return plane.pair(kernel_size if is_absent else stride, 1)


def ceiled(
    plane: TorchPlane, kernel: Pair, stride: Pair, pad: Pair, dilation: Pair, is_ceil: bool
) -> Sides:
    """(top, left, bottom, right); with ceil_mode, enough for a last window that starts inside."""
    after = list(pad)
    for axis in (0, 1) if is_ceil else ():
        size, reach = plane.x.type.shape[1 + axis], dilation[axis] * (kernel[axis] - 1) + 1
        after[axis] += ceil_padding(size, (pad[axis], pad[axis]), reach, stride[axis])
    return pad[0], pad[1], after[0], after[1]


def zero_padded(ctx: ImportContext, image: Value, pad: Pair) -> Value:
    """image (N, H, W, C) with zeros on both sides of height and width."""
    if pad == (0, 0):
        return image
    around = (0, *pad, 0)
    return ctx.add(Pad(image, around, around, (0, 0, 0, 0), PadMode.CONSTANT, 0.0))


def adaptive_kernel(plane: TorchPlane, output_size: Spatial) -> Pair:
    """The one window that an adaptive pooling slides; sizes must divide."""
    out, size = plane.pair(output_size, 1), plane.x.type.shape[1:3]
    if any(o < 1 or s % o for o, s in zip(out, size, strict=True)):
        raise Unsupported(
            f"adaptive pooling of {size[0]}x{size[1]} to {out[0]}x{out[1]}",
            "a size that divides the input's, such as 1x1, is needed",
        )
    return size[0] // out[0], size[1] // out[1]
