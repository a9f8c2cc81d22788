"""What a contraction kernel computes: the specification and its constants. Data only.

A contraction is a convolution (dense, grouped or depthwise) or a fully connected layer, with its
integer epilogue:

    acc[n,y,x,o] = sum_{ky,kx,c} X[n, y*sy + ky*dy, x*sx + kx*dx, g(o)*I + c] * W[o,ky,kx,c]

X is u8 or i8 and already padded with its zero point (every window lies inside the plane); the zero
point of X is folded into the bias by the caller. A fully connected layer is a 1x1 convolution on
(N, 1, 1, C). Epilogues, with int64 products and arithmetic shifts, so ties go to +infinity:

    requantize  Y = clamp(((total + 2**(shift-1)) >> shift) + zero_point)
                total = (acc + bias) * mult
    add         the same, total = (acc + bias) * mult + (R - zr) * residual_mult
    raw         Y = acc + bias                                           (Y is int32)

Needs: acc and acc + bias fit in int32, mult and residual_mult in [0, 2**31), shift in [1, 62].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qir.backends.kernels.plane import RANGE, Plane

Array = NDArray[Any]


@dataclass(frozen=True)
class RowTail:
    """scale_rows (qir.ir.ops.sequence.rows) of raw sums, where Y then is stored as `dtype`: `scale`
    has one i32 for each pixel. `exponents`: the proven range of those of scales. `residual_bits`:
    of a residual, without its sign. `is_short`: sums times a mantissa of 8 bits fit 32. `is_high`,
    `has_bias`: the form, see `row_tail`. `shared`: the names of the numbers that all channels have.
    """

    scale: Plane
    residual: Plane | None
    dtype: str
    low: int
    high: int
    exponents: tuple[int, int]
    residual_bits: int = 0
    is_short: bool = False
    is_high: bool = False
    has_bias: bool = True
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContractionSpec:
    """Shapes, layout and clamp of one contraction; hashable, so equal kernels are built once.

    `low`, `high` clamp the stored value; None stands for the range of Y's dtype. Y is u8, i8, i16
    or, raw, i32.
    `alignment`: bytes that the first element of X is known to be aligned to.
    `any_rows`: other contractions of more or fewer rows have the same weights, so that their layout
    in memory may not depend on how many there are. `rows`: what raw sums become.
    Errors: ValueError naming every size that does not fit.
    """

    x: Plane
    y: Plane
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    residual: Plane | None = None
    low: int | None = None
    high: int | None = None
    alignment: int = 1
    any_rows: bool = False
    rows: RowTail | None = None

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ValueError("contraction: " + "; ".join(faults))

    def _faults(self) -> Iterator[str]:
        x, y = self.x, self.y
        if x.dtype not in ("uint8", "int8"):
            yield f"x is {x.dtype}, uint8 or int8 is needed"
        if "uint16" in (y.dtype, self.residual and self.residual.dtype):
            yield "y or residual is uint16, uint8, int8 or int16 is needed"
        if x.batch != y.batch:
            yield f"x has batch {x.batch}, y {y.batch}"
        for name, size, out, axis in (
            ("height", x.height, y.height, 0),
            ("width", x.width, y.width, 1),
        ):
            need = (
                (out - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
            )
            if size < need:
                yield f"x has {name} {size}, {need} needed for {out} outputs"
        if x.channels % self.groups or y.channels % self.groups:
            yield f"{x.channels} to {y.channels} channels do not divide into {self.groups} groups"
        if self.residual is not None and self.residual.shape != y.shape:
            yield f"residual has shape {self.residual.shape}, y {y.shape}"
        if self.residual is not None and (self.is_raw or self.residual.dtype == "int32"):
            yield f"residual {self.residual.dtype} into {y.dtype} is not defined"
        low, high = self.clamp
        if not RANGE[y.dtype][0] <= low <= high <= RANGE[y.dtype][1]:
            yield f"clamp [{low}, {high}] is not a range of {y.dtype}"

    @property
    def clamp(self) -> tuple[int, int]:
        low, high = RANGE[self.y.dtype]
        return low if self.low is None else self.low, high if self.high is None else self.high

    @property
    def is_raw(self) -> bool:
        return self.y.dtype == "int32"

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.groups == self.x.channels == self.y.channels

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.y.channels, *self.kernel, self.x.channels // self.groups

    @property
    def macs(self) -> int:
        y = self.y
        return y.batch * y.height * y.width * int(np.prod(self.weight_shape))


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """Those of scale_rows, int64: one for all channels, or one for each."""

    mult: Array
    shift: Array
    bias: Array | None
    residual: tuple[int, int]
    clamp: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Constants:
    """The numbers of one contraction.

    `mult`, `shift`, `residual_mult`: one for all output channels or one for each. `x_range` is the
    proven range of the stored input, when it is narrower than its dtype.
    `bits`: the width that holds every weight. Where weights are quantized by group, `block`
    adjacent input channels share the u8 `group_mult` (O, ky, kx, ceil(I / block)), and W of the
    formula is weights * group_mult; block 0: no groups. `rows`: the numbers of a tail by rows.
    """

    weights: Array
    bias: Array
    mult: Array | int = 1
    shift: Array | int = 1
    zero_point: int = 0
    residual_mult: Array | int = 0
    residual_zero_point: int = 0
    rows: RowNumbers | None = None
    x_range: tuple[int, int] | None = None
    bits: int = 8
    group_mult: Array | None = None
    block: int = 0

    @property
    def scaled_weights(self) -> Array:
        """W of the formula, (O, ky, kx, I)."""
        if self.group_mult is None:
            return np.asarray(self.weights)
        spread = np.repeat(np.asarray(self.group_mult, np.int32), self.block, axis=-1)
        return np.asarray(self.weights, np.int32) * spread[..., : self.weights.shape[-1]]


def arguments(residual: bool, scale: bool = False) -> tuple[str, ...]:
    """The pointers of a contraction kernel, in order."""
    others = (*(("residual",) if residual else ()), *(("scale",) if scale else ()))
    return ("x", "weights", "constants", *others, "y")
