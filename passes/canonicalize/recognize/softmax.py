"""Recognize softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.axes import inverse
from qir.ir.op import Op, Value
from qir.ir.ops import Div, Exp, Mul, Reciprocal, ReduceMax, ReduceSum, Softmax, Sub, Transpose
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeSoftmax(RewritePass):
    """e / sum(e), e = exp(x) or exp(x - max(x)), over one axis -> softmax(x)

    Over another axis than the last, between two transposes.
    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "recognize-softmax"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Div, Mul)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, (Div, Mul))
        e, total = op.a, at.producer(op.b)
        if isinstance(op, Mul):
            if not isinstance(total, Reciprocal):
                e, total = op.b, at.producer(op.a)
            if not isinstance(total, Reciprocal):
                return Miss("no factor is a reciprocal")
            total = at.producer(total.x)
        power = at.producer(e)
        if not isinstance(power, Exp) or not isinstance(total, ReduceSum) or total.x != e:
            return Miss("no exp over the sum of itself")
        if not total.keep or len(total.axes) != 1:
            return Miss(f"the sum goes over axes {list(total.axes)}, one kept axis is needed")
        x, axis, rank = without_max(at, power.x, total.axes), total.axes[0], e.type.rank
        if axis == rank - 1:
            return at.replace(Softmax(x), power)
        perm = (*(a for a in range(rank) if a != axis), axis)
        y = at.emit(Softmax(at.emit(Transpose(x, perm))))
        return at.replace(Transpose(y, inverse(perm)), power)


def without_max(at: Site, value: Value, axes: tuple[int, ...]) -> Value:
    """x, where value = x - max(x) over `axes`; else the value."""
    op = at.producer(value)
    if isinstance(op, Sub):
        greatest = at.producer(op.b)
        if isinstance(greatest, ReduceMax) and greatest.x == op.a and greatest.keep:
            return op.a if greatest.axes == axes else value
    return value
