"""Window attributes (kernel, strides, dilations, pads, auto_pad, ceil_mode) in qir's form."""

from __future__ import annotations

from dataclasses import dataclass

from qir.frontends.onnx.context import ImportContext
from qir.ir.ops.window import Pair, Sides, ceil_padding


@dataclass(frozen=True)
class Window:
    """Over height (1 for models of one axis) and width; `pad` is (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    pad: Sides

    @property
    def reach(self) -> Pair:
        """The rows and columns that one window spans."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))  # type: ignore[return-value]


def kernel_of(ctx: ImportContext, spatial: int) -> Pair:
    """The attribute kernel_shape of a pooling."""
    return _pair(ctx, "kernel_shape", ctx.integers("kernel_shape"), spatial)


def window(ctx: ImportContext, size: Pair, kernel: Pair, spatial: int) -> Window:
    """The window of a node whose input is of `size`, with `spatial` axes in the model (1 or 2)."""
    stride = _pair(ctx, "strides", ctx.integers("strides") or (1,) * spatial, spatial)
    dilation = _pair(ctx, "dilations", ctx.integers("dilations") or (1,) * spatial, spatial)
    bare = Window(kernel, stride, dilation, (0, 0, 0, 0))
    if min(*kernel, *stride, *dilation) < 1:
        ctx.refuse(
            f"kernel {kernel}, strides {stride}, dilations {dilation}", "at least 1 each is needed"
        )
    return Window(kernel, stride, dilation, pads(ctx, size, bare, spatial))


def pads(ctx: ImportContext, size: Pair, bare: Window, spatial: int) -> Sides:
    """The attribute pads, or the pads that auto_pad computes for an input of `size`."""
    auto = ctx.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-s // st) - 1) * st + r - s, 0)
            for s, st, r in zip(size, bare.stride, bare.reach, strict=True)
        ]
        return split_sides(totals, more_after=auto == "SAME_UPPER")
    if auto == "VALID":
        return (0, 0, 0, 0)
    if auto not in ("NOTSET", ""):
        ctx.refuse(f"auto_pad {auto!r}", "NOTSET, SAME_UPPER, SAME_LOWER or VALID is needed")
    return explicit_pads(ctx, spatial)


def explicit_pads(ctx: ImportContext, spatial: int) -> Sides:
    """The attribute pads as (top, left, bottom, right)."""
    pads = ctx.integers("pads") or (0,) * (2 * spatial)
    if len(pads) != 2 * spatial:
        ctx.refuse(f"pads {list(pads)}", f"{2 * spatial} are needed")
    if min(pads) < 0:
        ctx.refuse(f"pads {list(pads)}", "at least 0 each is needed", "cut with a Slice")
    if spatial == 1:
        return (0, pads[0], 0, pads[1])
    return (pads[0], pads[1], pads[2], pads[3])


def split_sides(totals: list[int], more_after: bool) -> Sides:
    """Padding of `totals` (height, width) in two halves; an odd one goes after, or before."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    before, after = (small, large) if more_after else (large, small)
    return (before[0], before[1], after[0], after[1])


def with_ceil(size: Pair, w: Window) -> Window:
    """`w` with the padding after it that makes the output size round up, as ceil_mode = 1 says."""
    top, left, bottom, right = w.pad
    sides = ((top, bottom), (left, right))
    low, far = map(ceil_padding, size, sides, w.reach, w.stride)
    return Window(w.kernel, w.stride, w.dilation, (top, left, bottom + low, right + far))


def _pair(ctx: ImportContext, name: str, values: tuple[int, ...] | None, spatial: int) -> Pair:
    if values is None or len(values) != spatial:
        ctx.refuse(
            f"attribute {name} is {None if values is None else list(values)}",
            f"{spatial} integers are needed",
        )
    return (1, values[0]) if spatial == 1 else (values[0], values[1])
