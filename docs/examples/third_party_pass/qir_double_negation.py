"""Two negations in a row do nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Neg
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss
from qir.passes.infra.rewriter import RewritePass, Site


@dataclass(frozen=True)
class DropDoubleNegation(RewritePass):
    """neg(neg(x)) -> x

    Keeps: every bit.
    """

    name: ClassVar[str] = "drop-double-negation"
    claim: ClassVar[Claim] = KEEPS_BITS

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if not isinstance(op, Neg):
            return Miss("not a neg")
        inner = at.producer(op.x)
        if not isinstance(inner, Neg):
            return Miss("its operand is not a neg", at=op.x.name)
        return inner.x
