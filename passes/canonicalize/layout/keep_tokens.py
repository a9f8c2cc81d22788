"""Keep batch and tokens apart in layers of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import LayerNorm, Linear, Reshape, RmsNorm
from qir.passes.canonicalize.recognize.places import reshaped
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class KeepTokens(RewritePass):
    """f(reshape(x, (B * N, C))) -> reshape(f(reshape(x, (B, N, C))), (B * N, ...)), f a linear or
    norm

    x is (B, N, C), or (B, N, heads, size) with N > 1. So that layers that an exporter gave rows (a
    Conv1D of GPT-2, a Gemm) leave (B, N, C) as it is, and the reshapes before and behind them meet.
    Keeps: reals within 1e-5 (the same sums, perhaps in another order).
    """

    name: ClassVar[str] = "keep-tokens"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Linear, LayerNorm, RmsNorm)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, (Linear, LayerNorm, RmsNorm))
        flat = at.producer(op.x)
        if not isinstance(flat, Reshape) or len(flat.shape) != 2 or flat.x.type.rank < 3:
            return Miss("x is no matrix made of (B, N, C)")
        shape = flat.x.type.shape
        if prod(shape[:2]) != flat.shape[0] or (len(shape) > 3 and shape[1] == 1):
            return Miss("the reshape changes channels", flat.result.name)
        if not op.x.type.is_float:
            return Miss("x is stored")
        x = reshaped(at, flat.x, (*shape[:2], flat.shape[1]))
        return at.replace(Reshape(at.emit(replace(op, x=x)), op.result.type.shape), flat)
