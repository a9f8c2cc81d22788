"""Functions of one stored value as tables: exact by definition, whatever the function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qir.ir.op import Loc, Op, Value
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.unary import Clamp
from qir.ir.torch_executor import run_op
from qir.ir.types import Array
from qir.passes.integer.forms import Form, Lowering, NoInteger, Stored, Table, reals_of
from qir.passes.integer.rules import BYTE, LONG, WORD, Answer, Kind, Needs, Operand, Rule, rule

ALL = (-np.inf, np.inf)


@rule(Elementwise)
class Functions(Rule):
    """f(x, constants of each channel) -> table of f on every integer of x"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        if (answer := tabulated(op, operands)) is not None:
            return answer
        x, *constants = operands
        for operand in constants:
            if not operand.is_per_channel:
                raise NoInteger(
                    f"operand {operand.value} is {operand.kind.value} of shape"
                    f" {list(operand.shape)}, a constant for each channel is needed"
                )
        if not x.is_stored:
            return Needs((0,))
        raise NoInteger(f"operand {x.value} is {x.elem}, 8 bits and one scale are needed")

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        return table(op, at, answer)


@rule(Clamp)
class Clamps(Functions):
    """clamp(sum) -> the sum with narrower ends; of a stored value: a table"""

    def ask(self, op: Op, operands: Sequence[Operand]) -> Answer | Needs:
        (x,) = operands
        if x.kind in (Kind.SUM, Kind.CLAMPED) or (x.is_stored and (x.is_wide or not x.fits(BYTE))):
            return Answer(Kind.CLAMPED, bits=LONG if x.is_wide else BYTE)
        return super().ask(op, operands)

    def lower(self, op: Op, at: Lowering, answer: Answer) -> Form:
        if answer.kind is Kind.TABLE:
            return table(op, at, answer)
        assert isinstance(op, Clamp)
        return at.sum_of(op.x).clamped(*op.limits, loc=op.loc)


def tabulated(op: Op, operands: Sequence[Operand]) -> Answer | None:
    """The op as a table of one stored value, elementwise and of the same shape; None where its
    operands are not all functions of one, or constants for each channel.
    """
    sources = set()
    is_wide = any(o.is_wide for o in operands if not o.is_per_channel)
    for operand in operands:
        if operand.is_per_channel:
            if is_wide and operand.value.type.size > 1:
                return None  # lines are drawn for one function of all channels
            continue
        is_source = operand.kind is Kind.TABLE or operand.fits(BYTE) or operand.is_curve
        if not is_source or operand.shape != op.results[0].type.shape:
            return None
        sources.add(operand.source)
    bits = WORD if is_wide else BYTE
    return Answer(Kind.TABLE, sources.pop(), bits=bits) if len(sources) == 1 else None


def table(op: Op, at: Lowering, answer: Answer) -> Table:
    """The results of an op that is `tabulated`, for every integer of its source."""
    source: Value | None = None
    clamps: list[tuple[float, float] | None] = []
    args, locs = [], [op.loc]
    for v in op.operands:
        form = at.forms[v.name]
        if isinstance(form, Table):
            source, reals, clamp = form.source, form.reals, form.clamp
            locs.insert(0, form.loc)
        elif isinstance(form, Stored) and form.value.name == answer.source:
            source, reals, clamp = form.value, reals_of(form.value)[:, None], ALL
        else:
            args.append(at.reals(v).reshape(-1))
            continue
        clamps.append(clamp)
        args.append(reals)
    assert source is not None
    with np.errstate(all="ignore"):
        results = run_op(op, args)
    return Table(source, filled(results), clamp_of(op, clamps), Loc.merged(*locs))


def clamp_of(op: Op, before: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The op after a clamp as one clamp, None when it is more than that."""
    if not isinstance(op, Clamp) or before[0] is None:
        return None
    low, high = op.limits
    return min(max(before[0][0], low), high), min(max(before[0][1], low), high)


def filled(reals: Array) -> Array:
    """The table with the nearest defined entry where the function is not defined (log of < 0)."""
    is_defined = ~np.isnan(reals)
    if is_defined.all():
        return reals
    out = reals.copy()
    for column in range(reals.shape[1]):
        at = np.flatnonzero(is_defined[:, column])
        if not at.size:
            raise NoInteger("the function is not defined on any value of its operand")
        nearest = at[np.abs(np.arange(len(reals))[:, None] - at[None]).argmin(1)]
        out[:, column] = reals[nearest, column]
    return out
