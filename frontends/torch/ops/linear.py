"""Matrix products: linear layers by constants, matmul of two activations."""

from __future__ import annotations

import torch

from qir.frontends.torch.context import ImportContext, Number, Operand, QuantizedConstant
from qir.frontends.torch.table import imports
from qir.ir.op import Value
from qir.ir.ops import Add, Linear, MatMul, Mul


@imports("aten.linear.default")
def linear(ctx: ImportContext, x: Operand, weight: Operand, bias: Operand | None = None) -> Value:
    """x @ weight.T + bias -> linear, weight (O, I) as it is; a computed weight makes a matmul."""
    if isinstance(weight, Value):
        y = matmul(ctx, x, ctx.transpose(weight, 1, 0))
        return y if bias is None else ctx.add(Add(y, ctx.value(bias)))
    return ctx.add(Linear(ctx.value(x), ctx.weight(weight, 0, 1), ctx.optional(bias)))


@imports("aten.addmm.default")
def addmm(
    ctx: ImportContext,
    bias: Operand,
    x: Operand,
    weight: Operand,
    *,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * bias + alpha * (x @ weight); a linear when weight and bias (O,) are constant."""
    is_row = isinstance(bias, (torch.Tensor, QuantizedConstant)) and len(bias.shape) == 1
    if beta == alpha == 1 and is_row and not isinstance(weight, Value):
        return ctx.add(Linear(ctx.value(x), ctx.weight(weight, 1, 0), ctx.value(bias)))
    y, b = matmul(ctx, x, weight), ctx.value(bias)
    if alpha != 1:
        y = ctx.add(Mul(y, ctx.value(alpha)))
    if beta != 1:
        b = ctx.add(Mul(b, ctx.value(beta)))
    return ctx.add(Add(y, b))


@imports("aten.baddbmm.default")
def baddbmm(
    ctx: ImportContext,
    bias: Operand,
    x: Operand,
    weight: Operand,
    *,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    return addmm(ctx, ctx.value(bias), x, weight, beta=beta, alpha=alpha)


@imports(
    "aten.mm.default",
    "aten.bmm.default",
    "aten.matmul.default",
    "aten.mv.default",
    "aten.dot.default",
)
def matmul(ctx: ImportContext, a: Operand, b: Operand) -> Value:
    """a @ b -> linear when b is a constant matrix, else matmul; a vector as a matrix of one row."""
    if (
        isinstance(b, (torch.Tensor, QuantizedConstant))
        and len(b.shape) == 2
        and isinstance(a, Value)
    ):
        return ctx.add(Linear(a, ctx.weight(b, 1, 0), None))
    left, right = ctx.value(a), ctx.value(b)
    is_row, is_column = left.type.rank == 1, right.type.rank == 1
    if is_row:
        left = ctx.reshape(left, 1, *left.type.shape)
    if is_column:
        right = ctx.reshape(right, *right.type.shape, 1)
    y = ctx.add(MatMul(left, right))
    shape = list(y.type.shape)
    if is_column:
        del shape[-1]
    if is_row:
        del shape[-1 if is_column else -2]
    return ctx.reshape(y, *shape)
