"""Reductions over whole axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qir.frontends.torch.context import ImportContext, MissingResult, Number, Operand, axis_of
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Abs, Mul, Neg, ReduceMax, ReduceMean, ReduceSum, Sqrt, Sub

Dims = int | Sequence[int] | None
INDICES = MissingResult(
    "the indices of a maximum or minimum are read", "its values alone are needed"
)


def axes_of(x: Value, dim: Dims) -> tuple[int, ...]:
    """torch's `dim` as axes; none given means all."""
    dims = [dim] if isinstance(dim, int) else list(dim or range(x.type.rank))
    return tuple(sorted(axis_of(d, x.type.rank) for d in dims)) if x.type.rank else ()


@imports("aten.mean.default", "aten.mean.dim")
def mean(
    ctx: ImportContext, x: Operand, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    at = ctx.value(x)
    return ctx.add(ReduceMean(at, axes_of(at, dim), keepdim))


@imports("aten.sum.default", "aten.sum.dim_IntList")
def sum_(
    ctx: ImportContext, x: Operand, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None
) -> Value:
    at = ctx.value(x)
    return ctx.add(ReduceSum(at, axes_of(at, dim), keepdim))


@imports("aten.amax.default", "aten.max.default")
def amax(ctx: ImportContext, x: Operand, dim: Dims = None, keepdim: bool = False) -> Value:
    at = ctx.value(x)
    return ctx.add(ReduceMax(at, axes_of(at, dim), keepdim))


@imports("aten.amin.default", "aten.min.default")
def amin(ctx: ImportContext, x: Operand, dim: Dims = None, keepdim: bool = False) -> Value:
    """-max(-x)."""
    return ctx.add(Neg(amax(ctx, ctx.add(Neg(ctx.value(x))), dim, keepdim)))


@imports("aten.max.dim")
def max_dim(
    ctx: ImportContext, x: Operand, dim: int, keepdim: bool = False
) -> tuple[Operand, Operand]:
    return amax(ctx, x, dim, keepdim), INDICES


@imports("aten.min.dim")
def min_dim(
    ctx: ImportContext, x: Operand, dim: int, keepdim: bool = False
) -> tuple[Operand, Operand]:
    return amin(ctx, x, dim, keepdim), INDICES


@imports("aten.var.correction")
def var(
    ctx: ImportContext,
    x: Operand,
    dim: Dims = None,
    *,
    correction: Number | None = None,
    keepdim: bool = False,
) -> Value:
    """mean((x - mean(x))**2) * n / (n - correction), correction 1 by default."""
    at = ctx.value(x)
    axes = axes_of(at, dim)
    d = ctx.add(Sub(at, ctx.add(ReduceMean(at, axes, True))))
    y = ReduceMean(ctx.add(Mul(d, d)), axes, keepdim)
    free = y.count - (1 if correction is None else correction)
    if free <= 0:
        raise Unsupported(
            f"the variance of {y.count} elements", "more than the correction are needed"
        )
    mean_square = ctx.add(y)
    return mean_square if free == y.count else ctx.add(Mul(mean_square, ctx.value(y.count / free)))


@imports("aten.var.dim")
def var_dim(
    ctx: ImportContext, x: Operand, dim: Dims = None, unbiased: bool = True, keepdim: bool = False
) -> Value:
    return var(ctx, x, dim, correction=int(unbiased), keepdim=keepdim)


@imports("aten.std.correction")
def std(
    ctx: ImportContext,
    x: Operand,
    dim: Dims = None,
    *,
    correction: Number | None = None,
    keepdim: bool = False,
) -> Value:
    return ctx.add(Sqrt(var(ctx, x, dim, correction=correction, keepdim=keepdim)))


@imports("aten.std.dim")
def std_dim(
    ctx: ImportContext, x: Operand, dim: Dims = None, unbiased: bool = True, keepdim: bool = False
) -> Value:
    return std(ctx, x, dim, correction=int(unbiased), keepdim=keepdim)


@imports("aten.var_mean.correction")
def var_mean(
    ctx: ImportContext,
    x: Operand,
    dim: Dims = None,
    *,
    correction: Number | None = None,
    keepdim: bool = False,
) -> tuple[Value, Value]:
    return var(ctx, x, dim, correction=correction, keepdim=keepdim), mean(ctx, x, dim, keepdim)


@imports("aten.linalg_vector_norm.default")
def vector_norm(
    ctx: ImportContext,
    x: Operand,
    ord: Number = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Value:
    """The norm of order 2, 1 or infinity: sqrt(sum(x * x)), sum(|x|), max(|x|)."""
    at = ctx.value(x)
    match float(ord):
        case 2.0:
            return ctx.add(Sqrt(sum_(ctx, ctx.add(Mul(at, at)), dim, keepdim)))
        case 1.0:
            return sum_(ctx, ctx.add(Abs(at)), dim, keepdim)
        case norm if norm == float("inf"):
            return amax(ctx, ctx.add(Abs(at)), dim, keepdim)
        case other:
            raise Unsupported(f"a norm of order {other:g}", "order 1, 2 or inf is needed")


@imports("aten.norm.ScalarOpt_dim")
def norm(
    ctx: ImportContext, x: Operand, p: Number | None, dim: Dims, keepdim: bool = False
) -> Value:
    return vector_norm(ctx, x, 2 if p is None else p, dim, keepdim)


@imports("aten.norm.Scalar")
def norm_all(ctx: ImportContext, x: Operand, p: Number = 2) -> Value:
    return vector_norm(ctx, x, p)
