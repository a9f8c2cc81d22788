"""The float border in NumPy, for programs whose own border cannot be called here.

    stored = clamp(round(f32(x) / f32(scale)) + zero_point), ties to even
    real   = f32(stored - zero_point) * f32(scale)

Bit for bit what NAME_border.c does: the division and the product are IEEE float32, all between is
exact in float64. A NaN becomes the least stored value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .port import Port

Array = npt.NDArray[Any]


def quantized(port: Port, x: Array) -> Array:
    """Quantize reals; integers without a scale pass unchanged."""
    if port.scale is None:
        return x
    scale, zero = _numbers(port)
    with np.errstate(all="ignore"):  # infinities and NaN are taken care of
        steps = np.rint((x.astype(np.float32) / scale).astype(np.float64)) + zero
    codes: Array = np.fmin(np.fmax(steps, port.low), port.high)  # fmax takes what is no NaN
    return codes.astype(port.dtype)


def dequantized(port: Port, stored: Array) -> Array:
    """The reals of stored integers."""
    if port.scale is None:
        return stored
    scale, zero = _numbers(port)
    return (stored.astype(np.int64) - zero).astype(np.float32) * scale


def _numbers(port: Port) -> tuple[Array, Array]:
    """Scale and zero point in a shape that goes along the port's axis."""
    scale, zero = np.asarray(port.scale, np.float32), np.asarray(port.zero_point, np.int64)
    if port.axis is None:
        return scale.reshape(()), zero.reshape(())
    shape = [1] * len(port.shape)
    shape[port.axis] = -1
    return scale.reshape(shape), zero.reshape(shape)
