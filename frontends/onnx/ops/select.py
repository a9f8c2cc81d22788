"""Where by constant conditions, and the checks for NaN that exporters write behind a softmax."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.frontends.onnx.ops import boolean
from qir.ir.op import Value
from qir.ir.ops import Softmax
from qir.ir.select import MASKED, select


def where(ctx: ImportContext) -> Operand:
    """Where: a constant condition takes elements of either, infinite ones too."""
    operand = ctx.operand(0)
    if isinstance(operand, Value):
        return boolean.where(ctx)
    condition = operand.array.astype(bool)
    if not condition.any() and _covers(ctx, 2, 1, condition.shape):
        return ctx.operand(2)
    if condition.all() and _covers(ctx, 1, 2, condition.shape):
        return ctx.operand(1)
    a, b = (ctx.valued_real(_filled(ctx, k)) for k in (1, 2))
    return select(ctx.emit, condition, a, b)


def _filled(ctx: ImportContext, index: int) -> Operand:
    """A branch; one number of -inf before a Softmax is MASKED."""
    x = ctx.operand(index)
    if isinstance(x, Value) or x.array.size != 1 or not ctx.feeds_softmax:
        return x
    hidden = x.array.dtype.kind == "f" and np.isneginf(x.array).all()
    return ConstantOperand(np.full(x.shape, MASKED, np.float32), x.name) if hidden else x


def _covers(ctx: ImportContext, index: int, other: int, condition: tuple[int, ...]) -> bool:
    """Whether operand `index` has the shape of the result already."""
    shapes = (shape_of(ctx.operand(k)) for k in (index, other))
    return np.broadcast_shapes(*shapes, condition) == shape_of(ctx.operand(index))


def is_nan(ctx: ImportContext) -> Operand:
    """IsNaN of a softmax: false, for a softmax of finite scores has none."""
    x = ctx.operand(0)
    if not isinstance(x, Value) or not isinstance(ctx.writer.builder.producer(x), Softmax):
        ctx.refuse("IsNaN of values of the run", "IsNaN behind a Softmax, or none, is needed")
    return ConstantOperand(np.broadcast_to(np.False_, x.type.shape), ctx.outputs[0])
