"""Kernels of rows packed in bytes: pack_rows and unpack_rows.

    pack_rows(x: View, packing, bits, y: View, features)
    unpack_rows(x: View, start: View | None, count, packing, bits, y: View, features)

Arguments ("x", ["constants",] "y"), ("x", ["start",] "y"). Packed rows are bytes without gaps. The
meaning of each is that of its op in qir.ir.ops.sequence.packing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.view import View
from qir.ir.ops.sequence import blocks
from qir.ir.types import Bfp, Packing


@dataclass(frozen=True)
class PackedRows:
    """A unit is a row, of `rows` in each of a number of batches; `pitches`: of batches and rows of
    the integers, `step` from channel to channel.
    """

    packing: Packing
    dtype: str
    bits: int
    batches: int
    rows: int
    width: int
    pitches: tuple[int, int]
    step: int

    @property
    def units(self) -> int:
        return self.batches * self.rows

    @property
    def bytes(self) -> int:
        return blocks.packed_bytes(self.packing, self.width)


@dataclass(frozen=True)
class PackRowsCode:
    of: PackedRows
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.of.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y") if self.fields.entries else ("x", "y")

    @property
    def fields(self) -> Fields:
        is_span = not isinstance(self.of.packing, Bfp)
        return Fields((("steps", "int32", 256), ("inverses", "int32", 256)) if is_span else ())


@dataclass(frozen=True)
class UnpackRowsCode:
    """Rows from start + `count` on are 0."""

    of: PackedRows
    start: str | None
    count: int
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.of.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", *(("start",) if self.start else ()), "y")


def packed_rows(packed: View, integers: View, packing: Packing, bits: int) -> PackedRows:
    """How both lie. Errors: ValueError for packed rows with gaps, or integers of uneven ones."""
    if packed.strides != View.packed(packed.dtype, packed.shape).strides:
        raise ValueError(f"packed rows: strides are {list(packed.strides)}, no gaps are needed")
    outer, strides = integers.shape[:-1], integers.strides[:-1]
    rows = outer[-1] if outer else 1
    pitch = strides[-1] if outer else 0
    batches = prod(outer[:-1])
    if len(outer) > 2 and strides[:-1] != tuple(
        strides[-2] * prod(outer[i + 1 : -1]) for i in range(len(outer) - 1)
    ):
        raise ValueError(f"packed rows: strides are {list(integers.strides)}, even ones are needed")
    between = strides[-2] if len(outer) > 1 else 0
    return PackedRows(
        packing, integers.dtype, bits, batches, rows, integers.shape[-1], (between, pitch),
        integers.strides[-1],
    )  # fmt: skip


def pack_rows(x: View, packing: Packing, bits: int, y: View, features: frozenset[str]) -> Kernel:
    """Integers of `bits` bits to bytes."""
    code = PackRowsCode(packed_rows(y, x, packing, bits), vector_bytes(features))
    if isinstance(packing, Bfp):
        return Kernel(code)
    values = {"steps": blocks.steps(packing.bits), "inverses": blocks.inverses(packing.bits)}
    return Kernel(code, code.fields.pack({n: np.asarray(v) for n, v in values.items()}))


def unpack_rows(
    x: View, start: View | None, count: int, packing: Packing, bits: int, y: View,
    features: frozenset[str],
) -> Kernel:  # fmt: skip
    """Bytes to integers of `bits` bits."""
    of = packed_rows(x, y, packing, bits)
    dtype = None if start is None else start.dtype
    return Kernel(UnpackRowsCode(of, dtype, count, vector_bytes(features)))
