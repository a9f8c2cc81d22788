"""Contractions that the dot instructions cannot do: of 16-bit weights or inputs.

    wide(x: Plane, y: Plane, weights, bias, features, strides, dilations, groups, scale=None,
         residual=None: Plane, residual_zero_point=0)

        acc[n,y,x,o] = bias[o] + sum over ky, kx, c of
                       X[n, y*sy + ky*dy, x*sx + kx*dx, g(o)*I + c] * W[o,ky,kx,c]

Arguments ("x", "weights", "constants", ["residual",] "y"). X is u8, i8 or i16, already padded with
its zero point, which the caller folds into the bias; W (O, ky, kx, I), a stored w less its zero
point, fits i16. y is i32 (acc), or requantized by a Scale: one mult, or with a residual two, the
second for the residual; arrays broadcast to (N, H, W, O). A fully connected layer is a 1x1
convolution on (N, 1, 1, C).
Needs: acc, and every partial sum of stored X, fit i32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array, arguments
from qir.backends.kernels.fields import Fields
from qir.backends.kernels.kernel import Kernel, vector_bytes
from qir.backends.kernels.plane import RANGE, Plane
from qir.backends.kernels.requantize.scale import Scale, ScaleTerm
from qir.backends.kernels.requantize.scaling import Scaling, scaled_or_raw


@dataclass(frozen=True)
class WideCode:
    """One unit is one row of y. Weights are (ky, kx, I, O): outputs side by side in a vector.

    `params`: strides of the scaling's arrays along (n, y, x, o).
    """

    x: Plane
    y: Plane
    residual: Plane | None
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    groups: int
    scaling: Scaling | None
    params: tuple[int, ...]
    vector_bytes: int

    @property
    def units(self) -> int:
        return self.y.batch * self.y.height

    @property
    def share(self) -> tuple[int, int]:
        """(inputs, outputs) of a group."""
        return self.x.channels // self.groups, self.y.channels // self.groups

    @property
    def arguments(self) -> tuple[str, ...]:
        return arguments(self.residual is not None)

    @property
    def weights(self) -> Fields:
        count = self.kernel[0] * self.kernel[1] * self.share[0] * self.y.channels
        return Fields((("weights", "int16", count),))

    @property
    def fields(self) -> Fields:
        bias_field = Fields((("bias", "int32", self.y.channels),))
        return bias_field + self.scaling.fields if self.scaling else bias_field


def wide(
    x: Plane,
    y: Plane,
    weights: Array,
    bias: Array | int,
    features: frozenset[str],
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    scale: Scale | None = None,
    residual: Plane | None = None,
    residual_zero_point: int = 0,
) -> Kernel:
    """A convolution of integers up to 16 bits, accumulated in i32."""
    kernel = (int(weights.shape[1]), int(weights.shape[2]))
    _check(x, y, weights, residual, strides, dilations, groups)
    biases = np.broadcast_to(np.asarray(bias, np.int64), (y.channels,))
    if biases.min() < RANGE["int32"][0] or biases.max() > RANGE["int32"][1]:
        raise ValueError(f"wide: bias [{biases.min()}, {biases.max()}], 32 bits are needed")
    values: dict[str, Array] = {"bias": biases}
    terms = [ScaleTerm.of("int32")]
    if residual is not None:
        if scale is None:
            raise ValueError("wide: a residual without a scale, one is needed to add it")
        terms.append(ScaleTerm.of(residual.dtype, residual_zero_point))
    scaling, params, scale_values = scaled_or_raw("wide", scale, terms, y.dtype, y.shape)
    code = WideCode(
        x, y, residual, kernel, strides, dilations, groups, scaling, params, vector_bytes(features)
    )
    outputs_last = np.moveaxis(np.asarray(weights, np.int64), 0, -1)
    packed = code.weights.pack({"weights": outputs_last})
    return Kernel(code, code.fields.pack(values | scale_values), packed)


def _check(
    x: Plane,
    y: Plane,
    weights: Array,
    residual: Plane | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> None:
    need = (y.channels, *weights.shape[1:3], x.channels // groups)
    if x.channels % groups or y.channels % groups or weights.shape != need:
        raise ValueError(f"wide: weights are {list(weights.shape)}, {list(need)} is needed")
    if weights.min() < -(2**15) or weights.max() >= 2**15 or x.dtype == "int32":
        raise ValueError(
            f"wide: x is {x.dtype}, weights [{weights.min()}, {weights.max()}]; 16 bits are needed"
        )
    if x.batch != y.batch or (residual is not None and residual.shape != y.shape):
        raise ValueError(
            f"wide: x is {list(x.shape)}, residual {residual and list(residual.shape)},"
            f" y {list(y.shape)}; one batch, and the shape of y, are needed"
        )
    for axis, name in enumerate(("height", "width")):
        size, out = (x.height, x.width)[axis], (y.height, y.width)[axis]
        reach = (out - 1) * strides[axis] + (weights.shape[1 + axis] - 1) * dilations[axis] + 1
        if size < reach:
            raise ValueError(f"wide: x has {name} {size}, {reach} needed for {out} outputs")
