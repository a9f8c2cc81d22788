"""Data movement, and the kernels that copy and fill."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels import move
from qir.backends.kernels.plane import Plane
from qir.backends.lowering.context import Call, Context, call
from qir.backends.lowering.layout import Root, interior, part, through
from qir.backends.lowering.place import Place
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Expand, Pad, PadMode, Reshape, Slice, Transpose

Move = tuple[Place, Place]


def moves(
    op: Op, place: Callable[[Value], Place], fresh: Callable[[Value], Place]
) -> list[Move] | None:
    """The (from, to) of an op that only moves elements, equal where none has to; None for others.

    `fresh` gives room for a packed copy of a value.
    """
    match op:
        case Concat():
            whole = place(op.result)
            return [(place(x), part(op, at, whole)) for at, x in enumerate(op.xs)]
        case Pad() if op.mode is PadMode.CONSTANT:
            return [(place(op.x), interior(op, place(op.result)))]
        case Reshape():
            return _reshaped(op, place(op.x), place(op.result), fresh)
        case Slice() | Transpose():
            view = through(op, place(op.x))
            assert view is not None
            return [(view, place(op.result))]
        case Expand():
            return [(place(op.x).broadcast(op.shape), place(op.result))]
    return None


def _reshaped(op: Reshape, x: Place, y: Place, fresh: Callable[[Value], Place]) -> list[Move]:
    there = x.reshaped(op.result.type.shape)
    if there is not None:
        return [(there, y)]
    back = y.reshaped(op.x.type.shape)
    if back is not None:
        return [(x, back)]
    between = fresh(op.x)  # gaps on both sides, where rows of one cross those of the other
    packed = between.reshaped(op.result.type.shape)
    assert packed is not None
    return [(x, between), (packed, y)]


def copied(x: Place, y: Place, context: Context) -> Call:
    """Every element of `x` to `y`."""
    return call(move.copy(x.view, y.view, context.features), {"x": x, "y": y}, "copy")


def framed(root: Root, context: Context) -> Call:
    """What is around the inside of a root gets its fill; all of it where the inside is no plane."""
    whole, inner = root.whole, root.inner
    assert whole is not None and inner is not None and root.fill is not None
    if (
        len(whole.shape) == 4
        and inner.strides == whole.strides
        and _same_ends(inner.shape, whole.shape)
    ):
        (n, h, w, c), (pitch_n, pitch_y, pitch_x, _) = inner.shape, whole.strides
        top, rest = divmod(inner.offset, pitch_y)
        left = rest // pitch_x
        pad = (top, left, whole.shape[1] - h - top, whole.shape[2] - w - left)
        plane = Plane(inner.dtype, n, h, w, c, pitch_n, pitch_y, pitch_x)
        kernel = move.frame(plane, pad, root.fill, context.features)
        return call(kernel, {"y": whole}, f"pad {list(pad)}")
    return call(move.fill(whole.view, root.fill, context.features), {"y": whole}, "all")


def _same_ends(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """As many images and channels."""
    return (a[0], a[-1]) == (b[0], b[-1])
