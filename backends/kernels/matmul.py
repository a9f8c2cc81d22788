"""The kernel of a product of two activations.

    matmul(a: View, b: View, (za, zb), y: View, features, scale=None)
        y[..., m, n] = sum over k of (a[..., m, k] - za) * (b[..., k, n] - zb)

Arguments ("a", "b", "constants", "y"). a (..., M, K), b (..., K, N), y (..., M, N), leading axes
broadcast; any strides, so either may be a transposed view. y is i32, or requantized by a Scale
whose arrays broadcast to y's shape.
Needs: the sum, and every part of it, fits i32.
"""

from __future__ import annotations

from dataclasses import dataclass

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
class MatMulCode(NestCode):
    """The nest's operands: a, b, the arrays of the scaling, y; its last two axes are M and N.

    `depth`: K, and the strides of a and b along it.
    """

    dtypes: tuple[str, str]
    y: str
    depth: tuple[int, int, int]
    scaling: Scaling | None
    nest: Nest
    vector_bytes: int

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("a", "b", "constants", "y")

    @property
    def fields(self) -> Fields:
        zeros = Fields((("zero_a", "int32", 1), ("zero_b", "int32", 1)))
        return zeros + self.scaling.fields if self.scaling else zeros


def matmul(
    a: View,
    b: View,
    zero_points: tuple[int, int],
    y: View,
    features: frozenset[str],
    scale: Scale | None = None,
) -> Kernel:
    """The exact product of two tensors, or that product requantized."""
    batch_shape = y.shape[:-2]
    (m, k), n = a.shape[-2:], b.shape[-1]
    if b.shape[-2] != k or y.shape[-2:] != (m, n):
        raise ValueError(
            f"matmul: a is {list(a.shape)}, b {list(b.shape)}, y {list(y.shape)};"
            " [M, K], [K, N] and [M, N] are needed"
        )
    values: dict[str, Array] = {
        "zero_a": np.asarray(zero_points[0]),
        "zero_b": np.asarray(zero_points[1]),
    }
    term = _term(a, b, zero_points, k)
    scaling, params, scale_values = scaled_or_raw("matmul", scale, [term], y.dtype, y.shape)
    whole_a, whole_b = (
        a.expanded((*batch_shape, m, k)).strides,
        b.expanded((*batch_shape, k, n)).strides,
    )
    walked = ((*whole_a[:-1], 0), (*whole_b[:-2], 0, whole_b[-1]), params, y.strides)
    loops = nest(y.shape, walked, inner=2)
    depth = k, whole_a[-1], whole_b[-2]
    code = MatMulCode((a.dtype, b.dtype), y.dtype, depth, scaling, loops, vector_bytes(features))
    return Kernel(code, code.fields.pack(values | scale_values))


def _term(a: View, b: View, zero_points: tuple[int, int], k: int) -> ScaleTerm:
    ends = [[e - z for e in RANGE[v.dtype]] for v, z in zip((a, b), zero_points, strict=True)]
    corners = [p * q * k for p in ends[0] for q in ends[1]]
    return ScaleTerm.total(min(corners), max(corners))
