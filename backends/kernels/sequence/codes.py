"""Kernels of rows of codes: elements, the scale of each block of them, and their codes.

    load_codes(x: View, block, results: Results, features)              "x"
    norm_codes(x: View, numbers, results, features)                     "x"
    curve_codes(x: View, table, block, results, features)               "x"
    product_codes(a: View, b: View, table, block, results, features)    "a", "b"

Then come the arguments "constants", "y", "row_scale" and, where elements are kept too, "wide". A
block is found as a whole: its elements stay near until the scale is known. The meaning is that of
norm_fixed, interpolate or mul (of interpolate, with a table), then row_scale and quantize_rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, in_pairs, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.sequence.curve import CurveRows, plan_curve
from qir.backends.kernels.sequence.norm import NormNumbers, NormRows, plan_norm
from qir.backends.kernels.sequence.rows import RECIPROCALS, blocks
from qir.backends.kernels.view import View
from qir.ir import rows

MOST_BLOCK = 1 << 14  # elements that are kept on the stack


@dataclass(frozen=True)
class LoadRows:
    """Elements as they are in memory."""

    dtype: str

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x",)

    def fields(self, size: int) -> Fields:
        return Fields()


@dataclass(frozen=True)
class ProductRows:
    """Elements of a, or a curve over them, times those of b, in int32."""

    a: str
    b: str
    curve: CurveRows | None
    is_constant: bool
    dtype: str = "int32"

    @property
    def operands(self) -> tuple[str, ...]:
        return ("a", "b")

    def fields(self, size: int) -> Fields:
        return self.curve.fields(size) if self.curve else Fields()


Source = LoadRows | NormRows | CurveRows | ProductRows


@dataclass(frozen=True)
class RowCodesCode(NestCode):
    """The nest's operands: those of the source, codes, scale, wide; its last axis is a block.

    `wide`: elements are stored too.
    """

    source: Source
    wide: bool
    nest: Nest
    vector_bytes: int
    in_pairs: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        wide = ("wide",) if self.wide else ()
        return (*self.source.operands, "constants", "y", "row_scale", *wide)

    @property
    def fields(self) -> Fields:
        return RECIPROCALS + self.source.fields(self.nest.shape[-1])


@dataclass(frozen=True)
class Results:
    """Where codes, scales, and elements if they are kept, are stored."""

    y: View
    scale: View
    wide: View | None = None


def load_codes(x: View, block: int, results: Results, features: frozenset[str]) -> Kernel:
    """Of a tensor."""
    return _kernel(LoadRows(x.dtype), [x], block, results, features, {})


def norm_codes(
    x: View, dtype: str, numbers: NormNumbers, results: Results, features: frozenset[str]
) -> Kernel:
    """Of norm_fixed, whose elements are a `dtype`; a block is a row."""
    size = x.shape[-1]
    source, values = plan_norm(x.dtype, dtype, size, numbers)
    return _kernel(source, [x], size, results, features, values)


def curve_codes(
    x: View, table: Array, dtype: str, block: int, results: Results, features: frozenset[str]
) -> Kernel:
    """Of interpolate, whose elements are a `dtype`."""
    source, values = plan_curve(table, dtype)
    return _kernel(source, [x], block, results, features, values)


def product_codes(
    a: View, b: View, table: Array | None, block: int, results: Results,
    features: frozenset[str], is_constant: bool = False,
) -> Kernel:  # fmt: skip
    """Of mul, of interpolate with a table; `is_constant`: b is."""
    shape = results.y.shape
    curve, values = (None, {}) if table is None else plan_curve(table, "int16")
    source = ProductRows(a.dtype, b.dtype, curve, is_constant)
    xs = [x.expanded(shape) for x in (a, b)]
    return _kernel(source, xs, block, results, features, values)


def _kernel(
    source: Source, xs: list[View], block: int, results: Results, features: frozenset[str],
    values: dict[str, Array | int],
) -> Kernel:  # fmt: skip
    parts = [blocks(x, block) for x in (*xs, results.y)]
    wide_strides = [blocks(results.wide, block).strides] if results.wide else []
    strides = [*(v.strides for v in parts), (*results.scale.strides, 0), *wide_strides]
    loops = nest(parts[0].shape, strides, inner=1)
    code = RowCodesCode(
        source, results.wide is not None, loops, vector_bytes(features), in_pairs(features)
    )
    return Kernel(code, code.fields.pack({"reciprocals": rows.RECIPROCALS, **values}))
