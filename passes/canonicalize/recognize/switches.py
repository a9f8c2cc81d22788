"""Masks of the run: added numbers that integers of the caller, 0 and 1, switch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Mul, Sub, Take
from qir.ir.types import U1, Array
from qir.passes.canonicalize.recognize.places import MOVES, Moving, emitted
from qir.passes.infra.constants import real_constant
from qir.passes.infra.rewriter import Site

HIDES = -9999.0  # an added number of at most this hides a key: exp(-9999) is 0 in float32


@dataclass(frozen=True)
class Switched:
    """y[e] = off[e] where places[e] of `bits`, rows of a table of 0 and 1, is 0, else on[e]."""

    bits: Take
    places: Array
    off: Array
    on: Array

    def moved(self, op: Moving) -> Switched:
        places, off, on = (op.evaluate(a) for a in (self.places, self.off, self.on))
        return Switched(self.bits, places, off, on)

    def spread(self, shape: tuple[int, ...]) -> Switched:
        places, off, on = (np.broadcast_to(a, shape) for a in (self.places, self.off, self.on))
        return Switched(self.bits, places, off, on)


def switched(at: Site, value: Value) -> Switched | None:
    """`value` as numbers that one tensor of integers switches; None for anything else."""
    op = at.producer(value)
    match op:
        case Take() if (table := real_constant(at, op.table)) is not None:
            shape = value.type.shape
            places = np.arange(value.type.size).reshape(shape)
            is_bits = np.all((table == 0) | (table == 1))
            return Switched(op, places, np.zeros(shape), np.ones(shape)) if is_bits else None
        case Mul() | Add() | Sub():
            return _shifted(at, op)
        case None:
            return None
    if isinstance(op, MOVES) and (inner := switched(at, op.operands[0])) is not None:
        return inner.moved(op)
    return None


def _shifted(at: Site, op: Mul | Add | Sub) -> Switched | None:
    """A switch times, plus, or minus a constant."""
    for x, c, first in ((op.a, op.b, True), (op.b, op.a, False)):
        number = real_constant(at, c)
        if number is None or (inner := switched(at, x)) is None:
            continue
        inner = inner.spread(op.result.type.shape)
        off, on = (_combined(op, a, number, first) for a in (inner.off, inner.on))
        return Switched(inner.bits, inner.places, off, on)
    return None


def _combined(op: Op, x: Array, c: Array, first: bool) -> Array:
    if isinstance(op, Sub):
        return x - c if first else c - x
    return x * c if isinstance(op, Mul) else x + c


def visible(
    at: Site, value: Value, scale: float, hidden: Array, lead: tuple[int, ...]
) -> tuple[Value, Array] | None:
    """Which keys a mask of the run shows, as bits that broadcast to `hidden` (B, heads, N, M), the
    keys that constants hide; and those again with what the mask always hides. None where the mask
    does more than to show and to hide.
    """
    switch = switched(at, value)
    if switch is None:
        return None
    switch = switch.spread((*lead, *hidden.shape[2:]))
    places, off, on = (a.reshape(hidden.shape) for a in (switch.places, switch.off, switch.on))
    is_visible = [a * scale > HIDES for a in (off, on)]
    hidden = hidden | ~(is_visible[0] | is_visible[1])
    is_relevant = ~hidden
    if not is_relevant.any() or np.any(is_visible[0][is_relevant] == is_visible[1][is_relevant]):
        return None  # it always shows some of them
    if any(np.any(a[s & is_relevant] != 0) for a, s in zip((off, on), is_visible, strict=True)):
        return None
    shows = bool(is_visible[1][is_relevant][0])
    if np.any(is_visible[1][is_relevant] != shows):
        return None
    for axis in (0, 1, 2):
        places, is_relevant = _narrowed(places, is_relevant, axis)
    table = real_constant(at, switch.bits.table)
    rows = at.emit(Constant.of(table == shows, U1))
    bits = emitted(at, at.emit(Take(rows, switch.bits.index)), places)
    return None if bits is None else (bits, hidden)


def _narrowed(places: Array, is_relevant: Array, axis: int) -> tuple[Array, Array]:
    """One place along the axis where all that matter are the same."""
    first = np.take_along_axis(places, is_relevant.argmax(axis, keepdims=True), axis)
    if np.any((places != first) & is_relevant):
        return places, is_relevant
    return first, np.asarray(is_relevant.any(axis, keepdims=True))
