"""Elementwise ops of two operands: sums in one requantize, products, quotients, extrema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Rounding
from qir.ir.op import Loc, Op
from qir.ir.ops import Add, Constant, Div, Lookup, Maximum, Minimum, Mul, Softmax, Sub
from qir.ir.ops.elementwise import Binary
from qir.ir.types import I32, Array, Int, Quant
from qir.passes.integer.forms import (
    Form,
    Lowering,
    Made,
    NoInteger,
    RowSum,
    Stored,
    Sum,
    Table,
    Term,
    reals_of,
)  # fmt: skip
from qir.passes.integer.rules import (
    BYTE,
    LONG,
    WORD,
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
from qir.passes.integer.storing import fixed_softmax, requantized
from qir.passes.integer.tables import filled, table, tabulated

LARGEST = 1 << 22  # steps of a reciprocal: times 8 bits it stays below 2**30
SPREAD = 1 << 14  # the largest reciprocal over the least: a least one of 2**8 steps


@rule(Binary)
class Pairs(Rule):
    """f(a, b), where both are functions of one stored value: a table"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if (answer := tabulated(op, operands)) is not None:
            return answer
        places = [i for i, operand in enumerate(operands) if not operand.is_per_channel]
        variables = [i for i in places if not operands[i].is_known]
        if len(places) == len(variables) == 1 and self.makes_table(op, operands[places[0]]):
            return Needs(tuple(places))
        return self.ask_two(op, operands)

    @staticmethod
    def makes_table(op: Op, operand: Operand) -> bool:
        """Whether storing the one operand that is no constant makes the op a table."""
        return operand.shape == op.results[0].type.shape and operand.kind in (
            Kind.SUM, Kind.CLAMPED, Kind.MADE, Kind.ROW_SUM, Kind.ROW_TOTAL,
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
class Additions(Pairs):
    """a +- b -> one sum: one requantize, one rounding"""

    @staticmethod
    def makes_table(op: Op, operand: Operand) -> bool:
        return Pairs.makes_table(op, operand) and operand.kind not in (Kind.SUM, Kind.ROW_SUM)

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if isinstance(op, Add) and (kind := _row_kind(op, operands)) is not None:
            return Answer(kind, bits=LONG)
        terms = (Kind.STORED, Kind.FIXED, Kind.SUM)
        missing = tuple(i for i, operand in enumerate(operands) if operand.kind not in terms)
        if missing:
            return Needs(missing)
        is_wide = any(operand.is_wide for operand in operands)
        return Answer(Kind.SUM, bits=LONG if is_wide else WORD)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, (Add, Sub))
        if isinstance(op, Add) and (rows := _row_sum(op, at)) is not None:
            return rows
        sign = -1 if isinstance(op, Sub) else 1
        a, b = at.sum_of(op.a), at.sum_of(op.b)
        terms = tuple(replace(t, sign=t.sign * sign) for t in b.terms)
        offset = a.offset
        if b.offset is not None:
            offset = sign * b.offset if offset is None else offset + sign * b.offset
        if offset is not None:
            offset = np.asarray(offset)
        return Sum(a.terms + terms, offset, loc=Loc.merged(a.loc, b.loc, op.loc))


def _row_kind(op: Op, operands: Sequence[Operand]) -> Kind | None:
    """How a sum of rows with a bias, or with one stored value of its shape, exists."""
    for x, other in (operands, operands[::-1]):
        is_sum = x.kind in (Kind.ROW_SUM, Kind.ROW_TOTAL)
        if is_sum and other.kind is Kind.FIXED and other.is_per_channel:
            return x.kind
        is_like = other.fits(LONG) and other.shape == op.results[0].type.shape
        if x.kind is Kind.ROW_SUM and is_like:
            return Kind.ROW_TOTAL
    return None


def _row_sum(op: Op, at: Lowering) -> RowSum | None:
    """The sum of rows that `_row_kind` answered."""
    for x, other in (op.operands, op.operands[::-1]):
        form = at.forms[x.name]
        if not isinstance(form, RowSum):
            continue
        loc = Loc.merged(form.loc, op.loc)
        if isinstance(at.forms[other.name], Stored):
            return replace(form, residual=at.stored(other, LONG), loc=loc)
        bias = at.reals(other).reshape(-1)
        return replace(form, bias=bias if form.bias is None else form.bias + bias, loc=loc)
    return None


