"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import Operand
from qir.ir import ops
from qir.ir.op import Op, Value

Converter = Callable[[ImportContext], Operand]
Make = Callable[[Value, tuple[int, ...], bool], Op]


def reduction(make: Make, since: int) -> Converter:
    """A reduction whose axes are an attribute before opset `since`, then input 1."""

    def convert(ctx: ImportContext) -> Operand:
        x = ctx.real(0)
        axes = reduced_axes(ctx, x, since)
        return x if axes is None else ctx.result(make(x, axes, keeps(ctx)))

    return convert


def reduced_axes(ctx: ImportContext, x: Value, since: int) -> tuple[int, ...] | None:
    """The axes to reduce, by default all; None when empty axes mean nothing is to be done."""
    axes = ctx.integers("axes") if ctx.opset < since else ctx.integer_list(1, "axes")
    if axes:
        return ctx.axes(axes, x.type.rank)
    if ctx.opset >= since and ctx.integer("noop_with_empty_axes", 0):
        return None
    return tuple(range(x.type.rank))


def keeps(ctx: ImportContext) -> bool:
    return ctx.integer("keepdims", 1) == 1


reduce_mean = reduction(ops.ReduceMean, 18)
reduce_sum = reduction(ops.ReduceSum, 13)
reduce_max = reduction(ops.ReduceMax, 18)


def reduce_min(ctx: ImportContext) -> Operand:
    """ReduceMin: -max(-x)."""
    x = ctx.real(0)
    axes = reduced_axes(ctx, x, 18)
    if axes is None:
        return x
    return ctx.result(ops.Neg(ctx.emit(ops.ReduceMax(ctx.emit(ops.Neg(x)), axes, keeps(ctx)))))


def reduce_of(
    before: Callable[[ImportContext, Value], Value], after: Callable[[Value], Op] | None
) -> Converter:
    """after(sum(before(x))) over axes."""

    def convert(ctx: ImportContext) -> Operand:
        x = ctx.real(0)
        axes = reduced_axes(ctx, x, 18)
        inner = before(ctx, x)
        if axes is not None:
            total = ops.ReduceSum(inner, axes, keeps(ctx))
            if after is None:
                return ctx.result(total)
            inner = ctx.emit(total)
        return inner if after is None else ctx.result(after(inner))

    return convert


reduce_l1 = reduce_of(lambda ctx, x: ctx.emit(ops.Abs(x)), None)
reduce_l2 = reduce_of(lambda ctx, x: ctx.emit(ops.Mul(x, x)), ops.Sqrt)
reduce_sum_square = reduce_of(lambda ctx, x: ctx.emit(ops.Mul(x, x)), None)
reduce_log_sum = reduce_of(lambda ctx, x: x, ops.Log)


def reduce_log_sum_exp(ctx: ImportContext) -> Operand:
    """ReduceLogSumExp: log(sum(exp(x - m))) + m with m = max(x)."""
    x = ctx.real(0)
    axes = reduced_axes(ctx, x, 18)
    if axes is None:
        return x
    most = ctx.emit(ops.ReduceMax(x, axes, True))
    total = ctx.emit(ops.ReduceSum(ctx.emit(ops.Exp(ctx.emit(ops.Sub(x, most)))), axes, keeps(ctx)))
    offset = most if keeps(ctx) else ctx.emit(ops.ReduceMax(x, axes, False))
    return ctx.result(ops.Add(ctx.emit(ops.Log(total)), offset))
