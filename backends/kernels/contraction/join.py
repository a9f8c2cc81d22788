"""The same contraction with pixels run together: longer rows, fuller vectors of few channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qir.backends.kernels.contraction.spec import Array, Constants, ContractionSpec
from qir.backends.kernels.plane import Plane


def join_rows(spec: ContractionSpec) -> ContractionSpec:
    """Join images and rows to one row where a pixel needs no neighbour."""
    if spec.kernel != (1, 1) or spec.strides != (1, 1):
        return spec
    spec = _join(spec, lambda p: p.images_adjoin, Plane.images_joined)
    return _join(spec, lambda p: p.rows_adjoin, Plane.rows_joined)


def _join(
    spec: ContractionSpec, adjoin: Callable[[Plane], bool], join: Callable[[Plane], Plane]
) -> ContractionSpec:
    rows = spec.rows
    planes = [spec.x, spec.y, *_others(spec)]
    if spec.x.shape[:3] != spec.y.shape[:3] or not all(adjoin(p) for p in planes):
        return spec
    residual = join(spec.residual) if spec.residual else None
    if rows is not None:
        more = join(rows.residual) if rows.residual else None
        rows = replace(rows, scale=join(rows.scale), residual=more)
    return replace(spec, x=join(spec.x), y=join(spec.y), residual=residual, rows=rows)


def _others(spec: ContractionSpec) -> list[Plane]:
    """What is read with every pixel of Y."""
    more = (spec.rows.scale, spec.rows.residual) if spec.rows else ()
    return [p for p in (spec.residual, *more) if p]


def fold_pixels(
    spec: ContractionSpec, const: Constants, lanes: int
) -> tuple[ContractionSpec, Constants]:
    """Adjacent pixels of few channels become one pixel of all their channels.

    The kernel grows by the strides between them, with zero weights outside each pixel's own
    window: no more dots than before, and one epilogue for all of them.
    """
    pixels, y, planes = 1, spec.y, [p for p in (spec.y, spec.residual) if p]
    while 2 * pixels * y.channels <= lanes and y.width % (2 * pixels) == 0:
        pixels *= 2
    gapless = all(p.pitch_x == p.channels for p in planes)
    is_plain = spec.groups == spec.dilations[1] == 1 and spec.rows is None
    if pixels == 1 or not gapless or not is_plain:
        return spec, const
    (ky, kx), (sy, sx) = spec.kernel, spec.strides

    def spread(taps: Array) -> Array:
        """(O, ky, kx, n) -> one kernel for each pixel, zero outside that pixel's window."""
        block = np.zeros(
            (pixels, y.channels, ky, kx + (pixels - 1) * sx, taps.shape[3]), taps.dtype
        )
        for i in range(pixels):
            block[i, :, :, i * sx : i * sx + kx] = taps
        return block.reshape(-1, *block.shape[2:])

    def repeated(values: Array | int) -> Array:
        return np.tile(np.broadcast_to(np.asarray(values, np.int64), (y.channels,)), pixels)

    fold = replace(
        spec,
        y=_fold_plane(y, pixels),
        residual=_fold_plane(spec.residual, pixels) if spec.residual else None,
        kernel=(ky, kx + (pixels - 1) * sx),
        strides=(sy, sx * pixels),
    )
    return fold, replace(
        const,
        weights=spread(const.weights),
        group_mult=None if const.group_mult is None else spread(const.group_mult),
        bias=repeated(const.bias),
        mult=repeated(const.mult),
        shift=repeated(const.shift),
        residual_mult=repeated(const.residual_mult),
    )


def _fold_plane(plane: Plane, pixels: int) -> Plane:
    channels = plane.channels * pixels
    return replace(plane, width=plane.width // pixels, channels=channels, pitch_x=channels)
