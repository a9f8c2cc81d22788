"""Softmax and LogSoftmax, along any axis and in their old flattening form."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from qir.frontends.onnx.context import ImportContext
from qir.ir import ops
from qir.ir.op import Op, Value


def softmax(ctx: ImportContext) -> Value:
    """Softmax: exp(x - max(x)) / sum(exp(x - max(x)))."""
    return along(ctx, ctx.real(0), ops.Softmax)


def log_softmax(ctx: ImportContext) -> Value:
    """LogSoftmax: d - log(sum(exp(d))) with d = x - max(x)."""

    def last(x: Value) -> Op:
        axis = (x.type.rank - 1,)
        d = ctx.emit(ops.Sub(x, ctx.emit(ops.ReduceMax(x, axis, True))))
        total = ctx.emit(ops.ReduceSum(ctx.emit(ops.Exp(d)), axis, True))
        return ops.Sub(d, ctx.emit(ops.Log(total)))

    return along(ctx, ctx.real(0), last)


def along(ctx: ImportContext, x: Value, last: Callable[[Value], Op]) -> Value:
    """`last`, a function along the last axis, of x along the node's own.

    Before opset 13 the node sees x as a matrix: the axes from `axis` on (1 by default) are one.
    """
    rank = x.type.rank
    if rank == 0:
        ctx.refuse("x is a scalar", "rank 1 or more is needed")
    axis = ctx.axis(ctx.integer("axis", 1 if ctx.opset < 13 else -1), rank)
    if axis == rank - 1:
        return ctx.result(last(x))
    if ctx.opset < 13:
        rows = (prod(x.type.shape[:axis]), prod(x.type.shape[axis:]))
        flat = ctx.emit(ops.Reshape(x, rows))
        return ctx.result(ops.Reshape(ctx.emit(last(flat)), x.type.shape))
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    transposed = ctx.emit(ops.Transpose(x, tuple(perm)))
    return ctx.result(ops.Transpose(ctx.emit(last(transposed)), tuple(perm)))
