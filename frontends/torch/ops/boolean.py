"""Booleans of the run: masks that the caller gives. They are floats 0 and 1 here."""

from __future__ import annotations

import numpy as np
import torch

from qir.frontends.torch.context import ImportContext, Number, Operand
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, Maximum, Mul, Sub
from qir.ir.select import MASKED


@imports("aten.__and__.Tensor", "aten.bitwise_and.Tensor", "aten.logical_and.default")
def both(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """and -> mul of 0 and 1."""
    return ctx.add(Mul(*(checked(ctx, x) for x in (a, b))))


@imports("aten.__or__.Tensor", "aten.bitwise_or.Tensor", "aten.logical_or.default")
def either(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """or -> maximum of 0 and 1."""
    return ctx.add(Maximum(*(checked(ctx, x) for x in (a, b))))


@imports("aten.bitwise_not.default", "aten.logical_not.default")
def opposite(ctx: ImportContext, x: Operand) -> Value:
    """not -> 1 - x."""
    return ctx.add(Sub(ctx.value(1.0), checked(ctx, x)))


@imports("aten.eq.Scalar")
def equal(ctx: ImportContext, x: Operand, number: Number) -> Value:
    """A boolean, or an integer of a mask, that is 0, or 1."""
    if number not in (0, 1):
        raise Unsupported(f"a comparison with {number}", "0 or 1, of a mask, is needed")
    return checked(ctx, x) if number else opposite(ctx, x)


@imports("aten.ne.Scalar")
def unequal(ctx: ImportContext, x: Operand, number: Number) -> Value:
    if number not in (0, 1):
        raise Unsupported(f"a comparison with {number}", "0 or 1, of a mask, is needed")
    return opposite(ctx, x) if number else checked(ctx, x)


def checked(ctx: ImportContext, x: Operand) -> Value:
    """A boolean as a float; another value of the run is refused."""
    if not ctx.is_mask(x):
        raise Unsupported(
            "a condition on values of the run", "relu, clamp, maximum or minimum, or a mask that"
            " the caller gives, is needed",
        )  # fmt: skip
    return ctx.bits(x)


def chosen(ctx: ImportContext, bits: Value, a: torch.Tensor, b: torch.Tensor) -> Value:
    """a where the bits are 1, else b, of constants; -inf is MASKED."""
    one, other = (np.where(np.isneginf(x), MASKED, x) for x in (reals(a), reals(b)))
    spread = ctx.add(Mul(bits, ctx.value(torch.from_numpy(np.asarray(one - other)))))
    return ctx.add(Add(spread, ctx.value(torch.from_numpy(np.asarray(other)))))


def hidden(ctx: ImportContext, bits: Value, x: Value) -> Value:
    """Scores less 1e9 where the bits are 1: what a softmax makes 0."""
    return ctx.add(Add(x, ctx.add(Mul(bits, ctx.value(MASKED)))))


def reals(x: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return x.detach().float().numpy()
