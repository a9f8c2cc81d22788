"""The kernel of tables: any function of an 8-bit tensor.

    lookup(x: View, table, first, y: View, features)         arguments ("x", "constants", "y")
        y[..., c] = table[x[..., c] - first], or with a table for each channel (the last axis)
        table[c, x[..., c] - first].

`first` is the least stored value of x's storage (-128 for i8, 0 for u4, ...); tables hold stored
values of y's dtype for every value of the storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.dots import AVX512, HVX
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View

ENTRIES = 256


class GatherMethod(Enum):
    """How elements of a table of bytes are found, and how many at once."""

    LOOP = 1
    TBL = 16  # four tables of 64 bytes each in four registers of NEON
    PERMUTE = 64  # AVX512BW: the table as 128 words
    VLUT = 128  # Hexagon: two vectors, whose 16-bit lanes hold entries i and i + 64


GATHERS = (
    (AVX512, GatherMethod.PERMUTE),
    (frozenset({"aarch64", "neon"}), GatherMethod.TBL),
    (HVX, GatherMethod.VLUT),
)
"""What a machine with these traits has."""


@dataclass(frozen=True)
class LookupCode(NestCode):
    """The nest's operands: x, the index of the table, y. Tables are in the order of x as a u8.

    With a gather other than LOOP there is one table, of bytes, in vector registers.
    """

    dtype: str
    tables: int
    nest: Nest
    gather: GatherMethod

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        if self.gather is not GatherMethod.LOOP:
            return Fields((("bytes", "uint8", ENTRIES),))
        return Fields((("table", self.dtype, self.tables * ENTRIES),))


def lookup(x: View, table: Array, first: int, y: View, features: frozenset[str]) -> Kernel:
    """Y = table[X - first]."""
    if x.item != 1 or x.shape != y.shape:
        raise ValueError(
            f"lookup: x is {x.dtype} {list(x.shape)}, y {list(y.shape)};"
            " 8 bits and one shape are needed"
        )
    channels = y.shape[-1] if y.shape else 1
    rows = np.atleast_2d(table)
    if table.dtype != y.dtype or len(rows) not in (1, channels) or table.ndim > 2:
        raise ValueError(
            f"lookup: table is {table.dtype} {list(table.shape)}, {y.dtype} for 1 or {channels}"
            " channels is needed"
        )
    spread = np.zeros((len(rows), ENTRIES), table.dtype)
    spread[:, (np.arange(rows.shape[1]) + first) % ENTRIES] = rows
    index = [0] * len(y.shape)
    if len(rows) > 1:
        index[-1] = 1
    loops = nest(y.shape, (x.strides, index, y.strides))
    gather = next((g for needs, g in GATHERS if needs <= features), GatherMethod.LOOP)
    is_plain = len(rows) == 1 and y.item == 1 and loops.steps[0] == loops.steps[-1] == 1
    if not is_plain or loops.row < gather.value:
        gather = GatherMethod.LOOP
    code = LookupCode(y.dtype, len(rows), loops, gather)
    if gather is GatherMethod.LOOP:
        return Kernel(code, code.fields.pack({"table": spread}))
    content: Array = spread.view(np.uint8).reshape(-1)
    if gather is GatherMethod.VLUT:
        content = content.reshape(2, 2, ENTRIES // 4).transpose(0, 2, 1)
    return Kernel(code, code.fields.pack({"bytes": content}))
