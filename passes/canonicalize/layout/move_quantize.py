"""Hoist quantize above data movement, so that moves work on integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Quantize, Reshape, Transpose
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class MoveQuantize(RewritePass):
    """quantize(transpose(x)) -> transpose(quantize(x)), reshape alike, for one scale

    An input is quantized first, and fewer bytes are moved.
    Keeps: every bit.
    """

    name: ClassVar[str] = "move-quantize"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (Quantize,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, Quantize)
        move = at.producer(op.x)
        if not isinstance(move, (Transpose, Reshape)):
            return Miss("x does not come from a transpose or reshape")
        if at.uses(op.x) != 1:
            return Miss(f"what moved is read {at.uses(op.x)} times", op.x.name)
        if not op.to.is_per_tensor:
            return Miss("it has more than one scale")
        stored = at.emit(replace(op, x=move.x))
        return at.replace(move.on(stored), move)
