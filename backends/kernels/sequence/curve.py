"""The kernel of interpolate: tables with straight lines between their entries.

interpolate(x: View, table, y: View, features)               arguments ("x", "constants", "y")
    i = (x + 2**15) >> 6;  f = (x + 2**15) & 63
    y = table[i] + ((f * (table[i + 1] - table[i]) + 32) >> 6)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, nest
from qir.backends.kernels.view import View
from qir.ir.ops.sequence.curve import SEGMENT_BITS


@dataclass(frozen=True)
class InterpolateCode:
    """The nest's operands: x, y.

    With a `block`, so many elements are found together: vectors say where, scalars fetch what is
    there (an entry, and the way to the next), vectors do the rest.
    """

    y: str
    nest: Nest
    block: int
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.nest.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        if self.block:
            return Fields((("lines", "int64", 1 << SEGMENT_BITS),))
        return Fields((("table", "int32", (1 << SEGMENT_BITS) + 1),))


BLOCK = 64
"""Elements, so many that what scalars store is in memory before vectors load it."""


def interpolate(x: View, table: Array, y: View, features: frozenset[str]) -> Kernel:
    """A function of each element of an int16 x."""
    loops, vectors = nest(y.shape, (x.strides, y.strides)), vector_bytes(features)
    is_straight = loops.steps == (1, 1) and loops.row >= BLOCK and vectors > 0
    code = InterpolateCode(y.dtype, loops, BLOCK if is_straight else 0, vectors)
    wide = np.asarray(table, np.int64)
    lines = (np.diff(wide) << 32) + (wide[:-1] & 0xFFFFFFFF)
    return Kernel(code, code.fields.pack({"table": table, "lines": lines}))
