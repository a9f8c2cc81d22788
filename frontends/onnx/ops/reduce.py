"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import Operand
from qir.ir import ops
from qir.ir.op import Op, Value

Converter = Callable[[Site], Operand]
Make = Callable[[Value, tuple[int, ...], bool], Op]


def reduction(make: Make, since: int) -> Converter:
    """A reduction whose axes are an attribute before opset `since`, then input 1."""

    def convert(at: Site) -> Operand:
        x = at.real(0)
        axes = reduced_axes(at, x, since)
        return x if axes is None else at.result(make(x, axes, keeps(at)))

    return convert


def reduced_axes(at: Site, x: Value, since: int) -> tuple[int, ...] | None:
    """The axes to reduce, by default all; None when empty axes mean nothing is to be done."""
    given = at.integers("axes") if at.opset < since else at.whole(1, "axes")
    if given:
        return at.axes(given, x.type.rank)
    if at.opset >= since and at.integer("noop_with_empty_axes", 0):
        return None
    return tuple(range(x.type.rank))


def keeps(at: Site) -> bool:
    return at.integer("keepdims", 1) == 1


reduce_mean = reduction(ops.ReduceMean, 18)
reduce_sum = reduction(ops.ReduceSum, 13)
reduce_max = reduction(ops.ReduceMax, 18)


def reduce_min(at: Site) -> Operand:
    """ReduceMin: -max(-x)."""
    x = at.real(0)
    axes = reduced_axes(at, x, 18)
    if axes is None:
        return x
    return at.result(ops.Neg(at.emit(ops.ReduceMax(at.emit(ops.Neg(x)), axes, keeps(at)))))


def reduce_of(
    before: Callable[[Site, Value], Value], after: Callable[[Value], Op] | None
) -> Converter:
    """after(sum(before(x))) over axes."""

    def convert(at: Site) -> Operand:
        x = at.real(0)
        axes = reduced_axes(at, x, 18)
        inner = before(at, x)
        if axes is not None:
            total = ops.ReduceSum(inner, axes, keeps(at))
            if after is None:
                return at.result(total)
            inner = at.emit(total)
        return inner if after is None else at.result(after(inner))

    return convert


reduce_l1 = reduce_of(lambda at, x: at.emit(ops.Abs(x)), None)
reduce_l2 = reduce_of(lambda at, x: at.emit(ops.Mul(x, x)), ops.Sqrt)
reduce_sum_square = reduce_of(lambda at, x: at.emit(ops.Mul(x, x)), None)
reduce_log_sum = reduce_of(lambda at, x: x, ops.Log)


def reduce_log_sum_exp(at: Site) -> Operand:
    """ReduceLogSumExp: log(sum(exp(x - m))) + m with m = max(x)."""
    x = at.real(0)
    axes = reduced_axes(at, x, 18)
    if axes is None:
        return x
    most = at.emit(ops.ReduceMax(x, axes, True))
    total = at.emit(ops.ReduceSum(at.emit(ops.Exp(at.emit(ops.Sub(x, most)))), axes, keeps(at)))
    offset = most if keeps(at) else at.emit(ops.ReduceMax(x, axes, False))
    return at.result(ops.Add(at.emit(ops.Log(total)), offset))
