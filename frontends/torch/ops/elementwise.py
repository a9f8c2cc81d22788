"""Arithmetic of two operands, each a tensor or a number, broadcast."""

from __future__ import annotations

import math

import numpy as np
import torch

from qir.frontends.torch.context import Complex, ImportContext, Number, Operand
from qir.frontends.torch.ops.boolean import checked, hidden, opposite, select_constants
from qir.frontends.torch.ops.complex import product
from qir.frontends.torch.table import Unsupported, imports
from qir.ir import select as ids
from qir.ir.op import Value
from qir.ir.ops import Add, Div, Maximum, Minimum, Mul, Pow, Reciprocal, Rsqrt, Sqrt, Sub
from qir.ir.select import MASKED, select
from qir.ir.types import Array

HIDES = -9999.0  # a score of at most this, next to others, has no weight
OperandOrNumber = Operand | Number


@imports("aten.add.Tensor", "aten.add.Scalar")
def add(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber, alpha: Number = 1) -> Value:
    """a + alpha * b; a constant mask of -inf before a softmax becomes a finite one."""
    if (result := positions(ctx, a, b, alpha)) is not None:
        return result
    if alpha == 1:
        a, b = softmax_mask(ctx, a), softmax_mask(ctx, b)
    return ctx.add(Add(ctx.value(a), scaled(ctx, b, alpha)))


def positions(
    ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber, alpha: Number
) -> Value | None:
    """a + alpha * b of positions of tokens and a whole number; None for other values."""
    by = b.item() if isinstance(b, torch.Tensor) and b.numel() == 1 else b
    if not isinstance(a, Value) or not isinstance(by, (int, float)) or by * alpha % 1:
        return None
    return ids.shifted_positions(ctx.add, ctx.builder.producer, a, int(by * alpha))


@imports("aten.sub.Tensor", "aten.sub.Scalar")
def sub(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber, alpha: Number = 1) -> Value:
    """a - alpha * b."""
    if (result := positions(ctx, a, b, -alpha)) is not None:
        return result
    return ctx.add(Sub(ctx.value(a), scaled(ctx, b, alpha)))


