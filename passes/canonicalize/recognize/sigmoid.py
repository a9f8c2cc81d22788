"""Recognize sigmoid and softplus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Div, Exp, Log, Neg, Reciprocal, Sigmoid, Softplus
from qir.passes.canonicalize.recognize.polynomials import polynomial
from qir.passes.infra.constants import uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeSigmoid(RewritePass):
    """1 / (1 + exp(-x)) -> sigmoid(x);  log(1 + exp(x)) -> softplus(x)

    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "recognize-sigmoid"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Div, Reciprocal, Log)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, Div):
            if uniform(at, op.a) != 1 or op.b.type != op.result.type:
                return Miss("it does not divide 1")
            inside = op.b
        else:
            assert isinstance(op, (Reciprocal, Log))
            inside = op.x
        power = one_plus_exp(at, inside)
        if power is None:
            return Miss("no 1 + exp(...) is inside", inside.name)
        if isinstance(op, Log):
            return at.replace(Softplus(power.x), power)
        return at.replace(Sigmoid(negated(at, power.x)), power)


def one_plus_exp(at: Site, value: Value) -> Exp | None:
    """The exp in 1 + exp(...), else None."""
    total = at.producer(value)
    if not isinstance(total, Add):
        return None
    for one, other in ((total.a, total.b), (total.b, total.a)):
        power = at.producer(other)
        if uniform(at, one) == 1 and isinstance(power, Exp) and other.type == value.type:
            return power
    return None


def negated(at: Site, value: Value) -> Value:
    """The operand of a negation, where `value` is one."""
    op = at.producer(value)
    for x in op.operands if op is not None else ():
        if polynomial(at, value, x, depth=1) == (0.0, -1.0) and x.type == value.type:
            return x
    return at.emit(Neg(value))
