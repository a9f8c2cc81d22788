"""Convert a matrix product by a constant to a linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Dequantize, Linear, MatMul, Transpose
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class MatmulToLinear(RewritePass):
    """matmul(x, w (K, N)) -> linear(x, w transposed (N, K))

    w is a constant, dequantized or not, with no leading axes but of size 1. matmul(w, x) becomes
    the same between transposes of x's and the result's last two axes.
    Keeps: reals within 1e-5 (the same products, summed in another order).
    """

    name: ClassVar[str] = "matmul-to-linear"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (MatMul,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, MatMul)
        if not op.a.type.is_float:
            return Miss("operands are stored integers")
        right, left = matrix(at, op.b, is_transposed=True), matrix(at, op.a, is_transposed=False)
        if right is not None and len(op.result.type.shape) == op.a.type.rank:
            return at.replace(Linear(op.a, right, None))
        if left is None or op.b.type.rank != op.result.type.rank:
            return Miss("neither operand is one constant matrix")
        swap = (*range(op.b.type.rank - 2), op.b.type.rank - 1, op.b.type.rank - 2)
        y = at.emit(Linear(at.emit(Transpose(op.b, swap)), left, None))
        return at.replace(Transpose(y, swap))


def matrix(at: Site, value: Value, is_transposed: bool) -> Value | None:
    """A constant (..., K, N), all leading axes 1, as the weights of a linear layer; else None.

    is_transposed: its last axis becomes the first, that of outputs.
    """
    op = at.producer(value)
    stored = at.producer(op.x) if isinstance(op, Dequantize) else op
    if not isinstance(stored, Constant) or prod(value.type.shape[:-2]) != 1:
        return None
    if isinstance(op, Dequantize):
        quant = stored.result.type.quant
        if not quant.is_per_tensor and (value.type.rank != 2 or quant.block is not None):
            return None
        if quant.axis is not None and (quant.axis == 1) != is_transposed:
            return None  # scales along the axis that is summed over
    flat = stored
    if value.type.rank != 2:
        flat = Constant.of(stored.value.array.reshape(value.type.shape[-2:]), stored.elem)
    w = at.emit(flat.permuted((1, 0)) if is_transposed else flat)
    return at.emit(Dequantize(w)) if isinstance(op, Dequantize) else w
