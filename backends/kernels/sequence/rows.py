"""Kernels of rows with scales of their own: row_scale, quantize_rows, .._row_blocks, scale_rows.

    row_scale(x: View, block, y: View, features)
    quantize_rows(x: View, scale: View, block, y: View, features)
    quantize_row_blocks(x: View, scale: View, form, y: View, features)
    scale_rows(x: View, scale: View, residual: View | None, numbers: RowNumbers, y: View, features)

The meaning of each is that of its op in qir.ir.ops.sequence.rows. Arguments ("x", "y"), ("x",
"scale", "constants", "y"), ("x", "scale", ["residual",] "constants", "y").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import RowNumbers
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.view import View
from qir.ir import rows
from qir.ir.ops.sequence.rows import FRACTION


@dataclass(frozen=True)
class RowScaleCode(NestCode):
    """The nest's operands: x, y; its last axis is a block."""

    x: str
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "y")


@dataclass(frozen=True)
class QuantizeRowsCode(NestCode):
    """The nest's operands: x, scale, y; its last axis is a block."""

    x: str
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "scale", "constants", "y")

    @property
    def fields(self) -> Fields:
        return RECIPROCALS


@dataclass(frozen=True)
class QuantizeRowBlocksCode(NestCode):
    """The nest's operands: x, the row's scale, y; its last axis is a block."""

    x: str
    y: str
    top: int
    spread: int
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "scale", "constants", "y")

    @property
    def fields(self) -> Fields:
        return RECIPROCALS


RECIPROCALS = Fields((("reciprocals", "int32", len(rows.RECIPROCALS)),))


@dataclass(frozen=True)
class ScaleRowsCode(NestCode):
    """The nest's operands: x, scale, the residual if there is one, numbers of channels, y."""

    residual: str | None
    y: str
    low: int
    high: int
    has_bias: bool
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "scale", *(("residual",) if self.residual else ()), "constants", "y")

    @property
    def fields(self) -> Fields:
        size = self.nest.shape[-1]
        entries = [("mult", "int32", size), ("shift", "int8", size)]
        entries += [("bias", "int64", size)] if self.has_bias else []
        entries += [("residual", "int64", 2)] if self.residual else []
        return Fields(tuple(entries))


def blocks(x: View, block: int) -> View:
    """x (..., C) as (..., C / block, block)."""
    last = x.strides[-1]
    shape = (*x.shape[:-1], x.shape[-1] // block, block)
    return View(x.dtype, shape, (*x.strides[:-1], block * last, last))


def row_scale(x: View, block: int, y: View, features: frozenset[str]) -> Kernel:
    """The row scale of every block."""
    parts = blocks(x, block)
    loops = nest(parts.shape, (parts.strides, (*y.strides, 0)), inner=1)
    return Kernel(RowScaleCode(x.dtype, loops, vector_bytes(features)))


def quantize_rows(x: View, scale: View, block: int, y: View, features: frozenset[str]) -> Kernel:
    """The codes of every block by its scale."""
    parts, codes = blocks(x, block), blocks(y, block)
    loops = nest(parts.shape, (parts.strides, (*scale.strides, 0), codes.strides), inner=1)
    code = QuantizeRowsCode(x.dtype, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack({"reciprocals": rows.RECIPROCALS}))


def quantize_row_blocks(
    x: View, scale: View, form: tuple[int, int, int], y: View, features: frozenset[str]
) -> Kernel:
    """Codes of `form`, (block, bits, spread), by the scales of rows and by what blocks reach."""
    block, bits, spread = form
    parts, codes = blocks(x, block), blocks(y, block)
    scales = (*scale.strides[:-1], 0, 0)
    loops = nest(parts.shape, (parts.strides, scales, codes.strides), inner=1)
    top = rows.code_top(bits)
    code = QuantizeRowBlocksCode(x.dtype, y.dtype, top, spread, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack({"reciprocals": rows.reciprocals(top)}))


def scale_rows(
    x: View, scale: View, residual: View | None, numbers: RowNumbers, y: View,
    features: frozenset[str],
) -> Kernel:  # fmt: skip
    """Sums times the scales of their rows and the multipliers of their channels."""
    channel = [0] * (len(y.shape) - 1) + [1]
    others = [] if residual is None else [residual.strides]
    scales = (*scale.strides[:-1], 0)
    loops = nest(y.shape, (x.strides, scales, *others, channel, y.strides), inner=1)
    kind = None if residual is None else residual.dtype
    code = ScaleRowsCode(
        kind, y.dtype, *numbers.clamp, numbers.bias is not None, loops, vector_bytes(features)
    )
    size = y.shape[-1]
    values = {
        "mult": np.broadcast_to(numbers.mult, (size,)),
        "shift": np.broadcast_to(numbers.shift - FRACTION, (size,)),
        "bias": np.broadcast_to(0 if numbers.bias is None else numbers.bias, (size,)),
        "residual": np.array([numbers.residual[0], numbers.residual[1] - FRACTION], np.int64),
    }
    return Kernel(code, code.fields.pack(values))
