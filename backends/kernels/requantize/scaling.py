"""The scale of loops over elements: the exact form is chosen here, and its constants computed.

Three forms give the same bits:

    narrow  X_i of 8 bits: mult_i = high_i * 2**16 + low_i, all in 32 bits,
            (sum(X_i * high_i) + add_high + ((sum(X_i * low_i) + add_low) >> 16)) >> after
    high    (hi32(sum(X_i * mult_i) + add) >> after) + zero_point; after = shift - 32
    wide    the definition, in 64 bits; every rounding

add holds 2**(shift-1) - sum(z_i * mult_i). Which one: by bounds on every sum, from the ranges of
X_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.scale import Scale, ScaleTerm
from qir.backends.kernels.view import View
from qir.ir.fixed import Rounding

INT32, INT64 = 2.0**31 * (1 - 2.0**-30), 2.0**63 * (1 - 2.0**-30)


class Arithmetic(Enum):
    """How the numbers are computed; see the module."""

    NARROW = "narrow"
    HIGH = "high"
    WIDE = "wide"


@dataclass(frozen=True)
class Scaling:
    """The code of one scale: `terms` sums of products in, one stored value out.

    `count`: elements of the arrays of constants, 1 when all of Y shares them. `zero`: there is a
    zero point to add.
    """

    arithmetic: Arithmetic
    rounding: Rounding
    dtype: str
    low: int
    high: int
    terms: int
    count: int
    zero: bool

    @property
    def fields(self) -> Fields:
        narrow = [("low", "int16"), ("high", "int16")]
        wide = [("mult", "int32"), ("center", "int32")]
        each = {
            Arithmetic.NARROW: narrow,
            Arithmetic.HIGH: wide[:1],
            Arithmetic.WIDE: wide,
        }[self.arithmetic]
        rest = {
            Arithmetic.NARROW: [("add_low", "int32"), ("add_high", "int32"), ("after", "int32")],
            Arithmetic.HIGH: [("add", "int64"), ("after", "int32")],
            Arithmetic.WIDE: [("shift", "int64")],
        }[self.arithmetic]
        names = [(f"{name}{i}", dtype) for i in range(self.terms) for name, dtype in each] + rest
        names += [("zero", "int32")] if self.zero else []
        return Fields(tuple((name, dtype, self.count) for name, dtype in names))

    @property
    def clamps(self) -> bool:
        return (self.low, self.high) != RANGE["int32"]


@dataclass(frozen=True, eq=False)
class Scaled:
    """A scaling, the arrays for its fields, and how Y walks them."""

    code: Scaling
    values: dict[str, Array]
    view: View


def plan_scaling(
    scale: Scale, terms: Sequence[ScaleTerm], dtype: str, shape: tuple[int, ...]
) -> Scaled:
    """The cheapest exact form for Y of this dtype and shape."""
    arrays = [np.asarray(v, np.int64) for v in (*scale.mult, scale.shift, scale.zero_point)]
    scale.check(len(terms), dtype, shape)
    common = np.broadcast_shapes(*(a.shape for a in arrays))
    if all(a.size == 1 or np.all(a == a.reshape(-1)[0]) for a in arrays):
        common, arrays = (1,) * len(shape), [a.reshape(-1)[0] for a in arrays]
    flat = [np.broadcast_to(a, common).reshape(-1) for a in arrays]
    mults, shift, zero = flat[:-2], flat[-2], flat[-1]
    arithmetic, values = _cheapest(scale, terms, mults, shift, zero)
    count, has_zero = prod(common), bool(np.any(zero))
    code = Scaling(
        arithmetic,
        scale.rounding,
        dtype,
        scale.low,
        scale.high,
        terms=len(terms),
        count=count,
        zero=has_zero,
    )
    values["zero"] = zero
    return Scaled(code, values, View.packed("int32", common).expanded(shape))


def scaled_or_raw(
    subject: str,
    scale: Scale | None,
    terms: Sequence[ScaleTerm],
    dtype: str,
    shape: tuple[int, ...],
) -> tuple[Scaling | None, tuple[int, ...], dict[str, Array]]:
    """(code, strides of its arrays along Y, values of its fields); kernels may store sums too."""
    if scale is not None:
        plan = plan_scaling(scale, terms, dtype, shape)
        return plan.code, plan.view.strides, plan.values
    if dtype != "int32":
        raise ValueError(f"{subject}: y is {dtype}, int32 is needed without a scale")
    return None, (0,) * len(shape), {}


def _cheapest(
    scale: Scale, terms: Sequence[ScaleTerm], mults: list[Array], shift: Array, zero: Array
) -> tuple[Arithmetic, dict[str, Array]]:
    floor, half_up = scale.rounding is Rounding.FLOOR, scale.rounding is Rounding.HALF_UP
    if floor or half_up:
        half = np.int64(0) if floor else np.int64(1) << (shift - 1)
        reach = [float(max(abs(t.low), abs(t.high))) for t in terms]
        centred = sum(
            (
                abs(t.zero_point) * np.abs(m).astype(float)
                for t, m in zip(terms, mults, strict=True)
            ),
            0.0,
        )
        size = sum((r * np.abs(m).astype(float) for r, m in zip(reach, mults, strict=True)), 0.0)
        total = size + centred + half.astype(float)
        is_int32 = np.all(np.ldexp(total, -shift) + np.abs(zero) + 1 < INT32)
        if is_int32 and np.all(total < INT64):
            add = np.asarray(half) - sum(
                np.int64(t.zero_point) * m for t, m in zip(terms, mults, strict=True)
            )
            for attempt in (_narrow, _high):
                form = attempt(terms, mults, shift, add, total)
                if form:
                    return form
    values = {f"mult{i}": m for i, m in enumerate(mults)} | {"shift": shift}
    return Arithmetic.WIDE, values | {
        f"center{i}": np.int64(t.zero_point) + 0 * shift for i, t in enumerate(terms)
    }


def _narrow(
    terms: Sequence[ScaleTerm], mults: list[Array], shift: Array, add: Array, total: Array
) -> tuple[Arithmetic, dict[str, Array]] | None:
    if not all(t.dtype in ("uint8", "int8") for t in terms):
        return None
    lows = [((m + 2**15) & 0xFFFF) - 2**15 for m in mults]
    highs = [(m - low) >> 16 for m, low in zip(mults, lows, strict=True)]
    fits = all(np.all(h < 2**15) for h in highs) and len(terms) <= 64
    if not fits or shift.min() < 16 or shift.max() > 47 or not np.all(total < INT32 * 2**14):
        return None
    values = {f"low{i}": v for i, v in enumerate(lows)} | {
        f"high{i}": v for i, v in enumerate(highs)
    }
    rest = {"add_low": add & 0xFFFF, "add_high": add >> 16, "after": shift - 16}
    return Arithmetic.NARROW, values | rest


def _high(
    terms: Sequence[ScaleTerm], mults: list[Array], shift: Array, add: Array, total: Array
) -> tuple[Arithmetic, dict[str, Array]] | None:
    left_shifts = np.maximum(32 - shift, 0)
    raised = [m << left_shifts for m in mults]
    fits = all(np.all(np.abs(m) < 2**31) for m in raised)
    if not fits or not np.all(np.ldexp(total, left_shifts) < INT64):
        return None
    values = {f"mult{i}": m for i, m in enumerate(raised)}
    return Arithmetic.HIGH, values | {"add": add << left_shifts, "after": np.maximum(shift - 32, 0)}
