"""Tensors of microscaling formats, MXINT8 and MXINT4: blocks of 32 integers with one power of two.

    real = element * 2**(2 - bits) * 2**(exponent - 127)

A block's exponent byte is E8M0: biased by 127, 255 for NaN. It is block floating point as `Bfp`
defines it: element = clip(round_half_up(x / u)), u = 2**(floor(log2(max|x|)) - bits + 2).
Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6.3; MXINT4: its form in 4
        bits, as in arXiv:2310.10537.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qir.ir.data import Data
from qir.ir.errors import DataError
from qir.ir.types import Array, Int, Quant

BLOCK = 32
BIAS = 127
NAN = 255
WIDTHS = (4, 8)


@dataclass(frozen=True, eq=False)
class MxTensor:
    """elements (..., C) int8, each of `bits` bits; exponents (..., ceil(C / 32)) uint8."""

    elements: Array
    exponents: Array
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise DataError(f"mx: elements of {self.bits} bits, 4 or 8 are needed")
        outer, width = self.elements.shape[:-1], self.elements.shape[-1]
        shape = (*outer, -(-width // BLOCK))
        if self.exponents.shape != shape or self.exponents.dtype != np.uint8:
            raise DataError(
                f"mx: exponents {self.exponents.dtype}{list(self.exponents.shape)}, uint8"
                f"{list(shape)} is needed"
            )
        top = 1 << (self.bits - 1)
        low, high = int(self.elements.min(initial=0)), int(self.elements.max(initial=0))
        if self.elements.dtype != np.int8 or low < -top or high >= top:
            raise DataError(
                f"mx: elements {self.elements.dtype} reach [{low}, {high}], int8 in [{-top},"
                f" {top - 1}] is needed"
            )

    @property
    def scales(self) -> Array:
        """The reals of one step of an element, (..., blocks) float64; NaN where a block is."""
        scales = np.ldexp(1.0, self.exponents.astype(np.int64) - BIAS + 2 - self.bits)
        return np.where(self.exponents == NAN, np.nan, scales)

    @property
    def reals(self) -> Array:
        """(..., C) float64, exact."""
        each = np.repeat(self.scales, BLOCK, -1)[..., : self.elements.shape[-1]]
        return np.asarray(self.elements * each)

    @property
    def quant(self) -> Quant:
        """The element type of the same integers in a graph: a scale for each block.

        Errors: DataError for a block that is NaN, or that is not whole.
        """
        width = self.elements.shape[-1]
        if width % BLOCK or (self.exponents == NAN).any():
            raise DataError(f"mx: {width} elements in a row, whole blocks of {BLOCK} are needed")
        scale = Data(self.scales)
        zero = Data(np.zeros(self.exponents.shape, np.int64))
        return Quant(Int(self.bits, True), scale, zero, self.elements.ndim - 1, BLOCK)


def encode(x: npt.ArrayLike, bits: int) -> MxTensor:
    """Reals (..., C) in blocks along the last axis; a block with a NaN or an infinity is NaN.

    Errors: DataError for what has no axis, or other bits than 4 and 8.
    """
    reals = np.asarray(x, np.float64)
    if not reals.ndim or bits not in WIDTHS:
        raise DataError(f"mx: shape {list(reals.shape)} in {bits} bits, rows in 4 or 8 are needed")
    width = reals.shape[-1]
    count = -(-width // BLOCK)
    padded = np.zeros((*reals.shape[:-1], count * BLOCK))
    padded[..., :width] = reals
    parts = padded.reshape(*reals.shape[:-1], count, BLOCK)
    is_nan = np.asarray(~np.isfinite(parts).all(-1))
    parts = np.where(is_nan[..., None], 0.0, parts)
    top = np.abs(parts).max(-1)
    shared = np.clip(np.frexp(top)[1] - 1, -BIAS, NAN - 1 - BIAS)
    shared = np.where(top > 0, shared, -BIAS)
    half = 1 << (bits - 1)
    steps = np.ldexp(parts, (bits - 2 - shared)[..., None])
    elements = np.clip(np.floor(steps + 0.5), -half, half - 1).astype(np.int8)
    exponents = np.where(is_nan, NAN, shared + BIAS).astype(np.uint8)
    flat = elements.reshape(*reals.shape[:-1], -1)[..., :width]
    return MxTensor(np.ascontiguousarray(flat), exponents, bits)
