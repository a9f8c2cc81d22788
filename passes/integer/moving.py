"""Ops that move or select stored elements: the same op on the integers."""

from __future__ import annotations

from collections.abc import Sequence

from qir.ir.op import Op
from qir.ir.ops import Concat, Constant, Pad, PadMode
from qir.ir.ops.kinds import Selection
from qir.ir.types import Elem, Quant
from qir.passes.integer.forms import Form, Lowering, NoInteger, Stored
from qir.passes.integer.rules import (
    BYTE,
    LONG,
    Answer,
    Kind,
    Needs,
    Operand,
    Rule,
    Sharing,
    as_stored,
    rule,
    stored_operands,
)


def is_per_axis(elem: Elem | None) -> bool:
    return isinstance(elem, Quant) and not elem.is_per_tensor


@rule(Selection)
class Moves(Rule):
    """move(x) -> move on stored x"""

    moves = True

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if isinstance(op, Pad) and op.mode is PadMode.CONSTANT and op.value != 0:
            raise NoInteger(f"padding holds {op.value:g}, 0 is needed")
        (x,) = operands
        if x.is_stored and is_per_axis(x.elem):
            return Answer(Kind.STORED, elem=x.elem, sharing=Sharing.ALIKE)
        bits = LONG if x.is_wide else BYTE
        return as_stored(
            operands, Kind.STORED, bits=bits, elem=x.elem, is_known=x.is_known,
            sharing=Sharing.ALIKE,
        )  # fmt: skip

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        x = at.stored(op.operands[0], LONG)
        result = op.on(x)
        if answer.is_known and isinstance(source := at.builder.producer(x), Constant):
            result = Constant.of(result.evaluate(source.value.array), x.type.elem)
        return Stored(at.emit(result, op.names[0], op.loc), answer.is_known)


@rule(Concat)
class Concats(Rule):
    """concat(xs) -> concat of stored xs: of one quantization, or of one for each slice of the axis
    where none computes with the result
    """

    moves = True

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        bits = LONG if any(operand.is_wide for operand in operands) else BYTE
        per_tensor = [operand for operand in operands if not is_per_axis(operand.elem)]
        if (
            len(per_tensor) == len(operands)
            and (needs := stored_operands(operands, bits)) is not None
        ):
            return needs
        elems = {operand.elem for operand in operands}
        elem = elems.pop() if len(elems) == 1 else None
        return Answer(Kind.STORED, elem=elem, bits=bits, sharing=Sharing.ALIKE)

    def lower(self, op: Concat, at: Lowering, answer: Answer) -> Form:
        xs = tuple(at.stored(x, LONG) for x in op.xs)
        return Stored(at.emit(op.on(*xs), op.names[0], op.loc))
