"""Resizing: nearest as gathers, bilinear as its own op, bicubic as two matrices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qir.frontends.torch.context import ImportContext, Operand
from qir.frontends.torch.ops.layout import TorchPlane, on_last_axis
from qir.frontends.torch.table import imports
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import Bilinear, Gather, Linear

Sizes = Sequence[int] | None
Scales = Sequence[float] | None
Array = npt.NDArray[Any]
F = np.float32  # torch computes places in float32: floors at the edge come out the same


@imports("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec")
def nearest(ctx: ImportContext, x: Operand, output_size: Sizes, scale_factors: Scales) -> Value:
    return gathers(ctx, ctx.value(x), output_size, scale_factors, is_exact=False)


@imports("aten._upsample_nearest_exact1d.vec", "aten._upsample_nearest_exact2d.vec")
def nearest_exact(
    ctx: ImportContext, x: Operand, output_size: Sizes, scale_factors: Scales
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, scale_factors, is_exact=True)


@imports("aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default")
def nearest_core(
    ctx: ImportContext, x: Operand, output_size: Sequence[int], *scales: float | None
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, complete(scales), is_exact=False)


@imports("aten._upsample_nearest_exact1d.default", "aten._upsample_nearest_exact2d.default")
def nearest_exact_core(
    ctx: ImportContext, x: Operand, output_size: Sequence[int], *scales: float | None
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, complete(scales), is_exact=True)


@imports("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec")
def bilinear(
    ctx: ImportContext, x: Operand, output_size: Sizes, align_corners: bool, scale_factors: Scales
) -> Value:
    """upsample_bilinear2d, upsample_linear1d -> bilinear, between transposes."""
    at = ctx.value(x)
    axes = at.type.rank - 2
    sizes = targets(at, output_size, scale_factors)
    scales = [None] * axes if scale_factors is None else list(scale_factors)
    plane = TorchPlane.of(ctx, at, axes)
    full = sizes if axes == 2 else [1, *sizes]
    steps = scales if axes == 2 else [None, *scales]
    places = [
        pairs(size, out, scale, align_corners)
        for size, out, scale in zip(plane.x.type.shape[1:3], full, steps, strict=True)
    ]
    (rows, u), (columns, v) = places
    return plane.back(ctx.add(Bilinear(plane.x, Data(rows), Data(columns), Data(u), Data(v))))


@imports("aten.upsample_linear1d.default", "aten.upsample_bilinear2d.default")
def bilinear_core(
    ctx: ImportContext,
    x: Operand,
    output_size: Sequence[int],
    align_corners: bool,
    *scales: float | None,
) -> Value:
    return bilinear(ctx, x, output_size, align_corners, complete(scales))


@imports("aten.upsample_bicubic2d.vec")
def bicubic(
    ctx: ImportContext, x: Operand, output_size: Sizes, align_corners: bool, scale_factors: Scales
) -> Value:
    """Each axis by a constant matrix of four taps, between transposes."""
    y = ctx.value(x)
    rank = y.type.rank
    sizes = targets(y, output_size, scale_factors)
    scales = [None] * len(sizes) if scale_factors is None else list(scale_factors)
    for k, (out, scale) in enumerate(zip(sizes, scales, strict=True)):
        axis = rank - 2 + k
        weights = torch.from_numpy(cubic_matrix(y.type.shape[axis], out, scale, align_corners))
        matrix = ctx.value(weights.float())
        y = on_last_axis(ctx, y, axis, partial(weighted, ctx, matrix))
    return y


def weighted(ctx: ImportContext, matrix: Value, x: Value) -> Value:
    return ctx.add(Linear(x, matrix, None))


@imports("aten.upsample_bicubic2d.default")
def bicubic_core(
    ctx: ImportContext, x: Operand, output_size: Sequence[int], align_corners: bool,
    *scales: float | None,
) -> Value:  # fmt: skip
    return bicubic(ctx, x, output_size, align_corners, complete(scales))


def cubic_matrix(size: int, out: int, scale: float | None, align_corners: bool) -> Array:
    """(out, size): row o weighs the elements around the place of o, those outside as the last ones.

    Source: ATen/native/UpSample.h, get_cubic_upsample_coefficients, with A = -0.75.
    """
    a, o = -0.75, np.arange(out, dtype=F)
    if align_corners:
        place = o * F((size - 1) / (out - 1) if out > 1 else 0)
    else:
        place = (o + F(0.5)) * step_of(size, out, scale) - F(0.5)
    low = np.minimum(np.floor(place).astype(np.int64), size - 1)
    t = np.clip((place - low).astype(np.float64), 0, 1)
    matrix = np.zeros((out, size))
    for tap in range(-1, 3):
        d = np.abs(tap - t)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        column = np.clip(low + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(out), column), np.where(d <= 1, near, far))
    return matrix


def complete(scales: Sequence[float | None]) -> Scales:
    """The scales, or None where torch was given a size instead."""
    factors = [s for s in scales if s is not None]
    return factors if factors and len(factors) == len(scales) else None


def targets(x: Value, output_size: Sizes, scales: Scales) -> list[int]:
    """The sizes to reach, one for each spatial axis."""
    if output_size is not None:
        return [int(s) for s in output_size]
    assert scales is not None, "torch gives a size or scales"
    return [int(np.floor(s * f)) for s, f in zip(x.type.shape[2:], scales, strict=True)]


def gathers(
    ctx: ImportContext, x: Value, output_size: Sizes, scales: Scales, *, is_exact: bool
) -> Value:
    """y[o] = x[source(o)] on each spatial axis, as gathers."""
    y = x
    sizes = targets(x, output_size, scales)
    for k, out in enumerate(sizes):
        size = x.type.shape[2 + k]
        scale = None if scales is None else scales[k]
        index = sources(size, out, scale, is_exact, is_plane=len(sizes) == 2)
        if not np.array_equal(index, np.arange(size)):
            y = ctx.add(Gather(y, Data(index), 2 + k))
    return y


def sources(size: int, out: int, scale: float | None, is_exact: bool, is_plane: bool) -> Array:
    """Which element of x each of y copies: floor(o * step), or floor((o + 0.5) * step) if exact.

    In two axes (`is_plane`) and not exact, sizes that are equal or double ignore the scale.
    Source: ATen/native/UpSample.h, nearest_idx and nearest_exact_idx; one axis by experiment.
    """
    o = np.arange(out, dtype=F)
    if is_plane and not is_exact and out in (size, 2 * size):
        return np.arange(out) // (out // size)
    place = (o + F(0.5) if is_exact else o) * step_of(size, out, scale)
    return np.asarray(np.minimum(np.floor(place).astype(np.int64), size - 1))


def step_of(size: int, out: int, scale: float | None) -> np.float32:
    """The step in x for one step in y. Source: ATen/native/UpSample.h, compute_scales_value."""
    return F(size / out) if scale is None or scale <= 0 else F(1.0 / scale)


def pairs(size: int, out: int, scale: float | None, align_corners: bool) -> tuple[Array, Array]:
    """((out, 2) indices, (out, 2) weights): the neighbours of each place, and how near they are.

    place = o * (size - 1) / (out - 1) with align_corners, else max((o + 0.5) * step - 0.5, 0).
    """
    o = np.arange(out, dtype=F)
    if size == out:
        place = o
    elif align_corners:
        place = o * F((size - 1) / (out - 1) if out > 1 else 0)
    else:
        place = np.maximum((o + F(0.5)) * step_of(size, out, scale) - F(0.5), F(0))
    low = np.minimum(place.astype(np.int64), size - 1)
    far = np.clip((place - low).astype(np.float64), 0, 1)
    return np.stack([low, np.minimum(low + 1, size - 1)], 1), np.stack([1 - far, far], 1)
