"""The kernel of bilinear resizing of (N, H, W, C) planes.

    bilinear(x: Plane, y: Plane, rows, columns, u, v, zero_point, features, scale=None)
        y[n, p, q, c] = sum over a, b of u[p, a] * v[q, b] * X(rows[p, a], columns[q, b])
        where X(i, j) = x[n, i, j, c] - zero_point

Arguments ("x", "constants", "y"). rows, u (OH, 2), columns, v (OW, 2); weights are integers in
units of 2**-11, each pair summing to 2**11. y is i32, or requantized by a Scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.plane import RANGE, Plane
from qir.backends.kernels.requantize.scale import Scale, ScaleTerm
from qir.backends.kernels.requantize.scaling import Scaling, scaled_or_raw

UNIT = 1 << 11


@dataclass(frozen=True)
class BilinearCode:
    """One unit is one row of y. `params`: strides of the scaling's arrays along (n, p, q, c)."""

    x: Plane
    y: Plane
    scaling: Scaling | None
    params: tuple[int, ...]
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.y.batch * self.y.height

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        h, w = 2 * self.y.height, 2 * self.y.width
        positions = (
            ("rows", "int32", h),
            ("columns", "int32", w),
            ("u", "int16", h),
            ("v", "int16", w),
        )
        fields = Fields((("center", "int32", 1), *positions))
        return fields + self.scaling.fields if self.scaling else fields


def bilinear(
    x: Plane,
    y: Plane,
    rows: Array,
    columns: Array,
    u: Array,
    v: Array,
    zero_point: int,
    features: frozenset[str],
    scale: Scale | None = None,
) -> Kernel:
    """Weighted means of four neighbours."""
    _check(x, y, (rows, columns), (u, v))
    values: dict[str, Array] = {
        "center": np.asarray(zero_point * UNIT),
        "rows": rows.astype(np.int64) * x.pitch_y,
        "columns": columns.astype(np.int64) * x.pitch_x,
        "u": u,
        "v": v,
    }
    ends = [(end - zero_point) * UNIT * UNIT for end in RANGE[x.dtype]]
    term = ScaleTerm.total(min(ends), max(ends))
    scaling, params, scale_values = scaled_or_raw("bilinear", scale, [term], y.dtype, y.shape)
    code = BilinearCode(x, y, scaling, params, vector_bytes(features))
    return Kernel(code, code.fields.pack(values | scale_values))


def _check(x: Plane, y: Plane, indices: tuple[Array, ...], weights: tuple[Array, ...]) -> None:
    if (x.batch, x.channels) != (y.batch, y.channels):
        raise ValueError(
            f"bilinear: x is {list(x.shape)}, y {list(y.shape)}; one batch and channels are needed"
        )
    sizes = ((x.height, y.height), (x.width, y.width))
    for index, weight, (size, out) in zip(indices, weights, sizes, strict=True):
        if index.shape != (out, 2) or weight.shape != (out, 2):
            raise ValueError(
                f"bilinear: index {list(index.shape)}, weight {list(weight.shape)};"
                f" [{out}, 2] is needed"
            )
        if index.min() < 0 or index.max() >= size:
            raise ValueError(
                f"bilinear: index [{index.min()}, {index.max()}], 0 to {size - 1} is needed"
            )
        if np.any(weight.sum(1) != UNIT) or weight.min() < 0:
            sums = weight.sum(1)
            raise ValueError(
                f"bilinear: weights of sums {sums.min()} to {sums.max()}, {UNIT} is needed"
            )
