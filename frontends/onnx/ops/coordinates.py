"""Source coordinates of the elements of a resized axis, and weights of their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.frontends.onnx.context import MAX_TAPS, ImportContext
from qir.ir.types import Array

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True)
class Axis:
    """One resized axis: sizes before and after, the scale, and the region of it that is taken."""

    old: int
    new: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Method:
    """The attributes of Resize that map coordinates of one axis."""

    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def coordinates(ctx: ImportContext, axis: Axis, method: Method) -> Array:
    """The coordinate in the old axis of each element of the new one, in float32 as runtimes do.

    Source: ONNX Resize, attribute coordinate_transformation_mode.
    """
    if axis.new > MAX_TAPS:
        ctx.refuse(f"an axis of {axis.new} elements", f"at most {MAX_TAPS} are needed")
    f = np.float32
    y, scale, length = np.arange(axis.new, dtype=f), f(axis.scale), f(axis.scale) * f(axis.old)
    half = (y + f(0.5)) / scale - f(0.5)
    match method.coordinates:
        case "half_pixel":
            return half
        case "pytorch_half_pixel":
            return half if length > 1 else np.zeros_like(y)
        case "half_pixel_symmetric":
            return half + f(axis.old) / 2 * (1 - f(axis.new) / length)
        case "asymmetric":
            return y / scale
        case "align_corners":
            return y * f(axis.old - 1) / (length - 1) if length != 1 else np.zeros_like(y)
        case "tf_half_pixel_for_nn":
            return (y + f(0.5)) / scale
        case "tf_crop_and_resize":
            first, last = f(axis.start) * f(axis.old - 1), f(axis.end) * f(axis.old - 1)
            if length == 1:
                return np.full_like(y, (first + last) / 2)
            return first + y * (last - first) / (length - 1)
    return ctx.refuse(
        f"coordinate_transformation_mode {method.coordinates!r}", "one of ONNX Resize is needed"
    )


def nearest(ctx: ImportContext, axis: Axis, method: Method) -> Array:
    """The element of the old axis that each of the new one copies."""
    x = coordinates(ctx, axis, method)
    match method.nearest:
        case "round_prefer_floor":
            indices = np.ceil(x - np.float32(0.5))
        case "round_prefer_ceil":
            indices = np.floor(x + np.float32(0.5))
        case "floor":
            indices = np.floor(x)
        case "ceil":
            indices = np.ceil(x)
        case "simple":  # before opset 11 there was no attribute: down rounds up, up rounds down
            indices = np.ceil(x) if axis.scale < 1 else np.floor(x)
        case _:
            ctx.refuse(f"nearest_mode {method.nearest!r}", f"one of {', '.join(NEAREST)} is needed")
    return np.clip(indices, 0, axis.old - 1).astype(np.int64)


def linear_taps(ctx: ImportContext, axis: Axis, method: Method) -> tuple[Array, Array]:
    """Index and weight, each (new, 2), of the two neighbours of each coordinate."""
    x = np.clip(coordinates(ctx, axis, method).astype(np.float64), 0, axis.old - 1)
    low = np.floor(x).astype(np.int64)
    high = np.minimum(low + 1, axis.old - 1)
    distance = x - low
    return np.stack([low, high], 1), np.stack([1 - distance, distance], 1)


def matrix(ctx: ImportContext, axis: Axis, method: Method, is_cubic: bool) -> Array:
    """(new, old) weights: new axis = matrix @ old axis; rows of zeros where nothing is read.

    Source: ONNX Resize; antialiased filters are as wide as the step between the samples.
    """
    if axis.new * axis.old > MAX_TAPS:
        ctx.refuse(f"axis {axis.old} to {axis.new}", "a smaller resize is needed")
    x = coordinates(ctx, axis, method).astype(np.float64)
    step = min(axis.scale, 1.0) if method.antialias else 1.0
    radius = 2 if is_cubic else 1
    reach = int(np.ceil(radius / step)) + 1
    if axis.new * (2 * reach + 1) > 4 * MAX_TAPS:
        ctx.refuse(f"a filter of {2 * reach + 1} taps", "a smaller resize is needed")
    taps = np.floor(x).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    distance = np.abs(taps - x[:, None]) * step
    weights = _cubic(distance, method.cubic) if is_cubic else np.clip(1 - distance, 0, None)
    if method.exclude_outside:
        weights = np.where((taps < 0) | (taps >= axis.old), 0, weights)
    weights = weights / weights.sum(1, keepdims=True)
    weight_matrix = np.zeros((axis.new, axis.old))
    rows = np.broadcast_to(np.arange(axis.new)[:, None], taps.shape)
    np.add.at(weight_matrix, (rows, np.clip(taps, 0, axis.old - 1)), weights)
    if method.coordinates == "tf_crop_and_resize":
        weight_matrix[outside(ctx, axis, method)] = 0
    return weight_matrix


def outside(ctx: ImportContext, axis: Axis, method: Method) -> Array:
    """Which elements of the new axis lie beyond the old one (only where a region is taken)."""
    x = coordinates(ctx, axis, method)
    return np.asarray((x < 0) | (x > axis.old - 1))


def _cubic(d: Array, a: float) -> Array:
    """Keys' kernel: (a+2)d^3 - (a+3)d^2 + 1 up to 1, a d^3 - 5a d^2 + 8a d - 4a up to 2, else 0."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, outer, 0.0))
