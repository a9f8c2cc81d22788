"""Booleans of the run: masks that the caller gives, floats 0 and 1 here; comparisons of ids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand
from qir.ir import ops, select
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


def conjunction(ctx: ImportContext) -> Value:
    """And: the product of 0 and 1."""
    return ctx.result(ops.Mul(bits(ctx, 0), bits(ctx, 1)))


def disjunction(ctx: ImportContext) -> Value:
    """Or: the maximum of 0 and 1."""
    return ctx.result(ops.Maximum(bits(ctx, 0), bits(ctx, 1)))


def opposite(ctx: ImportContext) -> Value:
    """Not: 1 - x; of a comparison of ids, the opposite one."""
    x = ctx.operand(0)
    if isinstance(x, Value):
        complement = select.opposite(ctx.result, ctx.writer.builder.producer, x)
        if complement is not None:
            return complement
    return ctx.result(ops.Sub(ctx.constant(1, "one"), bits(ctx, 0)))


def comparison(order: str, mirror: str) -> Callable[[ImportContext], Value]:
    """Integers of the run and a number, or, by `mirror`, a number and integers: bits. Of a mask
    that is compared with 0 or 1: its floats, or 1 less them.
    """

    def convert(ctx: ImportContext) -> Value:
        side = 0 if isinstance(ctx.operand(0), Value) else 1
        number = ctx.scalar(1 - side, "what is compared")
        x = ctx.operand(side)
        if not isinstance(x, Value) or not select.is_integers(x) or number is None:
            ctx.refuse("a comparison of values of the run", *NEEDED)
        if number % 1:
            ctx.refuse(f"a comparison of integers with {number}", "a whole number is needed")
        if order == "eq" and number in (0, 1) and is_mask(x, ctx.writer.builder.producer):
            mask = as_floats(ctx.emit, x)
            return mask if number else ctx.result(ops.Sub(ctx.constant(1, "one"), mask))
        return ctx.result(select.COMPARISONS[mirror if side else order](x, int(number)))

    return convert


def mask_positions(ctx: ImportContext) -> Value:
    """CumSum of a mask along its last axis: positions of the tokens that count."""
    x, axis = ctx.operand(0), ctx.scalar(1, "the axis")
    positions = None
    if isinstance(x, Value) and axis in (-1, x.type.rank - 1) and not _is_other_sum(ctx):
        positions = select.mask_positions(ctx.emit, ctx.writer.builder.producer, x)
    if positions is None:
        ctx.refuse("sums up to each element", "those of a mask, over tokens, are needed")
    return positions


def _is_other_sum(ctx: ImportContext) -> bool:
    return bool(ctx.integer("exclusive", 0) or ctx.integer("reverse", 0))


def shifted_positions(ctx: ImportContext, sign: int) -> Value | None:
    """Add, or Sub, of positions of tokens and a whole number; None for other values."""
    sides = (0, 1) if sign > 0 else (0,)
    for side in sides:
        x, by = ctx.operand(side), ctx.operand(1 - side)
        if isinstance(x, Value) and isinstance(by, ConstantOperand) and by.array.size == 1:
            number = sign * by.array.reshape(-1)[0].item()
            if number % 1 == 0:
                producer = ctx.writer.builder.producer
                return select.shifted_positions(ctx.emit, producer, x, int(number))
    return None


def masked_positions(ctx: ImportContext) -> Value | None:
    """Mul of positions of tokens and of which count; None for other values."""
    a, b = ctx.operand(0), ctx.operand(1)
    if not isinstance(a, Value) or not isinstance(b, Value):
        return None
    return select.masked_positions(ctx.emit, ctx.writer.builder.producer, a, b)


def cast(ctx: ImportContext, x: Value, is_boolean: bool, is_real: bool) -> Value:
    """Integers of the run: ids stay, as booleans what is not 0, and those of masks become floats 0
    and 1.
    """
    is_known = is_mask(x, ctx.writer.builder.producer)
    if is_known and (is_boolean or is_real):
        return as_floats(ctx.emit, x)
    if is_boolean:
        return ctx.result(select.COMPARISONS["ne"](x, 0))
    if is_real:
        ctx.refuse("ids as floats", "an input called mask is needed")
    return x


def where(ctx: ImportContext) -> Value:
    """Where by a mask of the run: of constants, or of scores and what hides them from a Softmax."""
    mask = bits(ctx, 0)
    a, b = (ctx.operand(i) for i in (1, 2))
    if isinstance(a, ConstantOperand) and isinstance(b, ConstantOperand):
        one, other = (np.where(np.isneginf(x.array), MASKED, x.array) for x in (a, b))
        spread = ctx.emit(ops.Mul(mask, ctx.constant(one - other, "spread")))
        return ctx.result(ops.Add(spread, ctx.constant(other, "base")))
    low, x = (a, b) if isinstance(b, Value) else (b, a)
    hides = isinstance(low, ConstantOperand) and low.array.max() <= HIDES and ctx.feeds_softmax
    if not (hides and isinstance(x, Value)):
        ctx.refuse(
            "the condition (input 0) is computed at run time",
            "a constant is needed",
            "Clip, Max or Min is the nearest",
        )
    off = mask if low is a else ctx.emit(ops.Sub(ctx.constant(1, "one"), mask))
    hidden = ctx.emit(ops.Mul(off, ctx.constant(MASKED, "hidden")))
    return ctx.result(ops.Add(x, hidden))
