"""Fixed-point arithmetic of rows: scales that are chosen at run time, roots and reciprocals.

A row scale is one i32, e * 256 + a: the number a * 2**e with a mantissa a in [128, 255]. All
functions are exact, take and give int64, and divide nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CODE_TOP = 127  # the greatest code of a row
ALIGNED_BITS = 15  # of an element before it is multiplied by the reciprocal of its row's scale


def code_top(bits: int) -> int:
    """The greatest code of so many bits."""
    return (1 << (bits - 1)) - 1


def reciprocals(top: int) -> Array:
    """top * 2**15 / a for a mantissa a, rounded, by a - 128: below 2**15."""
    return np.array([round(top * 2**15 / a) for a in range(128, 256)], np.int64)


RECIPROCALS = reciprocals(CODE_TOP)

ROOTS = np.array([round(2**16 / np.sqrt((i + 32.5) / 32)) for i in range(96)], np.int64)
"""2**16 / sqrt(m) in the middle of each of 96 intervals of m in [1, 4), each 1/32 wide."""

SEEDS = np.array([round(2**16 / ((i + 128.5) / 128)) for i in range(128)], np.int64)
"""2**16 / m in the middle of each of 128 intervals of m in [1, 2)."""

ROOT_BITS = 24
RECIPROCAL_BITS = 30


def bit_length(x: Array) -> Array:
    """The bits of x >= 0: the least n with x < 2**n."""
    x = np.asarray(x, np.int64)
    n = np.frexp(x.astype(np.float64))[1].astype(np.int64)
    # A float64 of more than 53 bits may have been rounded up to the next power of two.
    return np.asarray(n - ((x >> np.maximum(n - 1, 0)) == 0) * (n > 0))


def shifted(x: Array, by: Array) -> Array:
    """floor(x * 2**-by): to the right where by > 0, to the left where by < 0."""
    return np.asarray(np.where(by >= 0, x >> np.maximum(by, 0), x << np.maximum(-by, 0)))


def rounded(x: Array, by: Array) -> Array:
    """x * 2**-by rounded half up, by clipped to [1, 62]."""
    by = np.clip(by, 1, 62)
    return np.asarray((x + (np.int64(1) << (by - 1))) >> by)


def row_scale(greatest: Array) -> Array:
    """The least scale a * 2**e that is no less than `greatest`; of 0, that of 1.

    With L bits in it: e = L - 8 and a = ceil(greatest / 2**e); an a of 256 becomes 128, e + 1.
    """
    top = np.maximum(np.asarray(greatest, np.int64), 1)
    e = bit_length(top) - 8
    up = (np.int64(1) << np.maximum(e, 0)) - 1
    a = shifted(top + up, e)
    over = a >= 256
    return np.asarray(np.where(over, (e + 1) * 256 + 128, e * 256 + a))


def mantissa(scale: Array) -> Array:
    """a of a row scale."""
    return np.asarray(np.asarray(scale, np.int64) & 255)


def exponent(scale: Array) -> Array:
    """e of a row scale."""
    return np.asarray(np.asarray(scale, np.int64) >> 8)


def codes(x: Array, scale: Array, top: int) -> Array:
    """round(x * top / (a * 2**e)), half up, in [-top, top]: t * reciprocals(top)[a - 128] / 2**22,
    where t = floor(x * 2**(7 - e)), clipped to 16 bits.
    """
    t = np.clip(np.asarray(x, np.int64), -(2**31), 2**31 - 1)
    # Beyond 16 bits to the left every x but 0 is clipped, beyond 31 to the right its sign is left.
    by = np.clip(exponent(scale) - 7, -16, 31)
    t = np.clip(shifted(t, by), -(2**15), 2**15 - 1)
    inverse = reciprocals(top)[np.clip(mantissa(scale) - 128, 0, 127)]
    return np.asarray(np.clip((t * inverse + (1 << 21)) >> 22, -top, top))


def reciprocal_root(x: Array) -> tuple[Array, Array]:
    """(y, h) with 1 / sqrt(x) = y * 2**-(24 + h), y in (2**23, 2**24], for 1 <= x < 2**62.

    m = x * 2**-e in [2**30, 2**32), e even; a table of 96 and two Newton steps
    y' = y * (3 - m * y * y) / 2; h = 15 + e / 2. Relative error under 2**-22.
    """
    x = np.asarray(x, np.int64)
    e = bit_length(x) - 32
    e = e + (e & 1)
    m = shifted(x, e)
    y = ROOTS[(m >> 25) - 32]
    t = (m * ((y * y) >> 16)) >> 16
    y = (y * ((3 << 30) - t)) >> 23
    t = (m * ((y * y) >> 24)) >> 24
    y = (y * ((3 << 30) - t)) >> 31
    return np.minimum(y, 1 << ROOT_BITS), 15 + (e >> 1)


def reciprocal(x: Array) -> tuple[Array, Array]:
    """(r, h) with 1 / x = r * 2**-(30 + h), r about 2**29 to 2**30, for 1 <= x < 2**40.

    m = x * 2**-(L - 16) of 16 bits, L the bits of x, h = L - 1; a table of 128 and one Newton step.
    Relative error under 2**-14.
    """
    x = np.asarray(x, np.int64)
    length = bit_length(x)
    m = shifted(x, length - 16)
    r = SEEDS[(m >> 8) - 128]
    t = (m * r) >> 1
    return np.minimum((r * ((2 << 30) - t)) >> 16, 1 << RECIPROCAL_BITS), length - 1
