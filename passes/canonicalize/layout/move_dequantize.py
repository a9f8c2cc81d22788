"""Sink dequantize below data movement, so that moves work on integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Dequantize, Pad, PadMode
from qir.ir.ops.kinds import Selection
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class MoveDequantize(RewritePass):
    """move(dequantize(x)) -> dequantize(move(x)), for one scale and zero point

    A move is any op whose result holds elements of its operands alone (Selection): reshape, concat,
    max_pool, ..; a pad by 0, or of its own elements. Operands share one type. So a quantize behind
    the move meets the dequantize, and two of one type cancel (drop-identities).
    Keeps: every bit.
    """

    name: ClassVar[str] = "move-dequantize"
    claim: ClassVar[Claim] = KEEPS_BITS
    roots: ClassVar[tuple[type[Op], ...]] = (Selection,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        sources = [at.producer(v) for v in op.operands]
        dequantizes = [s for s in sources if isinstance(s, Dequantize)]
        if len(dequantizes) != len(sources):
            return Miss("an operand does not come from a dequantize")
        types = {s.x.type.elem for s in dequantizes}
        if len(types) != 1:
            return Miss(f"its operands are stored in {len(types)} types, one is needed")
        if not dequantizes[0].x.type.quant.is_per_tensor:
            return Miss("x has more than one scale")
        if isinstance(op, Pad) and op.mode is PadMode.CONSTANT and op.value != 0:
            return Miss(f"it pads with {op.value:g}, 0 is what stored integers can be padded with")
        stored = at.emit(op.on(*(s.x for s in dequantizes)))
        return at.replace(Dequantize(stored), *dequantizes)