@imports("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber, alpha: Number = 1) -> Value:
    """b - alpha * a."""
    return sub(ctx, b, a, alpha)


@imports("aten.mul.Tensor", "aten.mul.Scalar")
def mul(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value | Complex:
    """a * b; of positions of tokens, by which of them count."""
    if isinstance(a, Complex) or isinstance(b, Complex):
        return product(ctx, a, b)
    return times(ctx, a, b)


def times(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    result = None
    if isinstance(a, Value) and isinstance(b, Value):
        result = ids.masked_positions(ctx.add, ctx.builder.producer, a, b)
    return result or ctx.add(Mul(ctx.value(a), ctx.value(b)))


@imports("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    return ctx.add(Div(ctx.value(a), ctx.value(b)))


@imports("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(
    ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber, *, rounding_mode: str | None
) -> Value:
    if rounding_mode is not None:
        raise Unsupported(f"div with rounding_mode={rounding_mode!r}", "div without one is needed")
    return div(ctx, a, b)


@imports("aten.maximum.default", "aten.max.other", "aten.clamp_min.Tensor")
def maximum(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    return ctx.add(Maximum(ctx.value(a), ctx.value(b)))


@imports("aten.minimum.default", "aten.min.other", "aten.clamp_max.Tensor")
def minimum(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    return ctx.add(Minimum(ctx.value(a), ctx.value(b)))


@imports("aten.clamp.Tensor")
def clamp_tensor(
    ctx: ImportContext, x: Operand, min: Operand | None = None, max: Operand | None = None
) -> Value:
    y = ctx.value(x)
    if min is not None:
        y = maximum(ctx, y, min)
    return y if max is None else minimum(ctx, y, max)


@imports("aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def power(ctx: ImportContext, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    return ctx.add(Pow(ctx.value(a), ctx.value(b)))


@imports("aten.pow.Tensor_Scalar")
def power_scalar(ctx: ImportContext, x: Operand, exponent: Number) -> Value:
    """x ** e: mul for 2, sqrt, rsqrt and reciprocal for 0.5, -0.5 and -1, else pow."""
    at = ctx.value(x)
    match float(exponent):
        case 1.0:
            return at
        case 2.0:
            return ctx.add(Mul(at, at))
        case 0.5:
            return ctx.add(Sqrt(at))
        case -0.5:
            return ctx.add(Rsqrt(at))
        case -1.0:
            return ctx.add(Reciprocal(at))
        case other:
            return ctx.add(Pow(at, ctx.value(other)))


@imports("aten.square.default")
def square(ctx: ImportContext, x: Operand) -> Value:
    return power_scalar(ctx, x, 2)


@imports("aten.addcmul.default")
def addcmul(ctx: ImportContext, x: Operand, a: Operand, b: Operand, *, value: Number = 1) -> Value:
    """x + value * a * b."""
    return add(ctx, x, times(ctx, a, b), value)


@imports("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(ctx: ImportContext, a: Operand, b: Operand, weight: OperandOrNumber) -> Value:
    """a + weight * (b - a)."""
    return add(ctx, a, times(ctx, sub(ctx, b, a), weight))


@imports("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def where(ctx: ImportContext, condition: Operand, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    """a where a constant condition holds, else b: a gather from both, exact for infinities too.

    By a mask of the run, constants alone, and scores that it hides from a softmax.
    """
    if isinstance(condition, Value):
        return masked(ctx, condition, a, b)
    mask = ctx.constant(condition, "the condition of a where").bool().cpu().numpy()
    if (filled := under_mask(ctx, mask, a, b)) is not None:
        return filled
    left, right = (ctx.value(softmax_mask(ctx, x)) for x in (a, b))
    return select(ctx.add, mask, left, right)


def under_mask(
    ctx: ImportContext, mask: Array, a: OperandOrNumber, b: OperandOrNumber
) -> Value | None:
    """Scores of a softmax that a constant mask fills with a low number: MASKED is added to them.
    None for other values, and where a row would be filled altogether.
    """
    hides = isinstance(a, (int, float)) and a <= HIDES and isinstance(b, Value)
    if not (ctx.feeds_softmax and hides and mask.ndim) or mask.all(-1).any():
        return None
    return ctx.add(Add(ctx.value(b), ctx.value(torch.from_numpy(np.where(mask, MASKED, 0.0)))))


def masked(ctx: ImportContext, condition: Value, a: OperandOrNumber, b: OperandOrNumber) -> Value:
    """a where a mask of the run holds, else b."""
    bits = checked(ctx, condition)
    if not isinstance(a, Value) and not isinstance(b, Value):
        branches = (ctx.constant(x, "a branch of a where") for x in (a, b))
        return select_constants(ctx, bits, *branches)
    low, scores = (a, b) if isinstance(b, Value) else (b, a)
    if ctx.feeds_softmax and not isinstance(low, Value) and isinstance(scores, Value):
        number = ctx.constant(low, "what hides scores")
        if float(number.max()) <= HIDES:
            return hidden(ctx, bits if low is a else opposite(ctx, condition), scores)
    raise Unsupported("a choice between values of the run", "constants, or one of -inf, are needed")


def softmax_mask(ctx: ImportContext, x: OperandOrNumber) -> OperandOrNumber:
    """x with MASKED for -inf where softmaxes alone read the result; else as it is."""
    if not ctx.feeds_softmax:
        return x
    if isinstance(x, torch.Tensor):
        return torch.where(torch.isneginf(x), MASKED, x) if torch.isneginf(x).any() else x
    return MASKED if isinstance(x, (int, float)) and x == -math.inf else x


@imports("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(ctx: ImportContext, x: Operand, mask: Operand, value: OperandOrNumber) -> Value:
    return where(ctx, mask, value, x)


def scaled(ctx: ImportContext, x: OperandOrNumber, alpha: Number) -> Value:
    """alpha * x, without an op for 1 or for numbers."""
    if alpha == 1:
        return ctx.value(x)
    if isinstance(x, (int, float)):
        return ctx.value(x * alpha)
    return ctx.add(Mul(ctx.value(x), ctx.value(alpha)))
