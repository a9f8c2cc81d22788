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
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.view import View
from qir.ir.ops.sequence.curve import SEGMENT_BITS

BLOCK = 512
"""Elements that are looked up together: so many that what scalars store is in memory before vectors
load it."""


@dataclass(frozen=True)
class CurveRows:
    """What gives elements by a table. `offset` is taken off entries, so that they fit int16."""

    dtype: str
    offset: int

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x",)

    def fields(self, size: int) -> Fields:
        return Fields((("lines", "int32", 1 << SEGMENT_BITS),))


@dataclass(frozen=True)
class InterpolateCode(NestCode):
    """The nest's operands: x, y. Without vectors each element is found alone."""

    source: CurveRows
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        return self.source.fields(self.nest.row)


def interpolate(x: View, table: Array, y: View, features: frozenset[str]) -> Kernel:
    """A function of each element of an int16 x."""
    source, values = plan_curve(table, y.dtype)
    code = InterpolateCode(source, nest(y.shape, (x.strides, y.strides)), vector_bytes(features))
    return Kernel(code, code.fields.pack(values))


def plan_curve(table: Array, dtype: str) -> tuple[CurveRows, dict[str, Array | int]]:
    """What gives the elements, and the values of its fields."""
    low, high = RANGE["int16"]
    wide = np.asarray(table, np.int64)
    offset = 0 if low <= wide.min() and wide.max() <= high else 1 << 15
    entries = wide - offset
    lines = (entries[1:] << 16) + (entries[:-1] & 0xFFFF)
    return CurveRows(dtype, offset), {"lines": lines}
