"""Elementwise ops: sums in one requantize, products, and functions of one value as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Add, Mul, Softmax, Sub
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.unary import Clamp
from qir.ir.torch_executor import run_op
from qir.ir.types import Array, Quant
from qir.passes.integer.forms import (
    Fixed,
    Form,
    Lowering,
    NoInteger,
    Probabilities,
    Stored,
    Sum,
    Table,
    Term,
    reals_of,
    rule,
)  # fmt: skip


@rule(Elementwise)
def function(op: Op, at: Lowering) -> Form:
    """f(x, constants) -> table of f on every integer of x"""
    table = tabulated(op, at)
    if table is None:
        raise NoInteger(f"{op.mnemonic} of {described(op, at)}, one quantized operand is needed")
    return table


@rule(Clamp)
def clamp(op: Clamp, at: Lowering) -> Form:
    """clamp(sum) -> the sum with narrower ends; of a stored value: a table"""
    form = at.forms[op.x.name]
    low, high = op.limits
    if not isinstance(form, Sum):
        return function(op, at)
    # clamp(clamp(x, a, b), c, d) = clamp(x, clamp(a, c, d), clamp(b, c, d))
    return replace(
        form,
        low=min(max(form.low, low), high),
        high=min(max(form.high, low), high),
        loc=Loc.merged(form.loc, op.loc),
    )


@rule(Add, Sub)
def addition(op: Add | Sub, at: Lowering) -> Form:
    """a +- b -> one sum: one requantize, one rounding"""
    if (table := tabulated(op, at)) is not None:
        return table
    parts = [terms_of(v, at) for v in (op.a, op.b)]
    sign = -1 if isinstance(op, Sub) else 1
    second = tuple(replace(t, sign=t.sign * sign) for t in parts[1].terms)
    offsets = [o for o in (parts[0].offset, parts[1].offset) if o is not None]
    offset = None
    if offsets:
        offset = np.asarray(0.0)
        for part, s in zip(parts, (1, sign), strict=True):
            offset = offset if part.offset is None else offset + s * part.offset
    loc = Loc.merged(*(p.loc for p in parts), op.loc)
    return Sum(parts[0].terms + second, offset, loc=loc)


def terms_of(value: Value, at: Lowering) -> Sum:
    match at.forms[value.name]:
        case Stored(kept):
            return Sum((Term(kept),))
        case Fixed(reals):
            return Sum((), reals)
        case Sum() as form if not form.is_clamped:
            return form
        case form:
            raise NoInteger(
                f"operand {value} is {type(form).__name__.lower()}, a stored value is needed"
            )


@rule(Mul)
def product(op: Mul, at: Lowering) -> Form:
    """a * b -> sum(mul on stored a and b)"""
    if (table := tabulated(op, at)) is not None:
        return table
    a, b = at.stored(op.a), at.stored(op.b)
    return Sum((Term(at.accumulator(replace(op, a=a, b=b), op)),), loc=op.loc)


@rule(Softmax)
def softmax(op: Softmax, at: Lowering) -> Form:
    return Probabilities(at.stored(op.x), op.loc)


def tabulated(op: Op, at: Lowering) -> Table | None:
    """The op as a table of one stored value; None when its operands are not functions of one."""
    source: Value | None = None
    clamps: list[tuple[float, float] | None] = []
    args, locs = [], [op.loc]
    for v in op.operands:
        form, shape = at.forms[v.name], v.type.shape
        if isinstance(form, Fixed):
            if any(s != 1 for s in shape[:-1]):
                return None
            args.append(form.reals.reshape(-1))
            continue
        if isinstance(form, Stored) and is_narrow(form.value) and shape == op.results[0].type.shape:
            found, reals, clamp_ = form.value, reals_of(form.value)[:, None], (-np.inf, np.inf)
        elif isinstance(form, Table):
            found, reals, clamp_ = form.source, form.reals, form.clamp  # type: ignore[assignment]
            locs.insert(0, form.loc)
        else:
            return None
        if source is not None and source != found:
            return None
        source = found
        clamps.append(clamp_)
        args.append(reals)
    if source is None:
        return None
    with np.errstate(all="ignore"):
        computed = run_op(op, args)
    return Table(source, filled(computed), clamp_of(op, clamps), Loc.merged(*locs))


def clamp_of(op: Op, before: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The op after a clamp as one clamp, None when it is more than that."""
    if not isinstance(op, Clamp) or before[0] is None:
        return None
    low, high = op.limits
    return min(max(before[0][0], low), high), min(max(before[0][1], low), high)


def filled(reals: Array) -> Array:
    """The table with the nearest defined entry where the function is not defined (log of < 0)."""
    known = ~np.isnan(reals)
    if known.all():
        return reals
    out = reals.copy()
    for column in range(reals.shape[1]):
        at = np.flatnonzero(known[:, column])
        if not at.size:
            raise NoInteger("the function is not defined on any value of its operand")
        nearest = at[np.abs(np.arange(len(reals))[:, None] - at[None]).argmin(1)]
        out[:, column] = reals[nearest, column]
    return out


def is_narrow(value: Value) -> bool:
    elem: Any = value.type.elem
    return isinstance(elem, Quant) and elem.is_per_tensor and elem.storage.bits <= 8


def described(op: Op, at: Lowering) -> str:
    kinds = {"Stored": "a quantized value", "Fixed": "a constant", "Sum": "a sum"}
    return ", ".join(kinds.get(type(at.forms[v.name]).__name__, "a function") for v in op.operands)
