"""Fixed-point arithmetic: exact, pure functions that define every integer result of qir."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.data import Data
from qir.ir.errors import VerifyError

Array = npt.NDArray[Any]

MANTISSA_BITS = 31
MAX_SHIFT = 62
LEAST_BITS = 10  # of the mantissa of the largest of several ratios that share a shift
FLOAT_SLACK = 2.0**-48  # relative error of a ratio that is computed in float64


class Rounding(Enum):
    """How a real or a shifted-out remainder becomes an integer; always written, never a default."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    HALF_AWAY = "half_away"
    FLOOR = "floor"

    def __str__(self) -> str:
        return self.value


def wrong_ratios(
    mults: Sequence[Array], shift: Array, ratios: Sequence[Array]
) -> Iterator[tuple[int, float, float]]:
    """Which of the integers `mults` are not `ratios` (signed, float64) times 2**shift: its place,
    mult / 2**shift where it is wrong, and the ratio there.

    A nearest integer errs by at most 2**-(shift + 1), however many bits a mantissa has: that of
    Dyadic.of, and of with_common_shift, where small ratios take the shift of the largest. That
    alone would accept 1 / 2**1 for 0.7. So an error is also at most 2**-(LEAST_BITS + 1) of the
    largest ratio, except for shift MAX_SHIFT, at which tiny ratios have few bits.
    """
    unit = np.ldexp(1.0, -np.asarray(shift))
    largest = reduce(np.maximum, map(np.abs, ratios))
    coarse = np.where(shift == MAX_SHIFT, np.inf, largest * 2.0 ** -(LEAST_BITS + 1))
    for i, (mult, ratio) in enumerate(zip(mults, ratios, strict=True)):
        real = mult * unit
        slack = np.minimum(unit / 2, coarse) + np.abs(ratio) * FLOAT_SLACK
        mismatch = np.abs(real - ratio) > slack
        if np.any(mismatch):
            at = int(np.argmax(mismatch))
            actual, expected = (
                float(np.broadcast_to(v, mismatch.shape).flat[at]) for v in (real, ratio)
            )
            yield i, actual, expected


def round_real(x: Array, rounding: Rounding) -> Array:
    """The integers nearest to the reals `x`, ties as `rounding` says; floats in and out."""
    integers: Array
    match rounding:
        case Rounding.HALF_EVEN:
            integers = np.rint(x)
        case Rounding.HALF_UP:
            integers = np.floor(x)
            integers = integers + (x - integers >= 0.5)
        case Rounding.HALF_AWAY:
            integers = np.trunc(x)
            integers = integers + np.sign(x) * (np.abs(x - integers) >= 0.5)
        case Rounding.FLOOR:
            integers = np.floor(x)
    return integers


def round_half_up(x: Fraction) -> int:
    """floor(x + 1/2), exactly."""
    return (2 * x.numerator + x.denominator) // (2 * x.denominator)


def shift_right(x: Array, shift: Array, rounding: Rounding) -> Array:
    """x / 2**shift rounded to an integer; int64 in, int64 out, shift >= 1.

    half_up:   (x + 2**(shift-1)) >> shift
    floor:     x >> shift
    half_even: half_up, less 1 where the remainder is exactly half and the result odd
    half_away: half_up, less 1 where the remainder is exactly half and x < 0

    Needs: |x| + 2**(shift-1) < 2**63.
    """
    x, shift = np.asarray(x, np.int64), np.asarray(shift, np.int64)
    if rounding is Rounding.FLOOR:
        return np.asarray(x >> shift)
    half = np.int64(1) << (shift - 1)
    up: Array = (x + half) >> shift
    if rounding is Rounding.HALF_UP:
        return up
    tie = (x & ((half << 1) - 1)) == half
    down = tie & ((up & 1 == 1) if rounding is Rounding.HALF_EVEN else (x < 0))
    return np.asarray(up - down)


