"""Merge a chain of maximum, minimum, relu and clip into one clip or relu."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Clip, Maximum, Minimum, Relu
from qir.ir.ops.unary import Clamp
from qir.passes.infra.constants import split_constant, uniform
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeClip(RewritePass):
    """max(x, low), min(x, high), clips of clips -> clip(x, low, high); clip(x, 0, inf) -> relu(x)

    low and high are one number throughout. relu6 is clip(x, 0, 6).
    Keeps: every bit.
    """

    name: ClassVar[str] = "recognize-clip"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (Maximum, Minimum, Clamp)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        outer = ends(op, at)
        if outer is None:
            return Miss("neither operand is one number throughout")
        x, low, high = outer
        source = at.producer(x)
        inner = ends(source, at) if isinstance(source, Clamp) else None
        if inner is None and isinstance(op, Clamp) and (low, high) != (0.0, math.inf):
            return Miss("x does not come from a clip")
        if inner is None and isinstance(op, Relu):
            return Miss("x does not come from a clip")
        merged_ops: tuple[Op, ...] = ()
        if inner is not None and source is not None:
            x, below, above = inner
            low, high = min(max(low, below), high), max(min(high, above), low)
            merged_ops = (source,)
        new = Relu(x) if (low, high) == (0.0, math.inf) else Clip(x, low, high)
        return at.replace(new, *merged_ops)


def ends(op: Op | None, at: Site) -> tuple[Value, float, float] | None:
    """(x, low, high) of an op that clips x, else None."""
    if isinstance(op, Clamp):
        return op.x, *op.limits
    if isinstance(op, (Maximum, Minimum)) and (parts := split_constant(at, op)) is not None:
        x, _, first = parts
        c = uniform(at, op.b if first else op.a)
        if c is not None:
            return (x, c, math.inf) if isinstance(op, Maximum) else (x, -math.inf, c)
    return None
