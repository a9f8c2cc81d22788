"""Bounds: the least and greatest integer a value can hold, per channel where that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.errors import VerifyError
from qir.ir.types import Tensor, integer_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """low <= every stored value <= high; Python integers in object arrays, () or (C,) over the last
    axis.
    """

    low: Array
    high: Array

    @staticmethod
    def of(low: npt.ArrayLike, high: npt.ArrayLike) -> Bounds:
        return Bounds(_exact(low), _exact(high))

    @staticmethod
    def of_type(type_: Tensor) -> Bounds:
        """All that the storage can hold."""
        kept = integer_of(type_.elem)
        if kept is None:
            raise VerifyError(f"bounds: {type_} stores no integers")
        return Bounds.of(kept.min, kept.max)

    @property
    def whole(self) -> tuple[int, int]:
        """(least, greatest) over all channels."""
        return int(self.low.min()), int(self.high.max())

    def join(self, other: Bounds) -> Bounds:
        """The bounds of a value that comes from either, channels forgotten."""
        (a, b), (c, d) = self.whole, other.whole
        return Bounds.of(min(a, c), max(b, d))

    def scaled(self, factor: npt.ArrayLike) -> Bounds:
        """Bounds of value * factor, factor an integer or one for each channel."""
        f = _exact(factor)
        a, b = self.low * f, self.high * f
        return Bounds(np.minimum(a, b), np.maximum(a, b))

    def plus(self, other: Bounds) -> Bounds:
        return Bounds(_exact(self.low + other.low), _exact(self.high + other.high))

    def shifted(self, by: int) -> Bounds:
        return Bounds(_exact(self.low + by), _exact(self.high + by))


@dataclass(frozen=True)
class Extreme:
    """One intermediate of an op: what it is, its bounds, and the bits it is held in."""

    what: str
    bounds: Bounds
    bits: int

    @property
    def fits(self) -> bool:
        low, high = self.bounds.whole
        return -(1 << (self.bits - 1)) <= low and high < 1 << (self.bits - 1)


def _exact(x: npt.ArrayLike) -> Array:
    """Integers as Python ints in an object array: no bound can wrap."""
    a = np.asarray(x)
    if a.dtype == object:
        return a
    out = np.empty(a.shape, object)
    out[...] = a.astype(object) if a.ndim else int(a)
    return out
