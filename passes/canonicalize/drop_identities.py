"""Remove identity ops, and simplify near-identities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.fixed import Rounding
from qir.ir.op import Op, Value
from qir.ir.ops import (
    AvgPool,
    Concat,
    Dequantize,
    Gather,
    Pad,
    Quantize,
    Reshape,
    Slice,
    Transpose,
)
from qir.ir.ops.elementwise import Binary
from qir.ir.ops.pool import Pool
from qir.ir.ops.reduce import Reduce
from qir.ir.ops.shape import Move
from qir.ir.ops.unary import Clamp
from qir.ir.types import Quant
from qir.passes.canonicalize.layout.permutations import is_free
from qir.passes.canonicalize.real_range import real_range
from qir.passes.infra.constants import uniform
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class DropIdentities(RewritePass):
    """f(x) -> x, where f changes nothing

    1. x + 0, x - 0, x * 1, x / 1, x ** 1
    2. clip and relu over a range that x cannot leave
    3. a reshape, slice, gather, expand, pad, concat that returns x itself
    4. quantize(dequantize(x)) to x's own type, rounding to nearest
    5. a transpose that moves only axes of size 1, a reduction over such axes -> reshape
    6. a pooling with a 1x1 window -> x, or the slice of x that its stride takes
    Keeps: every bit, but for the sign of a zero: -0 + 0 is 0, and the -0 of x is what remains.
    """

    name: ClassVar[str] = "drop-identities"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (Binary, Move, Reduce, Pool, Clamp, Quantize)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, Binary):
            return neutral(op, at)
        if isinstance(op, Clamp):
            return clipped(op, at)
        if isinstance(op, Quantize):
            return stored_again(op, at)
        if isinstance(op, Pool):
            return small_window(op, at)
        if isinstance(op, Reduce):
            return small_axes(op, at)
        return no_move(op, at)


def neutral(op: Binary, at: Site) -> Value | Miss:
    if op.neutral is None:
        return Miss(f"{op.mnemonic} has no neutral constant")
    sides = [(op.a, op.b)] + ([(op.b, op.a)] if op.commutes else [])
    for x, c in sides:
        if uniform(at, c) == op.neutral and x.type == op.result.type:
            return x
    return Miss(f"no operand is {op.neutral:g} throughout")


def clipped(op: Clamp, at: Site) -> Value | Miss:
    low, high = op.limits
    least, greatest = real_range(at, op.x)
    if low <= least and greatest <= high:
        return op.x
    return Miss(f"x may reach [{least:g}, {greatest:g}], within [{low:g}, {high:g}] is needed")


def stored_again(op: Quantize, at: Site) -> Value | Miss:
    source = at.producer(op.x)
    if not isinstance(source, Dequantize):
        return Miss("x does not come from a dequantize")
    if op.rounding is Rounding.FLOOR:
        return Miss("rounding down may lose a step", source.result.name)
    elem = source.x.type.elem
    if elem != op.to:
        return Miss(f"x was dequantized from {elem}, {op.to} is wanted", source.result.name)
    if not is_exact(op.to):
        return Miss("its integers are not all exact in float32", source.result.name)
    return source.x


def is_exact(quant: Quant) -> bool:
    """Whether f32(f32(n * s) / s) rounds to n for every stored n: up to 2**22 steps, and no
    underflow.
    """
    reach = max(abs(quant.storage.min), quant.storage.max) * 2
    scale = np.asarray(quant.scale.array, np.float32)
    tiny = np.finfo(np.float32).tiny
    return reach < 1 << 22 and bool(np.all(scale > tiny) and np.all(scale * reach < np.inf))


def small_window(op: Pool, at: Site) -> Value | Miss:
    if op.kernel != (1, 1) or any(op.pad):
        return Miss(f"kernel {op.kernel}, pad {op.pad}: a window of one element is needed")
    if isinstance(op, AvgPool) and not op.x.type.is_float:
        return Miss("the average of stored integers has another type")
    if op.stride == (1, 1):
        return op.x
    return at.replace(Slice(op.x, (0,) * 4, op.x.type.shape, (1, *op.stride, 1)))


def small_axes(op: Reduce, at: Site) -> Value | Miss:
    if any(op.x.type.shape[a] != 1 for a in op.axes):
        return Miss("an axis longer than 1 is reduced")
    if op.result.type.elem != op.x.type.elem:
        return Miss("the sum of stored integers has another type")
    return at.replace(Reshape(op.x, op.result.type.shape))


def no_move(op: Op, at: Site) -> Value | Miss:
    x = op.operands[0]
    match op:
        case Transpose() if op.perm != tuple(range(len(op.perm))) and is_free(
            x.type.shape, op.perm
        ):
            return at.replace(Reshape(x, op.result.type.shape))
        case Transpose():
            is_identity = op.perm == tuple(range(len(op.perm)))
        case Pad():
            is_identity = not any((*op.before, *op.after)) and op.result.type == x.type
        case Gather():
            is_identity = op.result.type == x.type and np.array_equal(
                op.index.array, np.arange(x.type.shape[op.axis])
            )
        case Concat():
            operands = [v for v in op.xs if v.type.shape[op.axis]]
            if len(op.xs) > len(operands) > 0:
                return at.replace(replace(op, xs=tuple(operands)))
            is_identity = len(op.xs) == 1
        case _:
            is_identity = op.result.type == x.type
    return x if is_identity else Miss("it moves elements")
