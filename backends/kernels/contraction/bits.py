"""Weights of few bits at their true width, in bit planes that vectors unpack by shifts and masks.

A row is what one step of a kernel reads: any number of weights, a byte each. Packed, a weight w of
`bits` bits is u = w + 2**(bits-1), and u is cut into planes, the first with its lowest bits. A
plane of p bits holds 8 / p steps in one row of bytes: step j in bits [p*j, p*j + p) of each byte.
Steps are packed by units, after which every plane begins a new byte; a unit is its planes one after
the other, and only the last unit of a stretch may be short. Weights of 8 bits stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array

PLANES = {8: (8,), 6: (4, 2), 5: (4, 1), 4: (4,), 3: (2, 1), 2: (2,)}
"""The widths of the planes of a weight, by its bits."""


@dataclass(frozen=True)
class Field:
    """Bits [shift, shift + width) of the bytes of `row` are bits [at, at + width) of u."""

    row: int
    shift: int
    width: int
    at: int


def unit_steps(bits: int) -> int:
    """Steps of one unit."""
    return 8 // min(PLANES[bits])


def packed_rows(bits: int, steps: int) -> int:
    """Rows that a stretch of `steps` steps takes: bits / 8 of each, and up to a row per plane."""
    unit = unit_steps(bits)
    return steps // unit * (unit * bits // 8) + _rows(PLANES[bits], steps % unit)


def fields(bits: int, step: int, steps: int) -> tuple[Field, ...]:
    """Where the weights of one step of a stretch lie."""
    unit, planes = unit_steps(bits), PLANES[bits]
    first, local = step // unit * unit, step % unit
    row, count = first * bits // 8, min(unit, steps - first)
    parts, at = [], 0
    for i, width in enumerate(planes):
        begin = row + _rows(planes[:i], count)
        parts.append(Field(begin + local * width // 8, local * width % 8, width, at))
        at += width
    return tuple(parts)


def pack(rows: Array, bits: int) -> Array:
    """(..., steps, width) weights -> (..., `packed_rows`, width) bytes."""
    if bits == 8:
        return np.ascontiguousarray(rows, np.int8).view(np.uint8)
    steps = rows.shape[-2]
    raised = (np.asarray(rows, np.int16) + (1 << (bits - 1))).astype(np.uint8)
    packed = np.zeros((*rows.shape[:-2], packed_rows(bits, steps), rows.shape[-1]), np.uint8)
    for step in range(steps):
        for f in fields(bits, step, steps):
            part = raised[..., step, :] >> f.at & ((1 << f.width) - 1)
            packed[..., f.row, :] |= part << f.shift
    return packed


def _rows(planes: tuple[int, ...], steps: int) -> int:
    return sum(-(-steps * width // 8) for width in planes)
