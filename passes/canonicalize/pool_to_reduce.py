"""Convert an average over the whole plane to a reduction, and merge chains of reductions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import AvgPool, ReduceMean, Reshape
from qir.ir.ops.reduce import Reduce
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class PoolToReduce(RewritePass):
    """avg_pool whose one window is the whole plane -> reduce_mean over (1, 2)

    1. avg_pool (N, H, W, C), kernel (H, W), no padding -> reduce_mean, axes (1, 2), kept
    2. a reduction of a reduction of the same kind -> one over the axes of both
    3. reshape(reduction with kept axes) to the shape without them -> reduction without
    Keeps: reals within 1e-5 (summed in another order).
    """

    name: ClassVar[str] = "pool-to-reduce"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (AvgPool, Reshape, Reduce)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, AvgPool):
            if op.kernel != op.x.type.shape[1:3] or any(op.pad) or op.dilation != (1, 1):
                return Miss(f"kernel {op.kernel}, pad {op.pad}: the whole plane alone is needed")
            return at.replace(ReduceMean(op.x, (1, 2), True))
        if isinstance(op, Reshape):
            return without_kept(op, at)
        assert isinstance(op, Reduce)
        inner = at.producer(op.x)
        if not isinstance(inner, type(op)) or at.uses(op.x) != 1 or not inner.x.type.is_float:
            return Miss(
                "x does not come from a reduction of its kind, of floats, that only it reads"
            )
        if inner.keep != op.keep:
            return Miss("one keeps its axes and one drops them", inner.result.name)
        return at.replace(replace(op, x=inner.x, axes=all_axes(inner, op)), inner)


def all_axes(inner: Reduce, op: Reduce) -> tuple[int, ...]:
    """The axes of both, as axes of the inner operand."""
    rank = inner.x.type.rank
    remaining = [a for a in range(rank) if inner.keep or a not in inner.axes]
    return tuple(sorted({*inner.axes, *(remaining[a] for a in op.axes)}))


def without_kept(op: Reshape, at: Site) -> Value | Miss:
    inner = at.producer(op.x)
    if not isinstance(inner, Reduce) or not inner.keep or at.uses(op.x) != 1:
        return Miss("x does not come from a reduction with kept axes that only it reads")
    shape = tuple(s for a, s in enumerate(inner.x.type.shape) if a not in inner.axes)
    if shape != op.shape:
        return Miss(f"the shape is {list(op.shape)}, {list(shape)} is what it reduces to")
    return at.replace(replace(inner, keep=False), inner)
