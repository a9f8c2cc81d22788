"""Elementwise ops of two operands: sums in one requantize, products, quotients, extrema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qir.ir.op import Loc, Op
from qir.ir.ops import Add, Mul, Softmax, Sub
from qir.ir.ops.elementwise import Binary
from qir.passes.integer.forms import Form, Lowering, NoInteger, Probabilities, Sum, Term
from qir.passes.integer.rules import (
    WORD,
    Answer,
    Kind,
    Needs,
    Operand,
    Rule,
    as_stored,
    rule,
)
from qir.passes.integer.tables import table, tabulated


@rule(Binary)
class Pairs(Rule):
    """f(a, b), where both are functions of one stored value: a table"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if (answer := tabulated(op, operands)) is not None:
            return answer
        places = [i for i, operand in enumerate(operands) if not operand.is_per_channel]
        computed = [i for i in places if not operands[i].is_known]
        if len(places) == len(computed) == 1 and self.makes_table(op, operands[places[0]]):
            return Needs(tuple(places))
        return self.ask_two(op, operands)

    @staticmethod
    def makes_table(op: Op, operand: Operand) -> bool:
        """Whether storing the one operand that is no constant makes the op a table."""
        return operand.shape == op.results[0].type.shape and operand.kind in (
            Kind.SUM, Kind.CLAMPED, Kind.SOFTMAX,
        )  # fmt: skip

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        """The answer where the op is no table."""
        kinds = " and ".join(operand.kind.value for operand in operands)
        raise NoInteger(f"its operands are {kinds}: functions of one quantized value are needed")

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        return table(op, at, answer) if answer.kind is Kind.TABLE else self.lower_two(op, at)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        raise NotImplementedError(type(self).__name__)


@rule(Add, Sub)
class Sums(Pairs):
    """a +- b -> one sum: one requantize, one rounding"""

    @staticmethod
    def makes_table(op: Op, operand: Operand) -> bool:
        return Pairs.makes_table(op, operand) and operand.kind is not Kind.SUM

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        terms = (Kind.STORED, Kind.FIXED, Kind.SUM)
        missing = tuple(i for i, operand in enumerate(operands) if operand.kind not in terms)
        return Needs(missing) if missing else Answer(Kind.SUM, bits=WORD)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, (Add, Sub))
        sign = -1 if isinstance(op, Sub) else 1
        a, b = at.sum_of(op.a), at.sum_of(op.b)
        terms = tuple(replace(t, sign=t.sign * sign) for t in b.terms)
        offset = a.offset
        if b.offset is not None:
            offset = sign * b.offset if offset is None else offset + sign * b.offset
        if offset is not None:
            offset = np.asarray(offset)
        return Sum(a.terms + terms, offset, loc=Loc.merged(a.loc, b.loc, op.loc))


@rule(Mul)
class Products(Pairs):
    """a * b -> sum(mul on stored a and b)"""

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return as_stored(operands, Kind.SUM)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, Mul)
        product = replace(op, a=at.stored(op.a), b=at.stored(op.b))
        return Sum((Term(at.accumulator(product, op)),), loc=op.loc)


@rule(Softmax)
class Softmaxes(Rule):
    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return as_stored(operands, Kind.SOFTMAX)

    def lower(self, op: Softmax, at: Lowering, answer: Answer) -> Form:
        return Probabilities(at.stored(op.x), op.loc)