def dyadic_of(ratio: float | Fraction, bits: int = MANTISSA_BITS) -> tuple[int, int]:
    """(mult, shift) with mult / 2**shift nearest to `ratio`, mult of at most `bits` bits; signed.

    |ratio| = m * 2**e (frexp, m in [1/2, 1)); mult = round_half_up(m * 2**bits), shift = bits - e;
    a mult of exactly 2**bits becomes 2**(bits-1), shift - 1. Shifts stay in [1, 62].
    Errors: VerifyError when the ratio is zero's neighbour (shift > 62), too large (shift < 1), or
            not finite.
    Source: HAWQ-V3, arXiv:2011.10680, batch_frexp; the corner case is this project's.
    """
    if not isinstance(ratio, Fraction):
        if not np.isfinite(ratio):
            raise VerifyError(f"dyadic: ratio is {ratio}, a finite number is needed")
        ratio = Fraction(ratio)
    if ratio == 0:
        return 0, 1
    size = abs(ratio)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent <= size:
        exponent += 1  # now size = m * 2**exponent with m in [1/2, 1)
    mult, shift = round_half_up(size * Fraction(2) ** (bits - exponent)), bits - exponent
    if mult == 1 << bits:
        mult, shift = mult >> 1, shift - 1
    if shift > MAX_SHIFT:  # tiny ratios keep fewer mantissa bits, as long as one is left
        mult, shift = round_half_up(size * (1 << MAX_SHIFT)), MAX_SHIFT
    if mult == 0:
        raise VerifyError(f"dyadic: ratio {float(ratio):g} needs a shift over {MAX_SHIFT}")
    if shift < 1:
        raise VerifyError(
            f"dyadic: ratio {float(ratio):g} is 2**{exponent - 1} or more, under 2**{bits - 1} is"
            " needed"
        )
    return (mult if ratio > 0 else -mult), shift


def one_shift(ratios: npt.ArrayLike, bits: int = MANTISSA_BITS) -> tuple[Array, int]:
    """(mult, shift) with mult / 2**shift nearest to each of `ratios`, one shift for all: that of
    the largest, whose mult has `bits` bits.
    """
    reals = np.asarray(ratios, np.float64)
    _, shift = dyadic_of(float(np.abs(reals).max(initial=0)), bits)
    top = (1 << bits) - 1
    mults = np.clip(np.floor(np.ldexp(reals, shift) + 0.5), -top, top)
    return mults.astype(np.int64), shift


@dataclass(frozen=True)
class Dyadic:
    """One ratio, or one per channel: mult / 2**shift; both int64 of the same shape, |mult| < 2**31,
    1 <= shift <= 62.

    Source: HAWQ-V3, arXiv:2011.10680.
    """

    mult: Data
    shift: Data

    @staticmethod
    def of(ratio: float | Fraction | Array, bits: int = MANTISSA_BITS) -> Dyadic:
        """The nearest dyadic number to each of `ratio`."""
        reals: list[float | Fraction]
        if isinstance(ratio, (int, float, Fraction)):
            shape, reals = (), [ratio]
        else:
            shape, reals = np.shape(ratio), [float(r) for r in np.ravel(ratio)]
        pairs = np.array([dyadic_of(r, bits) for r in reals], np.int64).reshape(-1, 2)
        return Dyadic(Data(pairs[:, 0].reshape(shape)), Data(pairs[:, 1].reshape(shape)))

    @staticmethod
    def with_common_shift(*ratios: Array | float, bits: int = MANTISSA_BITS) -> tuple[Dyadic, ...]:
        """Dyadic numbers of `ratios` (broadcast together) that share one shift where they meet.

        The shift is the one of the largest ratio; the others lose mantissa bits:
        mult_i = round_half_up(ratio_i * 2**shift).
        """
        reals = np.broadcast_arrays(*[np.asarray(r, np.float64) for r in ratios])
        largest = np.max(np.abs(np.stack(reals)), axis=0)
        shift = Dyadic.of(np.atleast_1d(largest), bits).shift.array.reshape(largest.shape)
        top = (1 << bits) - 1

        def mult(real: Array) -> Data:
            pairs = zip(np.ravel(real), np.ravel(shift), strict=True)
            integers = [
                round_half_up(abs(Fraction(float(r))) * 2 ** int(s)) * (1 if r >= 0 else -1)
                for r, s in pairs
            ]
            return Data(np.clip(np.array(integers, np.int64), -top, top).reshape(real.shape))

        return tuple(Dyadic(mult(r), Data(shift)) for r in reals)

    @property
    def real(self) -> Array:
        """mult / 2**shift as float64 (exact)."""
        return np.asarray(np.ldexp(self.mult.array.astype(np.float64), -self.shift.array))

    def __str__(self) -> str:
        return f"dyadic<{self.mult}, {self.shift}>"
