"""Matrix products."""

from __future__ import annotations

import numpy as np

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import Known, Operand, as_float, shape_of
from qir.ir import ops
from qir.ir.op import Value


def matmul(at: Site) -> Value:
    """MatMul: NumPy's matmul; by a constant matrix it is linear."""
    return multiplied(at, at.operand(0), at.operand(1))


def multiplied(at: Site, a: Operand, b: Operand) -> Value:
    """a @ b as the node's result; operands of rank 1 gain an axis that the result loses."""
    if isinstance(b, Known) and len(b.shape) == 2:
        return at.result(ops.Linear(at.valued_real(a), at.valued_real(b.transposed((1, 0))), None))
    row, column = len(shape_of(a)) == 1, len(shape_of(b)) == 1
    if row:
        a = at.reshaped(a, (1, *shape_of(a)))
    if column:
        b = at.reshaped(b, (*shape_of(b), 1))
    product = ops.MatMul(at.valued_real(a), at.valued_real(b))
    if not (row or column):
        return at.result(product)
    wide = at.emit(product)
    lead, (m, n) = wide.type.shape[:-2], wide.type.shape[-2:]
    return at.result(ops.Reshape(wide, (*lead, *([] if row else [m]), *([] if column else [n]))))


def gemm(at: Site) -> Value:
    """Gemm: alpha * A' @ B' + beta * C, as linear with weights B' turned, and C as its bias."""
    a, b = at.operand(0), at.operand(1)
    c = at.operand(2) if at.has(2) else None
    return affine(at, a, b, c)


def affine(at: Site, a: Operand, b: Operand, c: Operand | None) -> Value:
    """The Gemm of the node's attributes, as its result."""
    if len(shape_of(a)) != 2 or len(shape_of(b)) != 2:
        at.refuse(f"A is {list(shape_of(a))}, B is {list(shape_of(b))}", "matrices are needed")
    if at.integer("transA", 0):
        a = at.transposed(a, (1, 0))
    if not at.integer("transB", 0):
        b = at.transposed(b, (1, 0))
    alpha, beta = at.number("alpha", 1.0), at.number("beta", 1.0)
    if alpha != 1 and isinstance(b, Known) and b.quant is None:
        b, alpha = Known(as_float(b.array) * np.float32(alpha), f"{b.name}.scaled"), 1.0
    if c is not None and beta != 1:
        c = _scaled(at, c, beta) if beta else None
    w = at.valued_real(b)
    bias = _as_bias(c, w.type.shape[0]) if alpha == 1 else None
    product = ops.Linear(at.valued_real(a), w, None if bias is None else at.valued_real(bias))
    if bias is not None or (c is None and alpha == 1):
        return at.result(product)
    y = at.emit(product)
    if alpha != 1:
        scaled = ops.Mul(y, at.constant(alpha, "alpha"))
        if c is None:
            return at.result(scaled)
        y = at.emit(scaled)
    assert c is not None
    return at.result(ops.Add(y, at.valued_real(c)))


def _scaled(at: Site, c: Operand, beta: float) -> Operand:
    if isinstance(c, Known) and c.quant is None:
        return Known(as_float(c.array) * np.float32(beta), f"{c.name}.scaled")
    return at.emit(ops.Mul(at.valued_real(c), at.constant(beta, "beta")), "bias")


def _as_bias(c: Operand | None, width: int) -> Operand | None:
    """C as one number for each output, None where it is absent or varies along the rows."""
    if c is None:
        return None
    shape = shape_of(c)
    if shape == (width,):
        return c
    if isinstance(c, Known):
        if shape == (1, width):
            return c.reshaped((width,))
        if c.quant is None and c.array.size == 1:
            return Known(np.broadcast_to(c.array.reshape(()), (width,)), c.name)
    return None
