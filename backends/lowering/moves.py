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
    op: Op, place: Callable[[Value], Place], scratch: Callable[[Value], Place]
) -> list[Move] | None:
    """The (from, to) of an op that only moves elements, equal where none has to; None for others.

    `scratch` gives room for a packed copy of a value.
    """
    match op:
        case Concat():
            outer = place(op.result)
            return [(place(x), part(op, at, outer)) for at, x in enumerate(op.xs)]
        case Pad() if op.mode is PadMode.CONSTANT:
            return [(place(op.x), interior(op, place(op.result)))]
        case Reshape():
            return _reshaped(op, place(op.x), place(op.result), scratch)
        case Slice() | Transpose():
            view = through(op, place(op.x))
            assert view is not None
            return [(view, place(op.result))]
        case Expand():
            return [(place(op.x).broadcast(op.shape), place(op.result))]
    return None


def _reshaped(op: Reshape, x: Place, y: Place, scratch: Callable[[Value], Place]) -> list[Move]:
    view = x.reshaped(op.result.type.shape)
    if view is not None:
        return [(view, y)]
    back = y.reshaped(op.x.type.shape)
    if back is not None:
        return [(x, back)]
    between = scratch(op.x)  # gaps on both sides, where rows of one cross those of the other
    packed = between.reshaped(op.result.type.shape)
    assert packed is not None
    return [(x, between), (packed, y)]


def copied(x: Place, y: Place, context: Context) -> Call:
    """Every element of `x` to `y`."""
    return call(move.copy(x.view, y.view, context.features), {"x": x, "y": y}, "copy")


def framed(root: Root, context: Context) -> Call:
    """What is around the inside of a root gets its fill; all of it where the inside is no plane."""
    outer, inner = root.outer, root.inner
    assert outer is not None and inner is not None and root.fill is not None
    if (
        len(outer.shape) == 4
        and inner.strides == outer.strides
        and _same_ends(inner.shape, outer.shape)
    ):
        (n, h, w, c), (pitch_n, pitch_y, pitch_x, _) = inner.shape, outer.strides
        top, rest = divmod(inner.offset, pitch_y)
        left = rest // pitch_x
        pad = (top, left, outer.shape[1] - h - top, outer.shape[2] - w - left)
        plane = Plane(inner.dtype, n, h, w, c, pitch_n, pitch_y, pitch_x)
        kernel = move.frame(plane, pad, root.fill, context.features)
        return call(kernel, {"y": outer}, f"pad {list(pad)}")
    return call(move.fill(outer.view, root.fill, context.features), {"y": outer}, "all")


def _same_ends(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """As many images and channels."""
    return (a[0], a[-1]) == (b[0], b[-1])
