"""Matrix products."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, as_float, shape_of
from qir.ir import ops
from qir.ir.op import Value


def matmul(ctx: ImportContext) -> Value:
    """MatMul: NumPy's matmul; by a constant matrix it is linear."""
    return multiplied(ctx, ctx.operand(0), ctx.operand(1))


def multiplied(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """a @ b as the node's result; operands of rank 1 gain an axis that the result loses."""
    if isinstance(b, ConstantOperand) and len(b.shape) == 2:
        return ctx.result(
            ops.Linear(ctx.valued_real(a), ctx.valued_real(b.transposed((1, 0))), None)
        )
    row, column = len(shape_of(a)) == 1, len(shape_of(b)) == 1
    if row:
        a = ctx.reshaped(a, (1, *shape_of(a)))
    if column:
        b = ctx.reshaped(b, (*shape_of(b), 1))
    product = ops.MatMul(ctx.valued_real(a), ctx.valued_real(b))
    if not (row or column):
        return ctx.result(product)
    wide = ctx.emit(product)
    batch, (m, n) = wide.type.shape[:-2], wide.type.shape[-2:]
    return ctx.result(ops.Reshape(wide, (*batch, *([] if row else [m]), *([] if column else [n]))))


def gemm(ctx: ImportContext) -> Value:
    """Gemm: alpha * A' @ B' + beta * C, as linear with weights B' turned, and C as its bias."""
    a, b = ctx.operand(0), ctx.operand(1)
    c = ctx.operand(2) if ctx.has(2) else None
    return affine(ctx, a, b, c)


def affine(ctx: ImportContext, a: Operand, b: Operand, c: Operand | None) -> Value:
    """The Gemm of the node's attributes, as its result."""
    if len(shape_of(a)) != 2 or len(shape_of(b)) != 2:
        ctx.refuse(f"A is {list(shape_of(a))}, B is {list(shape_of(b))}", "matrices are needed")
    if ctx.integer("transA", 0):
        a = ctx.transposed(a, (1, 0))
    if not ctx.integer("transB", 0):
        b = ctx.transposed(b, (1, 0))
    alpha, beta = ctx.number("alpha", 1.0), ctx.number("beta", 1.0)
    if alpha != 1 and isinstance(b, ConstantOperand) and b.quant is None:
        b, alpha = ConstantOperand(as_float(b.array) * np.float32(alpha), f"{b.name}.scaled"), 1.0
    if c is not None and beta != 1:
        c = _scaled(ctx, c, beta) if beta else None
    w = ctx.valued_real(b)
    bias = _as_bias(c, w.type.shape[0]) if alpha == 1 else None
    product = ops.Linear(ctx.valued_real(a), w, None if bias is None else ctx.valued_real(bias))
    if bias is not None or (c is None and alpha == 1):
        return ctx.result(product)
    y = ctx.emit(product)
    if alpha != 1:
        scaled = ops.Mul(y, ctx.constant(alpha, "alpha"))
        if c is None:
            return ctx.result(scaled)
        y = ctx.emit(scaled)
    assert c is not None
    return ctx.result(ops.Add(y, ctx.valued_real(c)))


def _scaled(ctx: ImportContext, c: Operand, beta: float) -> Operand:
    if isinstance(c, ConstantOperand) and c.quant is None:
        return ConstantOperand(as_float(c.array) * np.float32(beta), f"{c.name}.scaled")
    return ctx.emit(ops.Mul(ctx.valued_real(c), ctx.constant(beta, "beta")), "bias")


def _as_bias(c: Operand | None, width: int) -> Operand | None:
    """C as one number for each output, None where it is absent or varies along the rows."""
    if c is None:
        return None
    shape = shape_of(c)
    if shape == (width,):
        return c
    if isinstance(c, ConstantOperand):
        if shape == (1, width):
            return c.reshaped((width,))
        if c.quant is None and c.array.size == 1:
            return ConstantOperand(np.broadcast_to(c.array.reshape(()), (width,)), c.name)
    return None
