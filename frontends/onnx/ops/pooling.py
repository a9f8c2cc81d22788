"""Poolings over windows and over whole images."""

from __future__ import annotations

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.ops.layout import from_image, image
from qir.frontends.onnx.ops.window import Window, kernel_of, window, with_ceil
from qir.ir import ops
from qir.ir.op import Value


def max_pool(at: Site) -> Value:
    """MaxPool: x (N, C, H, W), float or quantized."""
    x = at.value(0)
    y = image(at, x)
    win = _ceiled(at, y, _window(at, y, x.type.rank))
    out = at.emit(ops.MaxPool(y, win.kernel, win.stride, win.pad, win.dilation), "pool")
    return from_image(at, out, x.type.rank)


def average_pool(at: Site) -> Value:
    """AveragePool: x (N, C, H, W)."""
    return averaged(at, at.real(0))


def averaged(at: Site, x: Value) -> Value:
    """The average pooling of the node's attributes, as its result."""
    y = image(at, x)
    return from_image(at, _mean(at, y, x.type.rank), x.type.rank)


def _mean(at: Site, y: Value, rank: int) -> Value:
    """The pooled image: a count of all of a window, or of its elements that are not padding.

    The rows that ceil_mode adds are never counted, so padding that is counted becomes an op.
    """
    counts = bool(at.integer("count_include_pad", 0))
    bare = _window(at, y, rank)
    win = _ceiled(at, y, bare)
    sides = zip(win.pad, (*win.reach, *win.reach), strict=True)
    if counts and any(win.pad) and (win != bare or any(p >= r for p, r in sides)):
        top, left, bottom, right = bare.pad
        zeros = (0, 0, 0, 0)
        y = at.emit(
            ops.Pad(y, (0, top, left, 0), (0, bottom, right, 0), zeros, ops.PadMode.CONSTANT, 0.0),
            "pad",
        )
        rest = (0, 0, win.pad[2] - bottom, win.pad[3] - right)
        win, counts = Window(win.kernel, win.stride, win.dilation, rest), False
    pool = ops.AvgPool(y, win.kernel, win.stride, win.pad, win.dilation, counts or not any(win.pad))
    return at.emit(pool, "pool")


def lp_pool(at: Site) -> Value:
    """LpPool: y = (sum over the window of |x|**p)**(1/p)."""
    x, p = at.real(0), at.integer("p", 2)
    y = image(at, x)
    win = _ceiled(at, y, _window(at, y, x.type.rank))
    mean = at.emit(
        ops.AvgPool(_power(at, y, p), win.kernel, win.stride, win.pad, win.dilation, True), "mean"
    )
    total = at.emit(ops.Mul(mean, at.constant(win.kernel[0] * win.kernel[1], "count")), "sum")
    return from_image(at, _root(at, total, p), x.type.rank)


def global_lp_pool(at: Site) -> Value:
    """GlobalLpPool: y = (sum over all spatial axes of |x|**p)**(1/p)."""
    x, p = at.real(0), at.integer("p", 2)
    total = at.emit(ops.ReduceSum(_power(at, x, p), _spatial(at, x), True))
    return _root(at, total, p)


def global_average_pool(at: Site) -> Value:
    """GlobalAveragePool: the mean over all spatial axes."""
    x = at.real(0)
    return at.result(ops.ReduceMean(x, _spatial(at, x), True))


def global_max_pool(at: Site) -> Value:
    """GlobalMaxPool: the greatest over all spatial axes."""
    x = at.value(0)
    return at.result(ops.ReduceMax(x, _spatial(at, x), True))


def _window(at: Site, y: Value, rank: int) -> Window:
    size = (y.type.shape[1], y.type.shape[2])
    return window(at, size, kernel_of(at, rank - 2), rank - 2)


def _ceiled(at: Site, y: Value, win: Window) -> Window:
    if not at.integer("ceil_mode", 0):
        return win
    return with_ceil((y.type.shape[1], y.type.shape[2]), win)


def _spatial(at: Site, x: Value) -> tuple[int, ...]:
    if x.type.rank < 3:
        at.refuse(f"x is of rank {x.type.rank}", "rank 3 or more is needed")
    return tuple(range(2, x.type.rank))


def _power(at: Site, x: Value, p: int) -> Value:
    """|x|**p."""
    if p < 1:
        at.refuse(f"p = {p}", "at least 1 is needed")
    if p == 2:
        return at.emit(ops.Mul(x, x))
    positive = at.emit(ops.Abs(x))
    return positive if p == 1 else at.emit(ops.Pow(positive, at.constant(p, "p")))


def _root(at: Site, x: Value, p: int) -> Value:
    """x**(1/p), for x >= 0."""
    if p == 1:
        return x
    return at.result(ops.Sqrt(x)) if p == 2 else at.result(ops.Pow(x, at.constant(1 / p, "root")))
