"""The tail by rows of a dense contraction: which form of scale_rows is exact, and its numbers.

With s the sum times the mantissa of its row, e the row's exponent, v = 2**7 + bias + residual:

    y = clip((v >> 8) + ((s * mult + ((2 * (v & 255) + 1) << (n - 9))) >> n)),  n = shift - e

where the shifts of all channels have been made one by shifting multipliers to the left. If n lies
in [32, 62] for every exponent and s fits 32 bits, the high words of these sums are all that is
needed. Else each term is shifted in 64 bits, by what its row and channel say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, HighWords, RowNumbers, RowTail
from qir.backends.kernels.dots import Scheme
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.epilogue import acc_range
from qir.ir.ops.sequence.rows import FRACTION, MULT_BITS

MOST_LEFT = 31 - MULT_BITS  # by which multipliers can be shifted to the left
HALF = 1 << FRACTION - 1


def plan_row_tail(
    tail: RowTail, channels: int, const: Constants
) -> tuple[RowTail, Mapping[str, Array]]:
    """The tail in its cheapest form, and its numbers of channels by the names of their fields."""
    numbers = const.rows
    assert numbers is not None
    tail = replace(tail, is_short=_is_short(const))
    found = _high_words(tail, channels, numbers) if tail.is_short else None
    if found is not None:
        return replace(tail, words=found[0]), found[1]
    bias = np.asarray(0 if numbers.bias is None else numbers.bias)
    values = {
        "row_mult": numbers.mult,
        "row_shift": numbers.shift - FRACTION,
        # floor((s + 1) / 2) + bias + 2**7, shifted by FRACTION, is s + this shifted by one more
        "row_bias": 1 + 2 * HALF + 2 * bias,
        **({"row_residual": np.asarray(numbers.residual[0])} if tail.residual else {}),
    }
    return tail, {name: _spread(v, channels) for name, v in values.items()}


def field_names(values: Mapping[str, Array], scheme: Scheme) -> tuple[str, ...]:
    """As they stand in records: factors of every second lane apart, where these are taken so."""
    if scheme is not Scheme.PAIRS or "row_shift" in values:
        return tuple(values)
    apart = ("row_mult", "row_part")
    return tuple(
        each
        for name in values
        for each in ((f"{name}_even", f"{name}_odd") if name in apart else (name,))
    )


def _spread(values: Array, channels: int) -> Array:
    return np.broadcast_to(np.asarray(values, np.int64), (channels,))


def _is_short(const: Constants) -> bool:
    """The least and the greatest sum, the bias among it, times a mantissa fit 32 bits."""
    low, high = acc_range(const.scaled_weights, const.x_range or RANGE["int16"])
    most = max(int((-low - const.bias).max()), int((high + const.bias).max()))
    return most * 255 <= RANGE["int32"][1]


def _high_words(
    tail: RowTail, channels: int, numbers: RowNumbers
) -> tuple[HighWords, dict[str, Array]] | None:
    """The form of high words and its numbers, where it is exact for every row."""
    mult, shift = _spread(numbers.mult, channels), _spread(numbers.shift, channels)
    used = mult != 0
    first = int(shift[used].min()) if used.any() else int(shift.min())
    left = np.where(used, shift - first, 0)
    low, high = tail.exponents
    # All to the left as far as it goes: as many rows as can be then have a shift of 32 or more.
    more = min(MOST_LEFT, 62 - first + low)
    if int(left.max()) > more or first + more - high < 32:
        return None
    if int((shift[used] - FRACTION - low).max(initial=1)) > 62:
        return None
    factors = mult << (more - left)
    words = HighWords(first + more - 32, has_bias=numbers.bias is not None)
    value = HALF + _spread(np.asarray(0 if numbers.bias is None else numbers.bias), channels)
    if tail.residual is None:
        parts = {"row_whole": value >> FRACTION, "row_part": 2 * (value & (2 * HALF - 1)) + 1}
        fits = np.abs(value).max() < 1 << 31
        return (words, {"row_mult": factors, **(parts if words.has_bias else {})}) if fits else None
    residual = _residual(tail, numbers, int(np.abs(value).max()))
    if residual is None:
        return None
    by, factor = residual
    more_fields = {"row_added": value, "row_residual": _spread(np.asarray(factor), channels)}
    return replace(words, residual=by), {"row_mult": factors, **more_fields}


def _residual(
    tail: RowTail, numbers: RowNumbers, beside: int
) -> tuple[tuple[int, int], int] | None:
    """How a residual is shifted before and behind its product, and its factor; None where one of
    these, or the sum with what is `beside`, may need more than 32 bits.
    """
    factor, shift = numbers.residual[0], numbers.residual[1] - FRACTION
    bits = tail.residual_bits
    left = max(32 - shift, 0)
    to_factor = min(left, 31 - max(factor, 1).bit_length())
    most = ((factor << bits) >> shift) + 1 + beside
    if bits + left - to_factor > 31 or most >= 1 << 31:
        return None
    return (left - to_factor, max(shift - 32, 0)), factor << to_factor
