"""A tensor as a kernel reads it: shape and strides in elements, from a pointer to the first one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from qir.backends.kernels.plane import BYTES, Plane, check_indices


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to exactly `to`, as NumPy does."""
    try:
        return np.broadcast_shapes(shape, to) == tuple(to)
    except ValueError:
        return False


@dataclass(frozen=True)
class View:
    """Element (i, j, ...) lies at i * strides[0] + j * strides[1] + ...; any strides, 0 too.

    Errors: ValueError when dtype, shape and strides do not make a tensor, or one that is too large
    for 32-bit indices.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in BYTES:
            raise ValueError(f"view: dtype is {self.dtype}, one of {', '.join(BYTES)} is needed")
        if len(self.shape) != len(self.strides):
            raise ValueError(
                f"view: {len(self.strides)} strides for shape {list(self.shape)},"
                f" {len(self.shape)} are needed"
            )
        if min(self.shape, default=1) < 1:
            raise ValueError(f"view: shape is {list(self.shape)}, at least 1 each is needed")
        ends = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        for reach in (sum(e for e in ends if e > 0), -sum(e for e in ends if e < 0)):
            check_indices("view: elements from the first to the last", 1 + reach)

    @staticmethod
    def packed(dtype: str, shape: tuple[int, ...]) -> View:
        """Row by row, without gaps."""
        strides = tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        return View(dtype, tuple(shape), strides)

    @staticmethod
    def of(plane: Plane) -> View:
        """A plane as (N, H, W, C)."""
        return View(plane.dtype, plane.shape, (plane.pitch_n, plane.pitch_y, plane.pitch_x, 1))

    def expanded(self, shape: tuple[int, ...]) -> View:
        """Broadcast to `shape` as NumPy does: axes that repeat get stride 0."""
        if not broadcasts(self.shape, shape):
            raise ValueError(f"view: {list(self.shape)} does not broadcast to {list(shape)}")
        new = len(shape) - len(self.shape)
        strides = [t if s > 1 else 0 for s, t in zip(self.shape, self.strides, strict=True)]
        return View(self.dtype, tuple(shape), (*[0] * new, *strides))

    def transposed(self, perm: tuple[int, ...]) -> View:
        """Axis k is axis perm[k] of this view."""
        shape, strides = (tuple(v[p] for p in perm) for v in (self.shape, self.strides))
        return View(self.dtype, shape, strides)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def item(self) -> int:
        """Bytes of one element."""
        return BYTES[self.dtype]
