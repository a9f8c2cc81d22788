"""The kernel of norm_fixed: rms_norm and layer_norm of rows.

    norm(x: View, numbers: NormNumbers, y: View, features)       arguments ("x", "constants", "y")

The meaning is that of qir.ir.ops.sequence.norm.NormFixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, nest
from qir.backends.kernels.view import View
from qir.ir import rows


@dataclass(frozen=True)
class NormCode:
    """The nest's operands: x, numbers of channels, y; its last axis is the row.

    `fraction`: of centred elements; None where no mean is taken off.
    """

    x: str
    y: str
    low: int
    high: int
    fraction: int | None
    has_offset: bool
    nest: Nest
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.nest.units

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        size = self.nest.shape[-1]
        entries = [("roots", "int32", len(rows.ROOTS)), ("mult", "int64", size)]
        entries += [("offset", "int64", size)] if self.has_offset else []
        entries += [("shift", "int64", 1), ("epsilon", "int64", 1), ("mean", "int64", 2)]
        return Fields(tuple(entries))


@dataclass(frozen=True, eq=False)
class NormNumbers:
    """Those of norm_fixed; `mean`: its multiplier and shift."""

    mult: Array
    offset: Array | None
    shift: int
    epsilon: int
    fraction: int
    mean: tuple[int, int] | None
    clamp: tuple[int, int]


def norm(x: View, numbers: NormNumbers, y: View, features: frozenset[str]) -> Kernel:
    """Rows over their lengths, times the gains."""
    channel = [0] * (len(y.shape) - 1) + [1]
    loops = nest(y.shape, (x.strides, channel, y.strides), whole=1)
    fraction = None if numbers.mean is None else numbers.fraction
    code = NormCode(
        x.dtype, y.dtype, *numbers.clamp, fraction, numbers.offset is not None, loops,
        vector_bytes(features),
    )  # fmt: skip
    size = y.shape[-1]
    values = {
        "roots": rows.ROOTS,
        "mult": np.broadcast_to(numbers.mult, (size,)),
        "offset": np.broadcast_to(0 if numbers.offset is None else numbers.offset, (size,)),
        "shift": np.int64(numbers.shift),
        "epsilon": np.int64(numbers.epsilon),
        "mean": np.array(numbers.mean or (0, 0), np.int64),
    }
    return Kernel(code, code.fields.pack(values))  # type: ignore[arg-type]
