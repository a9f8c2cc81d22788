"""The kernel of interpolate: tables with straight lines between their entries.

interpolate(x: View, table, y: View, features)               arguments ("x", "constants", "y")
    i = (x + 2**15) >> 6;  f = (x + 2**15) & 63
    y = table[i] + ((f * (table[i + 1] - table[i]) + 32) >> 6)
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel
from qir.backends.kernels.nest import Nest, nest
from qir.backends.kernels.view import View
from qir.ir.ops.sequence.curve import SEGMENT_BITS


@dataclass(frozen=True)
class InterpolateCode:
    """The nest's operands: x, y."""

    y: str
    nest: Nest

    @property
    def units(self) -> int:
        return self.nest.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        return Fields((("table", "int32", (1 << SEGMENT_BITS) + 1),))


def interpolate(x: View, table: Array, y: View) -> Kernel:
    """A function of each element of an int16 x."""
    code = InterpolateCode(y.dtype, nest(y.shape, (x.strides, y.strides)))
    return Kernel(code, code.fields.pack({"table": table}))
