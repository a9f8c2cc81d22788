"""Booleans of the run: masks that the caller gives, floats 0 and 1 here; comparisons of ids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from qir.frontends.torch.context import ImportContext, Number, Operand, axis_of
from qir.frontends.torch.table import Unsupported, imports
from qir.ir import select as ids
from qir.ir.op import Value
from qir.ir.ops import Add, Maximum, Mul, Sub
from qir.ir.select import MASKED

NEEDED = "relu, clamp, maximum or minimum, or a mask that the caller gives, is needed"


@imports("aten.__and__.Tensor", "aten.bitwise_and.Tensor", "aten.logical_and.default")
def conjunction(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """and -> mul of 0 and 1."""
    return ctx.add(Mul(*(checked(ctx, x) for x in (a, b))))


@imports("aten.__or__.Tensor", "aten.bitwise_or.Tensor", "aten.logical_or.default")
def disjunction(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """or -> maximum of 0 and 1."""
    return ctx.add(Maximum(*(checked(ctx, x) for x in (a, b))))


@imports("aten.bitwise_not.default", "aten.logical_not.default")
def opposite(ctx: ImportContext, x: Operand) -> Value:
    """not -> 1 - x; of a comparison of ids, the opposite one."""
    complement = ids.opposite(ctx.add, ctx.builder.producer, x) if isinstance(x, Value) else None
    return ctx.add(Sub(ctx.value(1.0), checked(ctx, x))) if complement is None else complement


@imports("aten.eq.Scalar")
def equal(ctx: ImportContext, x: Operand, number: Number) -> Value:
    """Of a mask: its bits, or the opposite; of ids, which of them are this one."""
    if ctx.is_mask(x) and number in (0, 1):
        return checked(ctx, x) if number else opposite(ctx, x)
    return compared(ctx, x, number, "eq")


@imports("aten.ne.Scalar")
def unequal(ctx: ImportContext, x: Operand, number: Number) -> Value:
    if ctx.is_mask(x) and number in (0, 1):
        return opposite(ctx, x) if number else checked(ctx, x)
    return compared(ctx, x, number, "ne")


def comparison(order: str) -> Callable[[ImportContext, Operand, Number], Value]:
    """The rule of an order of integers and a number."""

    def rule(ctx: ImportContext, x: Operand, number: Number) -> Value:
        return compared(ctx, x, number, order)

    return rule


for _order in ("gt", "ge", "lt", "le"):
    imports(f"aten.{_order}.Scalar")(comparison(_order))


def compared(ctx: ImportContext, x: Operand, number: Number, order: str) -> Value:
    """Integers of the run compared with a whole number: bits."""
    if not isinstance(x, Value) or not ids.is_integers(x):
        raise Unsupported("a condition on values of the run", NEEDED)
    if number != int(number):
        raise Unsupported(f"a comparison of integers with {number}", "a whole number is needed")
    return ctx.add(ids.COMPARISONS[order](x, int(number)))


@imports("aten.cumsum.default")
def cumsum(ctx: ImportContext, x: Operand, dim: int, *, dtype: object = None) -> Value:
    """Of a mask, along its last axis: positions of the tokens that count."""
    positions = None
    if isinstance(x, Value) and axis_of(dim, x.type.rank) == x.type.rank - 1:
        positions = ids.mask_positions(ctx.add, ctx.builder.producer, x)
    if positions is None:
        raise Unsupported("sums up to each element", "those of a mask, over tokens, are needed")
    return positions


def checked(ctx: ImportContext, x: Operand) -> Value:
    """A boolean as a float; another value of the run is refused."""
    if not ctx.is_mask(x):
        raise Unsupported("a condition on values of the run", NEEDED)
    return ctx.bits(x)


def select_constants(ctx: ImportContext, bits: Value, a: torch.Tensor, b: torch.Tensor) -> Value:
    """a where the bits are 1, else b, of constants; -inf is MASKED."""
    one, other = (np.where(np.isneginf(x), MASKED, x) for x in (reals(a), reals(b)))
    spread = ctx.add(Mul(bits, ctx.value(torch.from_numpy(np.asarray(one - other)))))
    return ctx.add(Add(spread, ctx.value(torch.from_numpy(np.asarray(other)))))


def hidden(ctx: ImportContext, bits: Value, x: Value) -> Value:
    """Scores less 1e9 where the bits are 1: what a softmax makes 0."""
    return ctx.add(Add(x, ctx.add(Mul(ctx.bits(bits), ctx.value(MASKED)))))


def reals(x: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return x.detach().float().numpy()
