"""Resizing: nearest as gathers, bilinear as its own op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.frontends.torch.context import ImportContext, Operand
from qir.frontends.torch.ops.layout import Plane
from qir.frontends.torch.table import imports
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import Bilinear, Gather

Sizes = Sequence[int] | None
Scales = Sequence[float] | None
Array = npt.NDArray[Any]
F = np.float32  # torch computes places in float32: floors at the edge come out the same


@imports("aten.upsample_nearest1d.vec", "aten.upsample_nearest2d.vec")
def nearest(ctx: ImportContext, x: Operand, output_size: Sizes, scale_factors: Scales) -> Value:
    return gathers(ctx, ctx.value(x), output_size, scale_factors, 0.0)


@imports("aten._upsample_nearest_exact1d.vec", "aten._upsample_nearest_exact2d.vec")
def nearest_exact(
    ctx: ImportContext, x: Operand, output_size: Sizes, scale_factors: Scales
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, scale_factors, 0.5)


@imports("aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default")
def nearest_core(
    ctx: ImportContext, x: Operand, output_size: Sequence[int], *scales: float | None
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, given(scales), 0.0)


@imports("aten._upsample_nearest_exact1d.default", "aten._upsample_nearest_exact2d.default")
def nearest_exact_core(
    ctx: ImportContext, x: Operand, output_size: Sequence[int], *scales: float | None
) -> Value:
    return gathers(ctx, ctx.value(x), output_size, given(scales), 0.5)


@imports("aten.upsample_linear1d.vec", "aten.upsample_bilinear2d.vec")
def bilinear(
    ctx: ImportContext, x: Operand, output_size: Sizes, align_corners: bool, scale_factors: Scales
) -> Value:
    """upsample_bilinear2d, upsample_linear1d -> bilinear, between transposes."""
    at = ctx.value(x)
    axes = at.type.rank - 2
    sizes = targets(at, output_size, scale_factors)
    scales = [None] * axes if scale_factors is None else list(scale_factors)
    plane = Plane.of(ctx, at, axes)
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
    return bilinear(ctx, x, output_size, align_corners, given(scales))


def given(scales: Sequence[float | None]) -> Scales:
    """The scales, or None where torch was given a size instead."""
    known = [s for s in scales if s is not None]
    return known if known and len(known) == len(scales) else None


def targets(x: Value, output_size: Sizes, scales: Scales) -> list[int]:
    """The sizes to reach, one for each spatial axis."""
    if output_size is not None:
        return [int(s) for s in output_size]
    assert scales is not None, "torch gives a size or scales"
    return [int(np.floor(s * f)) for s, f in zip(x.type.shape[2:], scales, strict=True)]


def gathers(
    ctx: ImportContext, x: Value, output_size: Sizes, scales: Scales, shift: float
) -> Value:
    """y[o] = x[min(floor((o + shift) * step), size - 1)] on each spatial axis, as gathers."""
    y = x
    for k, out in enumerate(targets(x, output_size, scales)):
        size = x.type.shape[2 + k]
        if out != size:
            step = step_of(size, out, None if scales is None else scales[k])
            at = np.floor((np.arange(out, dtype=F) + F(shift)) * step).astype(np.int64)
            y = ctx.add(Gather(y, Data(np.minimum(at, size - 1)), 2 + k))
    return y


def step_of(size: int, out: int, scale: float | None) -> np.float32:
    """How far in x one step in y goes. Source: ATen/native/UpSample.h, compute_scales_value."""
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
