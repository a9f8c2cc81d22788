"""Reductions over whole axes.

    reduce_sum(x: View, axes, zero_point, y: View, features, scale=None)
    reduce_max(x: View, axes, y: View, features)

        y = sum of (x - zero_point), or the greatest x, over `axes`

Both have arguments ("x", "constants", "y"). y has the shape of x with the axes kept as 1.
reduce_sum gives i32, or with a Scale (whose arrays broadcast to y's shape) requantized values.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.nest import Nest, NestCode, nest
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.requantize.scale import Scale, ScaleTerm
from qir.backends.kernels.requantize.scaling import Scaling, scaled_or_raw
from qir.backends.kernels.view import View


@dataclass(frozen=True)
class ReduceCode(NestCode):
    """The nest's operands: x, the arrays of the scaling, y.

    `inner`: (size, stride of x) of the reduced axes. `maximum`, else the sum.
    """

    dtype: str
    y: str
    maximum: bool
    inner: tuple[tuple[int, int], ...]
    scaling: Scaling | None
    nest: Nest
    vector_bytes: int

    @property
    def count(self) -> int:
        return prod(size for size, _ in self.inner)

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        offset = Fields((("offset", "int32", 1),))
        return offset + self.scaling.fields if self.scaling else offset


def reduce_max(x: View, axes: tuple[int, ...], y: View, features: frozenset[str]) -> Kernel:
    """The greatest element over the axes."""
    if x.dtype != y.dtype:
        raise ValueError(f"reduce_max: x is {x.dtype}, y {y.dtype}; one dtype is needed")
    inner, x_strides = _split("reduce_max", x, axes, y)
    loops = nest(y.shape, (x_strides, (0,) * len(y.shape), y.strides), _grain(inner))
    code = ReduceCode(x.dtype, y.dtype, True, inner, None, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack({"offset": np.zeros(1, np.int64)}))


def reduce_sum(
    x: View,
    axes: tuple[int, ...],
    zero_point: int,
    y: View,
    features: frozenset[str],
    scale: Scale | None = None,
) -> Kernel:
    """The exact sum over the axes less the zero points, or that sum requantized."""
    inner, x_strides = _split("reduce_sum", x, axes, y)
    count, (low, high) = prod(size for size, _ in inner), RANGE[x.dtype]
    offset = -zero_point * count
    if abs(offset) >= 2**31:
        raise ValueError(
            f"reduce_sum: {count} zero points of {zero_point}, a sum of 32 bits is needed"
        )
    values: dict[str, Array] = {"offset": np.asarray(offset)}
    term = ScaleTerm.total((low - zero_point) * count, (high - zero_point) * count)
    scaling, params, scale_values = scaled_or_raw("reduce_sum", scale, [term], y.dtype, y.shape)
    loops = nest(y.shape, (x_strides, params, y.strides), _grain(inner))
    code = ReduceCode(x.dtype, y.dtype, False, inner, scaling, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack(values | scale_values))


def _grain(inner: tuple[tuple[int, int], ...]) -> int:
    return max(64, 4 * 4096 // max(1, prod(size for size, _ in inner)))


def _split(
    kernel: str, x: View, axes: tuple[int, ...], y: View
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Reduced axes as (size, stride), joined where they adjoin; and the strides of x along y."""
    shape = tuple(1 if i in axes else s for i, s in enumerate(x.shape))
    if y.shape != shape:
        raise ValueError(f"{kernel}: y is {list(y.shape)}, {list(shape)} is needed")
    pairs = [(x.shape[a], (x.strides[a],)) for a in axes]
    loops = nest([s for s, _ in pairs], ([t[0] for _, t in pairs],))
    inner = tuple(zip(loops.shape, loops.strides[0], strict=True))
    return inner, tuple(0 if i in axes else t for i, t in enumerate(x.strides))