@rule(Mul)
class ElementProducts(Pairs):
    """a * b -> sum(mul on stored a and b)"""

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        bits = WORD if any(operand.is_wide for operand in operands) else BYTE
        return stored_operands(operands, bits) or Answer(Kind.SUM, bits=bits, is_exact=True)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, Mul)
        product = replace(op, a=at.stored(op.a, WORD), b=at.stored(op.b, WORD))
        return Sum((Term(at.accumulator(product, op)),), loc=op.loc)


@rule(Div)
class Quotients(Pairs):
    """a / b -> sum(a * lookup of 1 / b on stored b): no division at run time

    Reciprocals are rounded to i32 in steps of 2**-22 of the largest. Those over 2**14 times the
    least are clamped to that, so that the least keeps 8 bits; where b is 0 the reciprocal is that
    of the nearest b that is not, the greater of two.
    """

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        a, b = operands
        is_read = b.is_known or b.kind is Kind.TABLE or b.is_stored
        missing = (*(() if a.is_stored else (0,)), *(() if is_read else (1,)))
        if missing:
            return Needs(missing)
        stored_operands([a] if b.is_known or b.kind is Kind.TABLE else operands)
        return Answer(Kind.SUM)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, Div)
        a, name = at.stored(op.a), f"{op.names[0]}_reciprocal"
        form = at.forms[op.b.name]
        if isinstance(form, Table):
            source, reals = form.source, form.reals
        elif isinstance(form, Stored) and not form.is_known:
            source, reals = form.value, reals_of(form.value)[:, None]
        else:
            source, reals = None, at.reals(op.b)
            if not np.all(reals):
                raise NoInteger("it divides by a constant that holds 0")
        inverse = reciprocals(reals)
        scale = float(np.float32(np.abs(inverse).max(initial=0) / LARGEST)) or 1.0
        to, steps = Quant.per_tensor(I32, scale, 0), np.rint(inverse / scale).astype(np.int32)
        if source is None:
            factor = at.emit(Constant.of(steps, to), name, op.loc)
        else:
            columns = steps.T if steps.shape[1] > 1 else steps.T[0]
            factor = at.emit(Lookup(source, Data(columns), to), name, op.loc)
        product = Mul(a, factor)
        return Sum((Term(at.accumulator(product, op)),), loc=op.loc)


def reciprocals(reals: Array) -> Array:
    """1 / reals, clamped to SPREAD times the least; of 0 and NaN that of the nearest other, the
    later of two. reals: a table (levels, channels), or constants.

    Errors: NoInteger if there is no other.
    """
    inverse = np.full(reals.shape, np.nan)
    np.divide(1.0, reals, out=inverse, where=(reals != 0) & ~np.isnan(reals))
    least = np.nanmin(np.abs(inverse), initial=np.inf, where=inverse != 0)
    rows = inverse if inverse.ndim == 2 else inverse.reshape(-1, 1)
    result = filled(rows[::-1])[::-1].reshape(reals.shape)
    return result.clip(-SPREAD * least, SPREAD * least) if np.isfinite(least) else result


@rule(Maximum, Minimum)
class Extrema(Pairs):
    """max(a, b) -> a + clamp(b - a, 0), min(a, b) -> a - clamp(a - b, 0), both exact: a and b are
    stored in the quantization of the result

    max(q(a), q(b)) = q(max(a, b)) as rounding and clamping keep the order.
    """

    def ask_two(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return Answer(Kind.STORED, sharing=Sharing.RESULT)

    def lower_two(self, op: Op, at: Lowering) -> Form:
        assert isinstance(op, (Maximum, Minimum))
        a, b = at.stored(op.a), at.stored(op.b)
        to = a.type.quant
        if b.type.quant != to:
            raise NoInteger(f"operand {op.b} is {b.type.elem}, {op.a} is {to}: one type is needed")
        sign = 1 if isinstance(op, Maximum) else -1
        step = Quant.per_tensor(Int(to.storage.bits, False), float(to.scale.array), 0)
        above = Sum((Term(b, sign), Term(a, -sign)), low=0.0, loc=op.loc)
        name = op.names[0]
        by = requantized(above, step, Rounding.HALF_UP, at.free(f"{name}_by"), at)
        total = Sum((Term(a), Term(by, sign)), loc=op.loc)
        return Stored(requantized(total, to, Rounding.HALF_UP, name, at))


@rule(Softmax)
class Softmaxes(Rule):
    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        return as_stored(operands, Kind.MADE)

    def lower(self, op: Softmax, at: Lowering, answer: Answer) -> Form:
        return Made(partial(fixed_softmax, at.stored(op.x)), op.loc)
