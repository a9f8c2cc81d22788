"""Softmax and LogSoftmax, along any axis and in their old flattening form."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from qir.frontends.onnx.context import Site
from qir.ir import ops
from qir.ir.op import Op, Value


def softmax(at: Site) -> Value:
    """Softmax: exp(x - max(x)) / sum(exp(x - max(x)))."""
    return along(at, at.real(0), ops.Softmax)


def log_softmax(at: Site) -> Value:
    """LogSoftmax: d - log(sum(exp(d))) with d = x - max(x)."""

    def last(x: Value) -> Op:
        axis = (x.type.rank - 1,)
        d = at.emit(ops.Sub(x, at.emit(ops.ReduceMax(x, axis, True))))
        total = at.emit(ops.ReduceSum(at.emit(ops.Exp(d)), axis, True))
        return ops.Sub(d, at.emit(ops.Log(total)))

    return along(at, at.real(0), last)


def along(at: Site, x: Value, last: Callable[[Value], Op]) -> Value:
    """`last`, a function along the last axis, of x along the node's own.

    Before opset 13 the node sees x as a matrix: the axes from `axis` on (1 by default) are one.
    """
    rank = x.type.rank
    if rank == 0:
        at.refuse("x is a scalar", "rank 1 or more is needed")
    axis = at.axis(at.integer("axis", 1 if at.opset < 13 else -1), rank)
    if axis == rank - 1:
        return at.result(last(x))
    if at.opset < 13:
        rows = (prod(x.type.shape[:axis]), prod(x.type.shape[axis:]))
        flat = at.emit(ops.Reshape(x, rows))
        return at.result(ops.Reshape(at.emit(last(flat)), x.type.shape))
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    turned = at.emit(ops.Transpose(x, tuple(perm)))
    return at.result(ops.Transpose(at.emit(last(turned)), tuple(perm)))
