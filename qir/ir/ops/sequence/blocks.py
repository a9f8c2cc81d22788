"""Rows of integers packed in bytes by blocks: codes of few bits, and numbers that a block shares.

A row of C integers in blocks of `block`: the codes of all blocks, C * bits / 8 bytes, then the
numbers of all blocks. Of `Bfp` a number is an exponent, one byte; of `Span` it is a step, and in
the bytes behind all steps a least value plus 128. Codes are cut into planes of bits, those of a
block one after the other: of a plane of p bits byte i holds bits of the codes i, i + s, i + 2 * s,
.., s = block * p / 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.rows import bit_length
from qir.ir.types import Bfp, Int, Packing

Array = npt.NDArray[Any]

PLANES = {4: (4,), 6: (4, 2), 8: (8,)}
"""The widths of the planes of a code, lowest bits first, by its bits."""

STEP_FRACTION = 3  # bits of a step below one of the integers that are packed
INVERSE_BITS = 16


def bits_of(packing: Packing) -> int:
    """Bits of a code."""
    return packing.mantissa_bits if isinstance(packing, Bfp) else packing.bits


def packed_bytes(packing: Packing, width: int) -> int:
    """Bytes of a packed row of `width` integers."""
    numbers = 1 if isinstance(packing, Bfp) else 2
    return width * bits_of(packing) // 8 + numbers * (width // packing.block)


def steps(bits: int) -> Array:
    """The step, in eighths, of a block whose greatest value is r above its least: by r, (256,).

    max(1, ceil(8 * r / (2**bits - 1)))
    """
    top = (1 << bits) - 1
    return np.asarray(np.maximum(1, ((np.arange(256) << STEP_FRACTION) + top - 1) // top))


def inverses(bits: int) -> Array:
    """round(8 * 2**16 / step), by the same r, (256,)."""
    step = steps(bits)
    return np.asarray(((1 << STEP_FRACTION + INVERSE_BITS) + step // 2) // step)


def pieces(bits: int, block: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(piece, byte, shift, width, at): of the codes piece * n, .., piece * n + n - 1 of a block,
    n = `piece_size`, the bits [at, at + width) are in bits [shift, shift + width) of the bytes from
    `byte` on.
    """
    size, first, at = piece_size(bits, block), 0, 0
    for width in PLANES[bits]:
        stride = block * width // 8
        for piece in range(block // size):
            code = piece * size
            yield piece, first + code % stride, code // stride * width, width, at
        first, at = first + stride, at + width


def piece_size(bits: int, block: int) -> int:
    """Codes that lie in adjacent bytes at one shift."""
    return block * min(PLANES[bits]) // 8


def pack(x: Array, packing: Packing, storage: Int) -> Array:
    """Rows (..., C) of `storage` -> (..., packed_bytes) uint8."""
    bits, block = bits_of(packing), packing.block
    parts = np.asarray(x, np.int64).reshape(*x.shape[:-1], -1, block)
    if isinstance(packing, Bfp):
        codes, numbers = _floating(parts, bits, storage)
    else:
        codes, numbers = _spanned(parts, bits)
    size = piece_size(bits, block)
    data = np.zeros((*parts.shape[:-1], block * bits // 8), np.uint8)
    for piece, byte, shift, width, at in pieces(bits, block):
        part = codes[..., piece * size : (piece + 1) * size] >> at & ((1 << width) - 1)
        data[..., byte : byte + size] |= (part << shift).astype(np.uint8)
    flat = data.reshape(*x.shape[:-1], -1)
    return np.concatenate([flat, *(n[..., 0].astype(np.uint8) for n in numbers)], -1)


def _floating(parts: Array, bits: int, storage: Int) -> tuple[Array, list[Array]]:
    """t = clip(L - bits + 1, 0, storage's bits - bits), L the bits of max|x|;
    code = clip((x + 2**t / 2) >> t) + 2**(bits-1)
    """
    length = bit_length(np.abs(parts).max(-1, keepdims=True))
    t = np.clip(length - bits + 1, 0, storage.bits - bits)
    half = 1 << (bits - 1)
    codes = np.clip((parts + ((np.int64(1) << t) >> 1)) >> t, -half, half - 1) + half
    return codes, [t]


def _spanned(parts: Array, bits: int) -> tuple[Array, list[Array]]:
    """code = min(((x - least) * inverses[r] + 2**15) >> 16, 2**bits - 1), r = greatest - least"""
    low = parts.min(-1, keepdims=True)
    r = parts.max(-1, keepdims=True) - low
    codes = ((parts - low) * inverses(bits)[r] + (1 << INVERSE_BITS - 1)) >> INVERSE_BITS
    return np.minimum(codes, (1 << bits) - 1), [steps(bits)[r], low + 128]


def unpack(data: Array, packing: Packing, width: int, storage: Int) -> Array:
    """Packed rows -> (..., width) int64, of any bytes within `storage`.

    Bfp:  (code - 2**(bits-1)) * 2**t, t at most the storage's bits less `bits`
    Span: clip(least + ((step * code + 4) >> 3))
    """
    bits, block = bits_of(packing), packing.block
    count, outer = width // block, data.shape[:-1]
    bytes_ = data[..., : width * bits // 8].astype(np.int64).reshape(*outer, count, -1)
    numbers = data[..., width * bits // 8 :].astype(np.int64).reshape(*outer, -1, count, 1)
    size = piece_size(bits, block)
    codes = np.zeros((*outer, count, block), np.int64)
    for piece, byte, shift, planes, at in pieces(bits, block):
        part = bytes_[..., byte : byte + size] >> shift & ((1 << planes) - 1)
        codes[..., piece * size : (piece + 1) * size] |= part << at
    if isinstance(packing, Bfp):
        t = np.minimum(numbers[..., 0, :, :], storage.bits - bits)
        rows = (codes - (1 << (bits - 1))) << t
    else:
        step, low = numbers[..., 0, :, :], numbers[..., 1, :, :] - 128
        half = 1 << (STEP_FRACTION - 1)
        rows = np.clip(low + ((step * codes + half) >> STEP_FRACTION), storage.min, storage.max)
    return np.asarray(rows.reshape(*outer, width))
