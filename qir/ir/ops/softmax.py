"""Softmax over the last axis, on reals and in fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.fixed import Dyadic, wrong_ratios
from qir.ir.op import Interval, Op, Value, op, stored
from qir.ir.types import I32, I64, Array, Quant, Tensor

SEED_BITS = 7  # the reciprocal starts from a table of 2**7 entries
PROBABILITY_BITS = 30  # probabilities are held in units of 2**-30
SUM_BITS = 31  # sums of exponentials stay below 2**31
# A Newton step of the reciprocal exceeds 2**61 / m by at most 2: it never does in exact arithmetic,
# and its inner floor adds r / 2**30. So p <= (2**30 * e / S) * (1 + 2**-29) for e <= S.
LARGEST_RECIPROCAL = (1 << SUM_BITS) + 2
LARGEST_PROBABILITY = (1 << PROBABILITY_BITS) + 2


@op("softmax")
class Softmax(Op):
    """y = exp(x - max(x)) / sum(exp(x - max(x))), over the last axis. Shapes: x (..., C) -> y (...,
    C).
    """

    range: ClassVar[Interval] = (0.0, 1.0)
    range_is_open: ClassVar[bool] = True
    last_axes: ClassVar[int] = 1

    x: Value

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        if not self.x.type.is_float or not self.x.type.rank:
            self.fail(
                f"x is {self.x.type}",
                "floats of rank 1 or more are needed (to-integer makes softmax_fixed)",
            )
        return self.x.type

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.softmax(x, -1)


@op("softmax_fixed")
class SoftmaxFixed(Op):
    """Softmax of an 8-bit tensor over the last axis, in integers, without division:

        d   = max(x) - x                                     (0 .. 255)
        e   = exp_table[d]                                   (round_half_up(exp(-s * d) * 2**k))
        S   = sum(e), 0 < S < 2**31;  n = 31 - bit_length(S);  m = S << n           (2**30 <= m <
        2**31)
        r   = seed[(m >> 23) - 128], then twice  r = (r * (2**31 - ((m * r) >> 31))) >> 30     (r ~
        2**61 / m)
        p   = (e * r) >> (31 - n)                            (units of 2**-30)
        y   = clamp(((p * mult + 2**(shift-1)) >> shift) + zero_point)              (ratio = 2**-30
        / to.scale)

    seed[i] = floor(2**69 / ((2 * (i + 128) + 1) * 2**30)): the reciprocal of the middle of each of
    128 intervals.
    Shapes: x (..., C) of at most 8 bits -> y (..., C); exp_table int32 (2**bits,).
    Needs:  C * 2**k < 2**31, exp_table[0] = 2**k the greatest entry.
    Source: this project.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    exp_table: Data
    to: Quant
    ratio: Dyadic

    def infer(self) -> Tensor:
        x = self.x.type
        if (
            not isinstance(x.elem, Quant)
            or x.elem.storage.bits > 8
            or not x.elem.is_per_tensor
            or not x.rank
        ):
            self.fail(f"x is {x}", "at most 8 bits, one scale and rank 1 or more are needed")
        if not x.shape[-1]:
            self.fail(f"x is {x}", "at least one element along the last axis is needed")
        size, table = 1 << x.elem.storage.bits, self.exp_table.array
        if table.shape != (size,) or table.dtype != np.int32:
            self.fail(f"exp_table is {table.dtype}{list(table.shape)}", f"int32[{size}] is needed")
        if not self.to.is_per_tensor:
            self.fail(f"y is quantized along axis {self.to.axis}", "one scale is needed")
        if not (self.ratio.mult.is_scalar and self.ratio.shift.is_scalar):
            self.fail(f"ratio of shape {self.ratio.mult.shape}", "one number is needed")
        return Tensor(x.shape, self.to)

    def faults(self) -> Iterator[str]:
        table = self.exp_table.array
        if table.min() < 0 or table[0] < 1 or table.max() != table[0]:
            yield (
                f"{self}: exp_table reaches [{table.min()}, {table.max()}], 0 to its first entry is"
                " needed"
            )
        unit_ratio = 2.0**-PROBABILITY_BITS / self.to.scale.array
        dyadic = [self.ratio.mult.array], self.ratio.shift.array
        for _, actual, expected in wrong_ratios(*dyadic, [unit_ratio]):
            yield f"{self}: ratio is {actual:g}, the scale needs {expected:g}"

    def evaluate(self, x: Array) -> Array:
        wide = x.astype(np.int64)
        e = self.exp_table.array.astype(np.int64)[wide.max(-1, keepdims=True) - wide]
        total = e.sum(-1, keepdims=True)
        n = SUM_BITS - np.frexp(total.astype(np.float64))[1].astype(
            np.int64
        )  # exact: total < 2**53
        r = reciprocal(total << n)
        p = (e * r) >> (SUM_BITS - n)
        mult, shift = self.ratio.mult.array, self.ratio.shift.array
        y = ((p * mult + (np.int64(1) << (shift - 1))) >> shift) + self.to.zero_point.array
        return stored(np.clip(y, self.to.storage.min, self.to.storage.max), self.result.type)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        first, count = int(self.exp_table.array[0]), self.x.type.shape[-1]
        levels = (1 << self.x.type.quant.storage.bits) - 1
        yield Extreme("distance to the greatest", Bounds.of(0, levels), I64)
        yield Extreme("sum of exponentials", Bounds.of(first, first * count), I32)
        normal, r = (1 << SUM_BITS) - 1, LARGEST_RECIPROCAL
        yield Extreme("reciprocal times sum", Bounds.of(0, normal * r), I64)
        yield Extreme("step of the reciprocal", Bounds.of(0, r << SUM_BITS), I64)
        yield Extreme("exponential times reciprocal", Bounds.of(0, first * r), I64)
        half = 1 << int(self.ratio.shift.array) - 1
        scaled = Bounds.of(0, LARGEST_PROBABILITY).scaled(self.ratio.mult.array)
        scaled = scaled.plus(Bounds.of(half, half)).with_zero()
        yield Extreme("scaled probability", scaled, I64)


def seeds() -> Array:
    """First guesses of 2**61 / m for m in [2**30, 2**31), by the 7 bits below the leading one."""
    return np.array(
        [(1 << 69) // ((2 * (i + 128) + 1) << 30) for i in range(1 << SEED_BITS)], np.int64
    )


def reciprocal(m: Array) -> Array:
    """r ~ 2**61 / m for m in [2**30, 2**31), int64: a table and two Newton steps; relative error
    under 2**-28.

    r' = (r * (2**31 - ((m * r) >> 31))) >> 30
    Needs: r <= 2**31 and m * r < 2**62, so every product fits int64.
    """
    r: Array = seeds()[(m >> 23) - 128]
    for _ in range(2):
        r = (r * ((1 << 31) - ((m * r) >> 31))) >> 30
    return r
