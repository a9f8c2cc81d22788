"""The kernel of norm_fixed: rms_norm and layer_norm of rows.

    norm(x: View, numbers: NormNumbers, y: View, features)       arguments ("x", "constants", "y")

The meaning is that of qir.ir.ops.sequence.norm.NormFixed. With d shifted to the left as far as the
root's exponent leaves room in 32 bits, u is the high word of a product; so is y, where its
multipliers, shifted to the left, and its shift allow that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, in_pairs, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View
from qir.ir import rows
from qir.ir.ops.sequence.norm import UNIT_BITS


@dataclass(frozen=True)
class NormRows:
    """What gives the elements of a row, in int16 or what else `dtype` is.

    `fraction`: of centred elements; None where no mean is taken off. `is_short`: sums of x fit 32
    bits. `left_shift`: of u before its product, whose high word is taken; None where more bits than
    that are needed.
    """

    x: str
    dtype: str
    low: int
    high: int
    fraction: int | None
    is_short: bool
    has_offset: bool
    left_shift: int | None

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x",)

    def fields(self, size: int) -> Fields:
        entries = [("roots", "int32", len(rows.ROOTS)), ("epsilon", "int64", 1)]
        entries += [("mean", "int64", 2)] if self.fraction is not None else []
        entries += [("shift", "int64", 1)]
        kind = "int64" if self.left_shift is None else "int32"
        entries += [("mult", kind, size)]
        if self.has_offset:
            names = ("offset",) if self.left_shift is None else ("offset", "offset_low")
            entries += [(name, kind, size) for name in names]
        return Fields(tuple(entries))


@dataclass(frozen=True)
class NormCode(NestCode):
    """The nest's operands: x, y; its last axis is the row."""

    source: NormRows
    nest: Nest
    vector_bytes: int
    in_pairs: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        return self.source.fields(self.nest.shape[-1])


@dataclass(frozen=True, eq=False)
class NormNumbers:
    """Those of norm_fixed; `mean`: its multiplier and shift; `bits`: of x."""

    mult: Array
    offset: Array | None
    shift: int
    epsilon: int
    fraction: int
    mean: tuple[int, int] | None
    clamp: tuple[int, int]
    bits: int


def norm(x: View, numbers: NormNumbers, y: View, features: frozenset[str]) -> Kernel:
    """Rows over their lengths, times the gains."""
    loops = nest(y.shape, (x.strides, y.strides), inner=1)
    source, values = plan_norm(x.dtype, y.dtype, y.shape[-1], numbers)
    code = NormCode(source, loops, vector_bytes(features), in_pairs(features))
    return Kernel(code, code.fields.pack(values))


def plan_norm(
    x: str, y: str, size: int, numbers: NormNumbers
) -> tuple[NormRows, dict[str, Array | int]]:
    """What gives the elements, and the values of its fields."""
    mult = np.broadcast_to(numbers.mult, (size,))
    offset = np.broadcast_to(0 if numbers.offset is None else numbers.offset, (size,))
    fraction = None if numbers.mean is None else numbers.fraction
    left_shift, raised, shift = _raised(mult, offset, numbers.shift)
    values: dict[str, Array | int] = {
        "roots": rows.ROOTS,
        "epsilon": numbers.epsilon,
        "mean": np.array(numbers.mean or (0, 0), np.int64),
        "mult": mult << raised,
        "offset": offset,
        "shift": shift,
    }
    if left_shift is not None:
        more = (offset << left_shift + raised) + (np.int64(1) << 31 + shift)
        values |= {"offset": more >> 32, "offset_low": more.astype(np.int32)}
    is_short = size << numbers.bits - 1 < 1 << 31
    source = NormRows(
        x, y, *numbers.clamp, fraction, is_short, numbers.offset is not None, left_shift
    )  # fmt: skip
    return source, values


def _raised(mult: Array, offset: Array, shift: int) -> tuple[int | None, int, int]:
    """How far u and its multipliers are shifted to the left, and what is left of the shift to the
    right behind the high word; None, 0 and the shift where that may overflow.
    """
    most = int(np.abs(mult).max(initial=1))
    raised = max(0, min(32 - shift, 31 - most.bit_length()))
    left_shift = max(0, 32 - shift - raised)
    right = shift + left_shift + raised - 32
    reach = (most << raised + left_shift + UNIT_BITS) + (1 << 31 + right)
    reach += int(np.abs(offset).max(initial=0)) << left_shift + raised
    if left_shift + UNIT_BITS > 30 or most << raised >= 1 << 31 or right > 31 or reach >= 1 << 63:
        return None, 0, shift
    return left_shift, raised, right
