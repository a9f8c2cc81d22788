"""Ops that move or select stored elements: the same op on the integers."""

from __future__ import annotations

from qir.ir.op import Op
from qir.ir.ops import Concat, Pad, PadMode
from qir.ir.ops.kinds import Selection
from qir.ir.types import Quant
from qir.passes.integer.forms import Fixed, Form, Lowering, NoInteger, Stored, rule


@rule(Selection)
def move(op: Op, at: Lowering) -> Form:
    """move(x) -> move on stored x"""
    if isinstance(op, Pad) and op.mode is PadMode.CONSTANT and op.value != 0:
        raise NoInteger(f"padding holds {op.value:g}, 0 is needed")
    if isinstance(at.forms[op.operands[0].name], Fixed):
        raise NoInteger(f"operand {op.operands[0]} is a constant (fold-constants folds it)")
    x = at.stored(op.operands[0])
    return Stored(at.emit(op.on(x), op.names[0], op.loc))


@rule(Concat)
def concat(op: Concat, at: Lowering) -> Form:
    """concat(xs) -> concat of stored xs, which share one quantization"""
    xs = tuple(at.stored(x) for x in op.xs)
    for x, value in zip(op.xs, xs, strict=True):
        if value.type.elem != xs[0].type.elem:
            first, other = (str(v.type.elem) for v in (xs[0], value))
            assert isinstance(value.type.elem, Quant)
            raise NoInteger(f"operand {x} is {other}, {op.xs[0]} is {first}: one type is needed")
    return Stored(at.emit(op.on(*xs), op.names[0], op.loc))
