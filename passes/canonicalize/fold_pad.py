"""Fold padding into the convolution or pooling that reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import copysign
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import AvgPool, Conv, Dequantize, MaxPool, Pad, PadMode
from qir.ir.ops.window import Sides
from qir.passes.canonicalize.real_range import real_range
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class FoldPad(RewritePass):
    """conv(pad(x)) -> conv(x) with more padding

    1. conv, of float or quantized x, and of one dequantized: the pad holds 0.
    2. avg_pool that counts its padding, or has none: the pad holds 0.
    3. max_pool: the pad holds -inf (or the least float), or what it holds x never falls below.
    4. pad(pad(x)) -> pad(x), both with one value, or both with the edge.
    Height and width alone are folded; elements `between` stay in a pad of their own.
    Keeps: reals within 1e-5 (a float convolution that pads adds in another order; stored integers
    and pools keep every bit).
    """

    name: ClassVar[str] = "fold-pad"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Conv, AvgPool, MaxPool, Pad)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        match op:
            case Conv():
                return padded_conv(op, at)
            case AvgPool() | MaxPool():
                return padded_pool(op, at)
            case Pad():
                return one_pad(op, at)
        return Miss("no window")


def plane_sides(pad: Pad) -> Sides | None:
    """(top, left, bottom, right) of a constant pad on height and width alone, else None."""
    if pad.mode is not PadMode.CONSTANT or len(pad.before) != 4:
        return None
    if any(pad.before[a] or pad.after[a] or pad.between[a] for a in (0, 3)):
        return None
    return (pad.before[1], pad.before[2], pad.after[1], pad.after[2])


def sum_of_pads(a: Sides, b: Sides) -> Sides:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def inner(pad: Pad, at: Site) -> Value:
    """The padded value without its border: x, or x with elements between."""
    if not any(pad.between):
        return pad.x
    none = (0,) * len(pad.before)
    return at.emit(replace(pad, before=none, after=none))


def padded_conv(op: Conv, at: Site) -> Value | Miss:
    source = at.producer(op.x)
    stored = at.producer(source.x) if isinstance(source, Dequantize) else source
    if not isinstance(stored, Pad):
        return Miss("x does not come from a pad")
    sides = plane_sides(stored)
    if sides is None or not any(sides):
        return Miss("the pad is not around height and width alone", stored.result.name)
    if stored.value != 0:
        return Miss(f"the pad holds {stored.value:g}, 0 is needed", stored.result.name)
    x = inner(stored, at)
    if isinstance(source, Dequantize):
        x = at.emit(replace(source, x=x))
    return at.replace(replace(op, x=x, pad=sum_of_pads(op.pad, sides)), stored)


def padded_pool(op: AvgPool | MaxPool, at: Site) -> Value | Miss:
    source = at.producer(op.x)
    if not isinstance(source, Pad):
        return Miss("x does not come from a pad")
    sides = plane_sides(source)
    if sides is None or any(source.between):
        return Miss("the pad is not around height and width alone", source.result.name)
    if isinstance(op, AvgPool):
        if source.value != 0 or (any(op.pad) and not op.count_pad):
            return Miss(
                "an average that leaves out other padding, or a pad not of 0", source.result.name
            )
        pool: AvgPool | MaxPool = replace(
            op, x=source.x, pad=sum_of_pads(op.pad, sides), count_pad=True
        )
    else:
        least = real_range(at, source.x)[0]
        if source.value > max(float(np.finfo(np.float32).min), least):
            return Miss(f"the pad holds {source.value:g}, x may be less", source.result.name)
        pool = replace(op, x=source.x, pad=sum_of_pads(op.pad, sides))
    if tuple(pool.faults()):
        return Miss(f"pad {pool.pad} would fill a window {op.kernel}", source.result.name)
    return at.replace(pool, source)


def one_pad(op: Pad, at: Site) -> Value | Miss:
    source = at.producer(op.x)
    if not isinstance(source, Pad):
        return Miss("x does not come from a pad")
    values = op.value, source.value
    equal = values[0] == values[1] and copysign(1, values[0]) == copysign(1, values[1])
    is_same = op.mode is source.mode and (op.mode is PadMode.EDGE or equal)
    if not is_same or op.mode is PadMode.REFLECT:
        return Miss("the two pads hold different elements", source.result.name)
    if any(op.between) and any((*source.before, *source.after, *source.between)):
        return Miss("elements between those of another pad", source.result.name)
    before, after, between = (
        tuple(a + b for a, b in zip(p, q, strict=True))
        for p, q in (
            (op.before, source.before), (op.after, source.after), (op.between, source.between),
        )
    )  # fmt: skip
    return at.replace(replace(op, x=source.x, before=before, after=after, between=between), source)
