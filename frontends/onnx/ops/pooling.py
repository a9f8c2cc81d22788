"""Poolings over windows and over whole images."""

from __future__ import annotations

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.ops.layout import from_image, image
from qir.frontends.onnx.ops.window import Window, kernel_of, window, with_ceil
from qir.ir import ops
from qir.ir.op import Value

MAX_READS = 1 << 25  # of all windows along one axis, which the rules of poolings look at


def max_pool(ctx: ImportContext) -> Value:
    """MaxPool: x (N, C, H, W), float or quantized."""
    x = ctx.value(0)
    y = image(ctx, x)
    win = _ceiled(ctx, y, _window(ctx, y, x.type.rank))
    out = ctx.emit(ops.MaxPool(y, win.kernel, win.stride, win.pad, win.dilation), "pool")
    return from_image(ctx, out, x.type.rank)


def average_pool(ctx: ImportContext) -> Value:
    """AveragePool: x (N, C, H, W)."""
    return averaged(ctx, ctx.real(0))


def averaged(ctx: ImportContext, x: Value) -> Value:
    """The average pooling of the node's attributes, as its result."""
    y = image(ctx, x)
    return from_image(ctx, _mean(ctx, y, x.type.rank), x.type.rank)


def _mean(ctx: ImportContext, y: Value, rank: int) -> Value:
    """The pooled image: a count of all of a window, or of its elements that are not padding.

    The rows that ceil_mode adds are never counted, so padding that is counted becomes an op.
    """
    counts = bool(ctx.integer("count_include_pad", 0))
    bare = _window(ctx, y, rank)
    win = _ceiled(ctx, y, bare)
    sides = zip(win.pad, (*win.reach, *win.reach), strict=True)
    if counts and any(win.pad) and (win != bare or any(p >= r for p, r in sides)):
        top, left, bottom, right = bare.pad
        zeros = (0, 0, 0, 0)
        y = ctx.emit(
            ops.Pad(y, (0, top, left, 0), (0, bottom, right, 0), zeros, ops.PadMode.CONSTANT, 0.0),
            "pad",
        )
        rest = (0, 0, win.pad[2] - bottom, win.pad[3] - right)
        win, counts = Window(win.kernel, win.stride, win.dilation, rest), False
    pool = ops.AvgPool(y, win.kernel, win.stride, win.pad, win.dilation, counts or not any(win.pad))
    return ctx.emit(pool, "pool")


def lp_pool(ctx: ImportContext) -> Value:
    """LpPool: y = (sum over the window of |x|**p)**(1/p)."""
    x, p = ctx.real(0), ctx.integer("p", 2)
    y = image(ctx, x)
    win = _ceiled(ctx, y, _window(ctx, y, x.type.rank))
    mean = ctx.emit(
        ops.AvgPool(_power(ctx, y, p), win.kernel, win.stride, win.pad, win.dilation, True), "mean"
    )
    total = ctx.emit(ops.Mul(mean, ctx.constant(win.kernel[0] * win.kernel[1], "count")), "sum")
    return from_image(ctx, _root(ctx, total, p), x.type.rank)


def global_lp_pool(ctx: ImportContext) -> Value:
    """GlobalLpPool: y = (sum over all spatial axes of |x|**p)**(1/p)."""
    x, p = ctx.real(0), ctx.integer("p", 2)
    total = ctx.emit(ops.ReduceSum(_power(ctx, x, p), _spatial(ctx, x), True))
    return _root(ctx, total, p)


def global_average_pool(ctx: ImportContext) -> Value:
    """GlobalAveragePool: the mean over all spatial axes."""
    x = ctx.real(0)
    return ctx.result(ops.ReduceMean(x, _spatial(ctx, x), True))


def global_max_pool(ctx: ImportContext) -> Value:
    """GlobalMaxPool: the greatest over all spatial axes."""
    x = ctx.value(0)
    return ctx.result(ops.ReduceMax(x, _spatial(ctx, x), True))


def _window(ctx: ImportContext, y: Value, rank: int) -> Window:
    size = (y.type.shape[1], y.type.shape[2])
    win = window(ctx, size, kernel_of(ctx, rank - 2), rank - 2)
    for k in (0, 1):
        padded = size[k] + win.pad[k] + win.pad[k + 2]
        if padded // win.stride[k] * win.kernel[k] > MAX_READS:
            ctx.refuse(
                f"a kernel of {win.kernel[k]} over {padded}",
                f"at most {MAX_READS} reads are needed",
            )
    return win


def _ceiled(ctx: ImportContext, y: Value, win: Window) -> Window:
    if not ctx.integer("ceil_mode", 0):
        return win
    return with_ceil((y.type.shape[1], y.type.shape[2]), win)


def _spatial(ctx: ImportContext, x: Value) -> tuple[int, ...]:
    if x.type.rank < 3:
        ctx.refuse(f"x is of rank {x.type.rank}", "rank 3 or more is needed")
    return tuple(range(2, x.type.rank))


def _power(ctx: ImportContext, x: Value, p: int) -> Value:
    """|x|**p."""
    if p < 1:
        ctx.refuse(f"p = {p}", "at least 1 is needed")
    if p == 2:
        return ctx.emit(ops.Mul(x, x))
    positive = ctx.emit(ops.Abs(x))
    return positive if p == 1 else ctx.emit(ops.Pow(positive, ctx.constant(p, "p")))


def _root(ctx: ImportContext, x: Value, p: int) -> Value:
    """x**(1/p), for x >= 0."""
    if p == 1:
        return x
    return (
        ctx.result(ops.Sqrt(x)) if p == 2 else ctx.result(ops.Pow(x, ctx.constant(1 / p, "root")))
    )
