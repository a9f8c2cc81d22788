"""Keep batch and tokens apart in layers of rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Add, LayerNorm, Linear, Reshape, RmsNorm, Unary
from qir.passes.canonicalize.recognize.places import reshaped
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class KeepTokens(RewritePass):
    """f(reshape(x, (B * N, C))) -> reshape(f(reshape(x, (B, N, C))), (B * N, ...)), f a linear, a
    norm, a function of each element, or the sum of two such values

    x is (B, N, C), or (B, N, heads, size) with N > 1. So that layers that an exporter gave rows (a
    Conv1D of GPT-2, the MLP of OPT, a Gemm) leave (B, N, C) as it is, and the reshapes before and
    behind them meet.
    Keeps: reals within 1e-5 (the same sums, perhaps in another order).
    """

    name: ClassVar[str] = "keep-tokens"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Linear, LayerNorm, RmsNorm, Add, Unary)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        operands = (op.a, op.b) if isinstance(op, Add) else op.operands[:1]
        moves = [r for v in operands if isinstance(r := at.producer(v), Reshape)]
        if len(moves) < len(operands) or any(len(r.shape) != 2 or r.x.type.rank < 3 for r in moves):
            return Miss("x is no matrix made of (B, N, C)")
        flat, shape = moves[0], moves[0].x.type.shape
        if prod(shape[:2]) != flat.shape[0] or (len(shape) > 3 and shape[1] == 1):
            return Miss("the reshape changes channels", flat.result.name)
        if moves[-1].x.type.shape[:2] != shape[:2]:
            return Miss("two matrices of other tokens", moves[-1].result.name)
        if not op.operands[0].type.is_float or (isinstance(op, Unary) and not op.is_pointwise):
            return Miss("x is stored, or has parameters")
        parts = iter([reshaped(at, r.x, (*shape[:2], r.shape[1])) for r in moves])
        new = op.on(*(next(parts) if v in operands else v for v in op.operands))
        return at.replace(Reshape(at.emit(new), op.result.type.shape), *moves)
