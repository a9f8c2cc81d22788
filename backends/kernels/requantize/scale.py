"""The formula of every requantize, and the numbers of one.

    Y = clamp(((sum over i of (X_i - z_i) * mult_i + 2**(shift-1)) >> shift) + zero_point)

with 64-bit products and an arithmetic shift; other roundings than half_up change what becomes of
ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.view import broadcasts
from qir.ir.fixed import MANTISSA_BITS, MAX_SHIFT, Rounding


@dataclass(frozen=True, eq=False)
class Scale:
    """One mult for each term; every array broadcasts to Y. |mult| < 2**31, shift in [1, 62]."""

    mult: tuple[Array | int, ...]
    shift: Array | int
    zero_point: Array | int
    low: int
    high: int
    rounding: Rounding = Rounding.HALF_UP

    def check(self, terms: int, dtype: str, shape: tuple[int, ...]) -> None:
        """Errors: ValueError where a Y of so many terms cannot have this scale."""
        mults, shift = [np.asarray(m) for m in self.mult], np.asarray(self.shift)
        if len(mults) != terms:
            raise ValueError(f"scale: {len(mults)} multipliers, {terms} are needed")
        if shift.min() < 1 or shift.max() > MAX_SHIFT:
            raise ValueError(
                f"scale: shifts [{shift.min()}, {shift.max()}], 1 to {MAX_SHIFT} are needed"
            )
        largest = max(int(np.abs(m).max()) for m in mults)
        if largest >= 1 << MANTISSA_BITS:
            raise ValueError(f"scale: multiplier {largest}, under 2**{MANTISSA_BITS} is needed")
        if not RANGE[dtype][0] <= self.low <= self.high <= RANGE[dtype][1]:
            raise ValueError(f"scale: clamp [{self.low}, {self.high}] is not a range of {dtype}")
        shapes = [np.shape(v) for v in (*self.mult, self.shift, self.zero_point)]
        if not all(broadcasts(s, shape) for s in shapes):
            raise ValueError(f"scale: {shapes} do not broadcast to {list(shape)}")


@dataclass(frozen=True)
class ScaleTerm:
    """One operand: its dtype (or that of the sum), zero point, and range."""

    dtype: str
    zero_point: int
    low: int
    high: int

    @staticmethod
    def of(dtype: str, zero_point: int = 0, bounds: tuple[int, int] | None = None) -> ScaleTerm:
        return ScaleTerm(dtype, zero_point, *(bounds or RANGE[dtype]))

    @staticmethod
    def total(low: int, high: int) -> ScaleTerm:
        """A sum that is proven to fit i32, independently of these bounds."""
        least, most = RANGE["int32"]
        return ScaleTerm("int32", 0, max(min(low, 0), least), min(max(high, 0), most))
