"""Booleans of the run: masks that the caller gives. They are floats 0 and 1 here."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand
from qir.ir import ops
from qir.ir.op import Value
from qir.ir.select import MASKED, as_floats, is_mask

HIDES = -9999.0  # a score of at most this, next to others, has no weight
NEEDED = "a mask that the caller gives is needed", "Clip, Max, Min or Where by a constant is near"


def bits(ctx: ImportContext, index: int) -> Value:
    """Operand `index`, a boolean, as floats."""
    x = ctx.operand(index)
    if isinstance(x, ConstantOperand):
        return ctx.constant(x.array.astype(np.float32), f"bits{index}")
    if x.type.is_float:
        return x
    if not is_mask(x, ctx.writer.builder.producer):
        ctx.refuse(f"input {index} is a condition on {x.type}", *NEEDED)
    return as_floats(ctx.emit, x)


def both(ctx: ImportContext) -> Value:
    """And: the product of 0 and 1."""
    return ctx.result(ops.Mul(bits(ctx, 0), bits(ctx, 1)))


def either(ctx: ImportContext) -> Value:
    """Or: the maximum of 0 and 1."""
    return ctx.result(ops.Maximum(bits(ctx, 0), bits(ctx, 1)))


def opposite(ctx: ImportContext) -> Value:
    """Not: 1 - x."""
    return ctx.result(ops.Sub(ctx.constant(1, "one"), bits(ctx, 0)))


def equal(ctx: ImportContext) -> Value:
    """Equal: of a mask and the constant 0 or 1."""
    side = 0 if isinstance(ctx.operand(0), Value) else 1
    number = ctx.scalar(1 - side, "what is compared")
    if number not in (0, 1):
        ctx.refuse(f"a comparison with {number}", "0 or 1, of a mask, is needed")
    x = ctx.operand(side)
    if not isinstance(x, Value) or not is_mask(x, ctx.writer.builder.producer):
        ctx.refuse("a comparison of values of the run", *NEEDED)
    found = as_floats(ctx.emit, x)
    return found if number else ctx.result(ops.Sub(ctx.constant(1, "one"), found))


def cast(ctx: ImportContext, x: Value, is_boolean: bool, is_real: bool) -> Value:
    """Integers of the run: ids stay, and those of masks become floats 0 and 1."""
    if is_boolean or is_real:
        if not is_mask(x, ctx.writer.builder.producer):
            ctx.refuse("ids as floats or booleans", "an input called mask is needed")
        return as_floats(ctx.emit, x)
    return x


def where(ctx: ImportContext) -> Value:
    """Where by a mask of the run: of constants, or of scores and what hides them from a Softmax."""
    shown = bits(ctx, 0)
    a, b = (ctx.operand(i) for i in (1, 2))
    if isinstance(a, ConstantOperand) and isinstance(b, ConstantOperand):
        one, other = (np.where(np.isneginf(x.array), MASKED, x.array) for x in (a, b))
        spread = ctx.emit(ops.Mul(shown, ctx.constant(one - other, "spread")))
        return ctx.result(ops.Add(spread, ctx.constant(other, "base")))
    low, x = (a, b) if isinstance(b, Value) else (b, a)
    hides = isinstance(low, ConstantOperand) and low.array.max() <= HIDES and ctx.feeds_softmax
    if not (hides and isinstance(x, Value)):
        ctx.refuse(
            "the condition (input 0) is computed at run time",
            "a constant is needed",
            "Clip, Max or Min is the nearest",
        )
    off = shown if low is a else ctx.emit(ops.Sub(ctx.constant(1, "one"), shown))
    hidden = ctx.emit(ops.Mul(off, ctx.constant(MASKED, "hidden")))
    return ctx.result(ops.Add(x, hidden))
