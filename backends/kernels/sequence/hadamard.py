"""The kernel of hadamard: sums and differences of the elements of each block.

    hadamard(x: View, size, y: View, features)             arguments ("x", "constants", "y")

The meaning is that of qir.ir.ops.sequence.hadamard.Hadamard.
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.sequence.rows import blocks
from qir.backends.kernels.view import View
from qir.ir.ops.sequence.matrices import factors, paley


@dataclass(frozen=True)
class HadamardCode(NestCode):
    """The nest's operands: x, y; its last axis is a block of `order` * `power` elements."""

    x: str
    order: int
    power: int
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", *(("constants",) if self.order > 1 else ()), "y")

    @property
    def fields(self) -> Fields:
        """signs[j, i]: that of element i in sum j, of the matrix that is no power of two."""
        return Fields((("signs", "int32", self.order**2),))


def hadamard(x: View, size: int, y: View, features: frozenset[str]) -> Kernel:
    """Every block times the Hadamard matrix of its size."""
    parts, sums = blocks(x, size), blocks(y, size)
    loops = nest(parts.shape, (parts.strides, sums.strides), inner=1)
    order, power = factors(size) or (1, size)
    code = HadamardCode(x.dtype, order, power, loops, vector_bytes(features))
    if order == 1:
        return Kernel(code)
    return Kernel(code, code.fields.pack({"signs": paley(order).T}))
