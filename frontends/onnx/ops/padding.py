"""Pad: padding of each axis; negative pads crop it."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import MAX_TAPS, ImportContext
from qir.frontends.onnx.operands import Operand
from qir.frontends.onnx.read.budget import MAX_ELEMENTS
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.types import Quant

Sides = tuple[tuple[int, ...], tuple[int, ...]]


def pad(ctx: ImportContext) -> Operand:
    """Pad: pads and value as attributes before opset 11, then as inputs; axes since opset 18."""
    x = ctx.value(0)
    before, after = _sides(ctx, x.type.rank)
    mode = ctx.text("mode", "constant")
    x = _cut(ctx, x, before, after)
    before, after = (tuple(max(p, 0) for p in side) for side in (before, after))
    if not any(before + after):
        return x
    match mode:
        case "constant":
            return ctx.result(_pad(x, before, after, ops.PadMode.CONSTANT, _fill(ctx, x)))
        case "reflect" if all(
            max(b, a) < s for b, a, s in zip(before, after, x.type.shape, strict=True)
        ):
            return ctx.result(_pad(x, before, after, ops.PadMode.REFLECT, 0.0))
        case "edge":
            return ctx.result(_pad(x, before, after, ops.PadMode.EDGE, 0.0))
        case "reflect" | "wrap":
            return _gathered(ctx, x, before, after, mode)
    return ctx.refuse(f"mode {mode!r}", "constant, reflect, edge or wrap is needed")


def _pad(
    x: Value, before: tuple[int, ...], after: tuple[int, ...], mode: ops.PadMode, value: float
) -> ops.Pad:
    return ops.Pad(x, before, after, (0,) * len(before), mode, value)


def _sides(ctx: ImportContext, rank: int) -> Sides:
    """(before, after), one number for each axis."""
    pads = ctx.integers("pads") if ctx.opset < 11 else ctx.integer_list(1, "pads")
    axes = ctx.integer_list(3, "axes") if ctx.opset >= 18 else None
    over = tuple(range(rank)) if axes is None else ctx.axes(axes, rank)
    if pads is None or len(pads) != 2 * len(over):
        ctx.refuse(f"pads {pads}", f"{2 * len(over)} integers are needed")
    before, after = [0] * rank, [0] * rank
    for k, axis in enumerate(over):
        before[axis], after[axis] = pads[k], pads[k + len(over)]
    if max(map(abs, pads), default=0) > MAX_ELEMENTS:
        ctx.refuse(f"pads {list(pads)}", f"at most {MAX_ELEMENTS} each are needed")
    return tuple(before), tuple(after)


def _fill(ctx: ImportContext, x: Value) -> float:
    """The value of constant padding; on stored integers it must be the zero point, qir's 0."""
    if ctx.opset < 11:
        value = ctx.number("value", 0.0)
    else:
        fill = ctx.scalar(2, "constant_value")
        value = 0.0 if fill is None else fill
    if isinstance(x.type.elem, Quant):
        zero = int(x.type.quant.zero_point.array.reshape(-1)[0])
        if value != zero:
            ctx.refuse(f"stored {value} around quantized x", f"its zero point {zero} is needed")
        return 0.0
    if not np.isfinite(value):
        ctx.refuse(f"constant_value {value}", "a finite number is needed")
    return value


def _cut(ctx: ImportContext, x: Value, before: tuple[int, ...], after: tuple[int, ...]) -> Value:
    """x cropped by negative pads."""
    if min((*before, *after), default=0) >= 0:
        return x
    start = tuple(max(-b, 0) for b in before)
    stop = tuple(s - max(-a, 0) for s, a in zip(x.type.shape, after, strict=True))
    return ctx.emit(ops.Slice(x, start, stop, (1,) * x.type.rank))


def _gathered(
    ctx: ImportContext, x: Value, before: tuple[int, ...], after: tuple[int, ...], mode: str
) -> Value:
    """Padding by copies of elements of x, one gather for each axis."""
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            size = x.type.shape[axis]
            if size + b + a > MAX_TAPS:
                ctx.refuse(f"pads {b}, {a} of {size}", f"at most {MAX_TAPS} elements are needed")
            index = np.pad(np.arange(size), (b, a), mode=mode)  # type: ignore[call-overload]
            x = ctx.emit(ops.Gather(x, Data(index.astype(np.int64)), axis))
    return x
