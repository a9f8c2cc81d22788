"""The tail by rows of a dense contraction: which form of scale_rows is exact, and its numbers.

With s the sum times the mantissa of its row, e the row's exponent, v = 2**7 + bias + residual:

    y = clip((v >> 8) + ((s * mult + ((2 * (v & 255) + 1) << (n - 9))) >> n)),  n = shift - e

where the shifts of all channels have been made one by shifting multipliers to the left. If n lies
in [32, 62] for every exponent and s fits 32 bits, the high words of these sums are all that is
needed. Else each term is shifted in 64 bits, by what its row and channel say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, RowNumbers, RowTail
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.epilogue import acc_range
from qir.ir.ops.sequence.rows import FRACTION, MULT_BITS

MOST_LEFT = 31 - MULT_BITS  # by which multipliers can be shifted to the left
HALF = 1 << FRACTION - 1


@dataclass(frozen=True, eq=False)
class TailNumbers:
    """Those of each channel, by their fields in records, and those that all channels have."""

    channels: Mapping[str, Array]
    shared: Mapping[str, int]


def plan_row_tail(tail: RowTail, channels: int, const: Constants) -> tuple[RowTail, TailNumbers]:
    """The tail in its cheapest form, and its numbers."""
    numbers = const.rows
    assert numbers is not None
    tail = replace(tail, is_short=_is_short(const), has_bias=numbers.bias is not None)
    form = _high_words(tail, channels, numbers) if tail.is_short else None
    if form is not None:
        return replace(tail, is_high=True, shared=tuple(form.shared)), form
    values = {"row_mult": numbers.mult, "row_shift": numbers.shift - FRACTION}
    if numbers.bias is not None:
        values["row_bias"] = np.asarray(long_bias(numbers.bias))
    shared = {"row_residual": numbers.residual[0]} if tail.residual else {}
    each = {name: _spread(v, channels) for name, v in values.items()}
    return replace(tail, shared=tuple(shared)), TailNumbers(each, shared)


def long_bias(bias: Array | int) -> Array | int:
    """floor((s + 1) / 2) + bias + 2**7, shifted by FRACTION, is s + this shifted by one more."""
    return 1 + 2 * HALF + 2 * bias


def _spread(values: Array | int, channels: int) -> Array:
    return np.broadcast_to(np.asarray(values, np.int64), (channels,))


def _is_short(const: Constants) -> bool:
    """The least and the greatest sum, the bias among it, times a mantissa fit 32 bits."""
    low, high = acc_range(const.scaled_weights, const.x_range or RANGE["int16"])
    most = max(int((-low - const.bias).max()), int((high + const.bias).max()))
    return most * 255 <= RANGE["int32"][1]


def _high_words(tail: RowTail, channels: int, numbers: RowNumbers) -> TailNumbers | None:
    """The numbers of the form of high words, where it is exact for every row."""
    mult, shift = _spread(numbers.mult, channels), _spread(numbers.shift, channels)
    is_nonzero = mult != 0
    first = int(shift[is_nonzero].min()) if is_nonzero.any() else int(shift.min())
    excess = np.where(is_nonzero, shift - first, 0)
    low, high = tail.exponents
    # All to the left as far as it goes: as many rows as can be then have a shift of 32 or more.
    more = min(MOST_LEFT, 62 - first + low)
    if int(excess.max()) > more or first + more - high < 32:
        return None
    if int((shift[is_nonzero] - FRACTION - low).max(initial=1)) > 62:
        return None
    # What is shifted by, behind the high word, is this less the exponent of the row.
    shared = {"row_base": first + more - 32}
    each = {"row_mult": mult << (more - excess)}
    value = HALF + _spread(0 if numbers.bias is None else numbers.bias, channels)
    addend_bound = int(np.abs(value).max())
    if tail.has_bias:
        each["row_added"] = value
    if tail.residual is not None:
        terms = _residual(tail, numbers, addend_bound)
        return None if terms is None else TailNumbers(each, shared | terms)
    return TailNumbers(each, shared) if addend_bound < 1 << 31 else None


def _residual(tail: RowTail, numbers: RowNumbers, addend_bound: int) -> dict[str, int] | None:
    """The factor of a residual, and how far it is shifted to the left so that the high word of the
    product is what is needed; None where one of these, or the sum with an addend of magnitude
    `addend_bound`, may need more than 32 bits.
    """
    factor, shift = numbers.residual[0], numbers.residual[1] - FRACTION
    to_factor = min(max(32 - shift, 0), 31 - max(factor, 1).bit_length())
    left_shift = 32 - shift - to_factor
    most = (factor << tail.residual_bits >> shift) + 1 + addend_bound
    if left_shift < 0 or tail.residual_bits + left_shift > 31 or most >= 1 << 31:
        return None
    return {"row_residual": factor << to_factor, "row_left": left_shift}
