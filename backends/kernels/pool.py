"""Pooling over windows of (N, H, W, C) planes.

    max_pool(x: Plane, y: Plane, window: PoolWindow, features)
    sum_pool(x: Plane, y: Plane, window: PoolWindow, zero_point, features, scale=None)

        y[n, p, q, c] = max, or sum of (x - zero_point), over the elements of x in window (p, q)

Both have arguments ("x", "constants", "y"). x is the plane without its padding: what surrounds it
in memory is never read, so a halo may hold anything. sum_pool gives i32, or with a Scale (whose
arrays broadcast to y's shape) requantized values: average pooling.
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


@dataclass(frozen=True)
class PoolWindow:
    """Sizes of a sliding window; pad is (top, left, bottom, right): where the first one starts."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def taps(self, axis: int, size: int, out: int) -> Array:
        """(out, kernel): the index each tap reads, or -1 outside of 0 .. size-1."""
        start = np.arange(out) * self.stride[axis] - self.pad[axis]
        index = start[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
        return np.where((index >= 0) & (index < size), index, -1)


@dataclass(frozen=True)
class MaxPoolCode:
    """One unit is one row of y. The constants hold the offset of each tap's row and column."""

    x: Plane
    y: Plane
    kernel: tuple[int, int]
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.y.batch * self.y.height

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def fields(self) -> Fields:
        rows, columns = self.y.height * self.kernel[0], self.y.width * self.kernel[1]
        return Fields((("rows", "int32", rows), ("columns", "int32", columns)))


@dataclass(frozen=True)
class SumPoolCode:
    """One unit is one row of y. The constants hold where the taps inside x begin, and their counts.

    `params`: strides of the scaling's arrays along (n, p, q, c). `pitch`: elements between taps.
    `clips`: some window reaches outside.
    """

    x: Plane
    y: Plane
    kernel: tuple[int, int]
    pitch: tuple[int, int]
    clips: bool
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
        h, w = self.y.height, self.y.width
        places = (
            ("row", "int32", h),
            ("rows", "int32", h),
            ("column", "int32", w),
            ("columns", "int32", w),
        )
        pool_fields = Fields((("minus_zero", "int32", 1), *places))
        return (
            _renamed(pool_fields) + self.scaling.fields if self.scaling else _renamed(pool_fields)
        )


def _renamed(fields: Fields) -> Fields:
    """Names that no scaling uses."""
    return Fields(tuple((f"pool_{name}", dtype, count) for name, dtype, count in fields.entries))


def max_pool(x: Plane, y: Plane, window: PoolWindow, features: frozenset[str]) -> Kernel:
    """The greatest element of each window; a tap outside x repeats one that is inside."""
    taps = _checked("max_pool", x, y, window)
    if x.dtype != y.dtype:
        raise ValueError(f"max_pool: x is {x.dtype}, y {y.dtype}; one dtype is needed")
    # The greatest index of a row is always inside, and a maximum may see it more than once.
    inside = [np.where(t >= 0, t, t.max(1, keepdims=True)) for t in taps]
    code = MaxPoolCode(x, y, window.kernel, vector_bytes(features))
    offsets = {"rows": inside[0] * x.pitch_y, "columns": inside[1] * x.pitch_x}
    return Kernel(code, code.fields.pack(offsets))


def sum_pool(
    x: Plane,
    y: Plane,
    window: PoolWindow,
    zero_point: int,
    features: frozenset[str],
    scale: Scale | None = None,
) -> Kernel:
    """The exact sum of each window's elements less the zero point, or that sum requantized."""
    taps = _checked("sum_pool", x, y, window)
    counts = [(t >= 0).sum(1) for t in taps]
    first = [np.where(t >= 0, t, 2**30).min(1) for t in taps]
    values = {
        "pool_minus_zero": np.int64(-zero_point),
        "pool_row": first[0] * x.pitch_y,
        "pool_rows": counts[0],
        "pool_column": first[1] * x.pitch_x,
        "pool_columns": counts[1],
    }
    most, (low, high) = int(np.prod(window.kernel)), RANGE[x.dtype]
    term = ScaleTerm.total((low - zero_point) * most, (high - zero_point) * most)
    scaling, params, scale_values = scaled_or_raw("sum_pool", scale, [term], y.dtype, y.shape)
    clips = any(int(c.min()) < k for c, k in zip(counts, window.kernel, strict=True))
    pitch = window.dilation[0] * x.pitch_y, window.dilation[1] * x.pitch_x
    width = vector_bytes(features)
    code = SumPoolCode(x, y, window.kernel, pitch, clips, scaling, params, width)
    return Kernel(code, code.fields.pack(values | scale_values))


def _checked(kernel: str, x: Plane, y: Plane, window: PoolWindow) -> tuple[Array, Array]:
    if (x.batch, x.channels) != (y.batch, y.channels):
        raise ValueError(
            f"{kernel}: x is {list(x.shape)}, y {list(y.shape)}; one batch and channels are needed"
        )
    taps = window.taps(0, x.height, y.height), window.taps(1, x.width, y.width)
    for t, name, size in zip(taps, ("height", "width"), (y.height, y.width), strict=True):
        if t.max(1).min() < 0:
            raise ValueError(
                f"{kernel}: a window of {name} {size} holds no element of x, one is needed"
            )
    return taps
