"""Evaluate ops of constant operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Dequantize
from qir.ir.torch_executor import run_op
from qir.passes.infra.manager import KEEPS_BITS, Claim, Miss, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class FoldConstants(RewritePass):
    """f(constant, ...) -> constant, for ops on floats, and for ops on stored integers

    A dequantized constant is kept: its stored integers and scales are the model's own.
    Keeps: every bit.
    """

    name: ClassVar[str] = "fold-constants"
    claim: ClassVar[Claim] = KEEPS_BITS

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if not op.operands:
            return Miss("no operands")
        if isinstance(op, Dequantize):
            return Miss("a quantized constant is kept as the model has it")
        arrays = [a for v in op.operands if (a := at.constant(v)) is not None]
        if len(arrays) < len(op.operands):
            return Miss("an operand is not a constant")
        held = op.result.type.elem
        if op.has_floats() and op.result.type.is_float:
            return at.replace(Constant.of(run_op(op, arrays), held))
        if op.has_integers() and not any(v.type.is_float for v in op.operands):
            return at.replace(Constant.of(op.evaluate(*op.unpack(tuple(arrays))), held))
        return Miss("floats become integers: the model's own rounding stays to be seen")
