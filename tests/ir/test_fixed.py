"""Fixed-point arithmetic against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qir.ir.errors import VerifyError
from qir.ir.fixed import (
    MAX_SHIFT,
    Dyadic,
    Rounding,
    dyadic_of,
    round_half_up,
    round_real,
    shift_right,
)  # fmt: skip
from qir.ir.ops.softmax import reciprocal

FLOATS = st.floats(min_value=2.0**-30, max_value=2.0**29)
HALF = Fraction(1, 2)


def rounded(x: Fraction, rounding: Rounding) -> int:
    """The definition, in fractions."""
    low = floor(x)
    rest = x - low
    if rounding is Rounding.FLOOR or rest < HALF:
        return low
    if rest > HALF:
        return low + 1
    match rounding:
        case Rounding.HALF_UP:
            return low + 1
        case Rounding.HALF_EVEN:
            return low + low % 2
        case _:
            return low + 1 if x > 0 else low


@given(st.integers(-(2**61), 2**61), st.integers(1, 62), st.sampled_from(Rounding))
def test_shift_right_rounds_as_it_says(x: int, shift: int, rounding: Rounding) -> None:
    actual = shift_right(np.array(x), np.array(shift), rounding)
    assert int(actual) == rounded(Fraction(x, 2**shift), rounding)


@given(st.integers(-(2**20), 2**20), st.integers(1, 12), st.sampled_from(Rounding))
def test_shift_right_on_ties(x: int, shift: int, rounding: Rounding) -> None:
    """Halves, where the four rules differ."""
    tied = x * 2**shift + 2 ** (shift - 1)
    actual = shift_right(np.array([tied]), np.array([shift]), rounding)
    assert int(actual[0]) == rounded(Fraction(tied, 2**shift), rounding)


@given(st.integers(-(2**40), 2**40), st.integers(0, 8), st.sampled_from(Rounding))
def test_round_real_is_the_same_rule(numerator: int, bits: int, rounding: Rounding) -> None:
    x = Fraction(numerator, 2**bits)  # exact in float64
    assert int(round_real(np.array(float(x)), rounding)) == rounded(x, rounding)


@given(st.fractions())
def test_round_half_up(x: Fraction) -> None:
    assert round_half_up(x) == rounded(x, Rounding.HALF_UP)


@given(FLOATS, st.sampled_from((8, 15, 24, 31)), st.booleans())
def test_dyadic_is_the_nearest(ratio: float, bits: int, negative: bool) -> None:
    """Within half a unit of the last bit, with a full mantissa."""
    if ratio >= 2.0 ** (bits - 1) or ratio < 2.0 ** (bits - MAX_SHIFT):
        return
    mult, shift = dyadic_of(-ratio if negative else ratio, bits)
    assert (mult < 0) == negative
    assert 2 ** (bits - 1) <= abs(mult) < 2**bits
    assert 1 <= shift <= MAX_SHIFT
    assert abs(Fraction(abs(mult), 2**shift) - Fraction(ratio)) <= Fraction(1, 2 ** (shift + 1))


@given(st.floats(min_value=2.0**-62, max_value=2.0**-32))
def test_tiny_ratios_keep_fewer_bits(ratio: float) -> None:
    mult, shift = dyadic_of(ratio)
    assert shift == MAX_SHIFT
    assert abs(Fraction(mult, 2**shift) - Fraction(ratio)) <= Fraction(1, 2 ** (MAX_SHIFT + 1))


def test_a_mantissa_that_rounds_up_to_a_power_of_two() -> None:
    """1 - 2**-33 is nearest to 2**31 / 2**31: a bit too many, so 2**30 / 2**30."""
    assert dyadic_of(1 - 2.0**-33) == (2**30, 30)
    assert dyadic_of(1.0) == (2**30, 30)
    assert dyadic_of(Fraction(511, 512), bits=8) == (2**7, 7)


def test_zero_and_the_ends() -> None:
    assert dyadic_of(0.0) == (0, 1)
    assert dyadic_of(float(2**30 - 1)) == (2**31 - 2, 1)
    assert dyadic_of(2.0**-62) == (1, 62)
    for ratio, said in (
        (2.0**30, r"ratio 1\.07374e\+09 is 2\*\*30 or more, under 2\*\*30 is needed"),
        (2.0**-64, "needs a shift over 62"),
        (float("inf"), "ratio is inf, a finite number is needed"),
        (float("nan"), "ratio is nan, a finite number is needed"),
    ):
        with pytest.raises(VerifyError, match=said):
            dyadic_of(ratio)


@given(st.lists(FLOATS, min_size=1, max_size=4))
def test_a_common_shift_serves_the_largest(ratios: list[float]) -> None:
    made = Dyadic.with_common_shift(*ratios)
    shifts = {int(d.shift.array) for d in made}
    assert len(shifts) == 1
    (shift,) = shifts
    assert shift == dyadic_of(max(ratios))[1]
    for ratio, d in zip(ratios, made, strict=True):
        mult = int(d.mult.array)
        assert abs(mult) < 2**31
        slack = Fraction(1, 2 ** (shift + 1)) + (Fraction(1, 2**shift) if mult == 2**31 - 1 else 0)
        assert abs(Fraction(mult, 2**shift) - Fraction(ratio)) <= slack


def test_a_common_shift_for_each_channel() -> None:
    a, b = Dyadic.with_common_shift(np.array([0.5, 8.0]), 1.0)
    assert a.mult.shape == b.mult.shape == (2,)
    np.testing.assert_array_equal(a.real, [0.5, 8.0])
    np.testing.assert_array_equal(b.real, [1.0, 1.0])
    np.testing.assert_array_equal(a.shift.array, [30, 27])


@given(FLOATS)
def test_real_is_what_the_pair_stands_for(ratio: float) -> None:
    d = Dyadic.of(ratio)
    assert Fraction(float(d.real)) == Fraction(int(d.mult.array), 2 ** int(d.shift.array))


@given(st.lists(st.integers(2**30, 2**31 - 1), min_size=1, max_size=50))
def test_reciprocal_is_within_its_bound(ms: list[int]) -> None:
    """Relative error under 2**-28, every product within int64."""
    m = np.array([*ms, 2**30, 2**31 - 1, 2**30 + 1], np.int64)
    r = reciprocal(m)
    for mi, ri in zip(m.tolist(), r.tolist(), strict=True):
        exact = Fraction(2**61, mi)
        assert abs(ri - exact) / exact < Fraction(1, 2**28)
        assert ri <= 2**31


def test_reciprocal_on_a_grid() -> None:
    """Every start of the table, both ends of each interval, and 200,000 between."""
    rng = np.random.default_rng(0)
    edges = np.arange(2**30, 2**31, 2**23, dtype=np.int64)
    m = np.concatenate([edges, edges + 2**23 - 1, rng.integers(2**30, 2**31, 200_000)])
    r = reciprocal(m).astype(np.float64)
    exact = 2.0**61 / m.astype(np.float64)
    assert float(np.max(np.abs(r - exact) / exact)) < 2.0**-28
