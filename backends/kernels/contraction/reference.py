"""The meaning of a contraction in NumPy int64: slow, and what the kernels are tested against."""

from __future__ import annotations

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, ContractionSpec
from qir.backends.kernels.plane import Plane


def view(buffer: Array, plane: Plane) -> Array:
    """The plane's elements of a flat buffer as an (N, H, W, C) view."""
    size = buffer.itemsize
    strides = [size * pitch for pitch in (plane.pitch_n, plane.pitch_y, plane.pitch_x, 1)]
    return np.lib.stride_tricks.as_strided(buffer, plane.shape, strides)


def accumulate(spec: ContractionSpec, x: Array, weights: Array) -> Array:
    """acc (N, H, W, O) int64, without bias."""
    o, ky, kx, i = spec.weight_shape
    n, h, w, _ = spec.y.shape
    wide = np.asarray(weights, np.int64).reshape(spec.groups, o // spec.groups, ky, kx, i)
    acc = np.zeros((n, h, w, spec.groups, o // spec.groups), np.int64)
    for a in range(ky):
        for b in range(kx):
            y0, x0 = a * spec.dilations[0], b * spec.dilations[1]
            rows = slice(y0, y0 + (h - 1) * spec.strides[0] + 1, spec.strides[0])
            cols = slice(x0, x0 + (w - 1) * spec.strides[1] + 1, spec.strides[1])
            part = x[:, rows, cols].astype(np.int64).reshape(n, h, w, spec.groups, i)
            acc += np.einsum("nhwgi,goi->nhwgo", part, wide[:, :, a, b])
    return acc.reshape(n, h, w, o)


def evaluate(
    spec: ContractionSpec, const: Constants, x: Array, residual: Array | None = None
) -> Array:
    """Y (N, H, W, O) from X (N, H', W', C) and the residual (N, H, W, O), all stored values."""
    acc = accumulate(spec, x, const.scaled_weights) + np.asarray(const.bias, np.int64)
    if spec.is_raw:
        return acc.astype(np.int32)
    shift = np.asarray(const.shift, np.int64)
    wide = acc * np.asarray(const.mult, np.int64) + (np.int64(1) << (shift - 1))
    if spec.residual is not None:
        assert residual is not None
        wide += (residual.astype(np.int64) - const.residual_zero_point) * np.asarray(
            const.residual_mult, np.int64
        )
    stored: Array = np.clip((wide >> shift) + const.zero_point, *spec.clamp).astype(spec.y.dtype)
    return stored
