"""Elementwise kernels: sums and products of broadcast operands, requantized in one rounding.

    requantize(xs: [View], zero_points: [int], scale: Scale, y: View, features, ranges=None)
        y = clamp(((sum over i of (x_i - z_i) * mult_i + 2**(shift-1)) >> shift) + zero_point)
    multiply(a: View, b: View, (za, zb), y: View, features, scale: Scale | None = None)
        y = (a - za) * (b - zb), i32; or, with a scale, requantized.

Both have arguments ("x0", "x1", ..., "constants", "y"). Operands broadcast to y's shape as NumPy
does; mult, shift and zero_point of a Scale are ints or arrays that broadcast to it too. `ranges`:
proven (low, high) of each stored operand, where narrower than its dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.dots import HVX
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.scale import Scale, ScaleTerm
from qir.backends.kernels.requantize.scaling import Arithmetic, Scaling, plan_scaling, scaled_or_raw
from qir.backends.kernels.view import View

HVX_BYTES = 128  # bytes of one of Hexagon's vectors; as int32 they take four


@dataclass(frozen=True)
class ElementwiseCode(NestCode):
    """The nest's operands: each x, the arrays of the scaling, y.

    With `product` the one term is the product of two x less their zero points, else every x is a
    term, less its zero point in the scaling. Without a scaling the product is y.
    """

    dtypes: tuple[str, ...]
    product: bool
    scaling: Scaling | None
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*(f"x{i}" for i in range(len(self.dtypes))), "constants", "y")

    @property
    def fields(self) -> Fields:
        zeros = Fields((("zero_a", "int32", 1), ("zero_b", "int32", 1)) if self.product else ())
        return zeros + self.scaling.fields if self.scaling else zeros


def requantize(
    xs: Sequence[View],
    zero_points: Sequence[int],
    scale: Scale,
    y: View,
    features: frozenset[str],
    ranges: Sequence[tuple[int, int] | None] | None = None,
) -> Kernel:
    """The sum of all x, each in its own scale, in the scale of y."""
    x_ranges = ranges or [None] * len(xs)
    terms = [ScaleTerm.of(x.dtype, z, r) for x, z, r in zip(xs, zero_points, x_ranges, strict=True)]
    scaled = plan_scaling(scale, terms, y.dtype, y.shape)
    operands = [x.expanded(y.shape).strides for x in xs]
    loops = nest(y.shape, [*operands, scaled.view.strides, y.strides])
    dtypes = tuple(x.dtype for x in xs)
    width = _vector_bytes(features, dtypes, scaled.code, loops)
    code = ElementwiseCode(dtypes, False, scaled.code, loops, width)
    return Kernel(code, code.fields.pack(scaled.values))


def _vector_bytes(
    features: frozenset[str], dtypes: tuple[str, ...], code: Scaling, loops: Nest
) -> int:
    """On Hexagon only whole vectors of bytes are worth it, and only in 32-bit arithmetic."""
    if not features >= HVX:
        return vector_bytes(features)
    bytes_only = {*dtypes, code.dtype} <= {"uint8", "int8"}
    is_narrow = code.arithmetic is Arithmetic.NARROW
    return 4 * HVX_BYTES if bytes_only and is_narrow and loops.row >= HVX_BYTES else 0


def multiply(
    a: View,
    b: View,
    zero_points: tuple[int, int],
    y: View,
    features: frozenset[str],
    scale: Scale | None = None,
) -> Kernel:
    """The product of two tensors, exact in 32 bits, or requantized. Needs: the product fits i32."""
    values: dict[str, Array] = {
        "zero_a": np.asarray(zero_points[0]),
        "zero_b": np.asarray(zero_points[1]),
    }
    term = _product(a, b, zero_points)
    scaling, params, scale_values = scaled_or_raw("multiply", scale, [term], y.dtype, y.shape)
    operands = [x.expanded(y.shape).strides for x in (a, b)]
    loops = nest(y.shape, [*operands, params, y.strides])
    code = ElementwiseCode((a.dtype, b.dtype), True, scaling, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack(values | scale_values))


def _product(a: View, b: View, zeros: tuple[int, int]) -> ScaleTerm:
    """Bounds of the product of two dtypes less their zero points."""
    ends = [[end - z for end in RANGE[v.dtype]] for v, z in zip((a, b), zeros, strict=True)]
    corners = [p * q for p in ends[0] for q in ends[1]]
    return ScaleTerm.total(min(corners), max(corners))
