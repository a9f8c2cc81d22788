"""Bounds: the least and greatest integer a value can hold, per channel where that is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.errors import VerifyError
from qir.ir.types import Int, Quant, Tensor, integer_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """low <= every stored value <= high: Python integers, which no sum or product can wrap.

    Shapes: low, high broadcast against the value as NumPy does, with at most one axis longer than
            1: () for all elements, (C,) for each channel of the last axis, (N, 1) for each slice of
            the axis before it.
    """

    low: Array
    high: Array

    @staticmethod
    def of(low: npt.ArrayLike, high: npt.ArrayLike) -> Bounds:
        """Bounds for each element of one axis; of arrays with more axes, one for all elements."""
        a, b = np.asarray(low), np.asarray(high)
        if any(sum(s > 1 for s in x.shape) > 1 for x in (a, b)):
            return Bounds(_exact(int(a.min())), _exact(int(b.max())))
        return Bounds(_exact(a), _exact(b))

    @staticmethod
    def of_type(type_: Tensor) -> Bounds:
        """The range of the storage type."""
        storage = integer_of(type_.elem)
        if storage is None:
            raise VerifyError(f"bounds: {type_} stores no integers")
        return Bounds.of(storage.min, storage.max)

    @staticmethod
    def of_array(array: Array) -> Bounds:
        """Of known elements, for each slice of an array with one axis longer than 1; of none: 0."""
        return Bounds.of(array, array) if array.size else Bounds.of(0, 0)

    @staticmethod
    def of_known(operand: Any) -> Bounds:
        """Of an operand as bound() and extremes() see it: bounds, or the elements of a constant."""
        return operand if isinstance(operand, Bounds) else Bounds.of_array(operand)

    @staticmethod
    def centred(operand: Any, type_: Tensor) -> Bounds:
        """Of x - zero_point, with the zero point of each slice where both are known, else with the
        worst one for each end.
        """
        if not isinstance(type_.elem, Quant):
            return Bounds.of_known(operand)
        zero = Bounds.of_array(type_.elem.spread(type_.shape)[1])
        return Bounds.of_known(operand).minus(zero)

    @property
    def ends(self) -> tuple[int, int]:
        """(least, greatest) over all elements."""
        return int(self.low.min()), int(self.high.max())

    @property
    def forgotten(self) -> Bounds:
        """One pair of bounds for all elements, as after data movement."""
        return Bounds.of(*self.ends)

    @property
    def of_channels(self) -> Bounds:
        """The bounds after data movement along all axes but the last."""
        return self if {_axis(self.low), _axis(self.high)} <= {None, -1} else self.forgotten

    def join(self, other: Bounds) -> Bounds:
        """The bounds of a value that comes from either, channels forgotten."""
        (a, b), (c, d) = self.ends, other.ends
        return Bounds.of(min(a, c), max(b, d))

    def aligned(self, other: Bounds) -> tuple[Bounds, Bounds]:
        """Both, channels forgotten where they are those of different axes: now they broadcast."""
        axes = {_axis(x.low) for x in (self, other)} | {_axis(x.high) for x in (self, other)}
        if len(axes - {None}) > 1:
            return self.forgotten, other.forgotten
        return self, other

    def plus(self, other: Bounds) -> Bounds:
        a, b = self.aligned(other)
        return Bounds.of(a.low + b.low, a.high + b.high)

    def minus(self, other: Bounds) -> Bounds:
        a, b = self.aligned(other)
        return Bounds.of(a.low - b.high, a.high - b.low)

    def times(self, other: Bounds) -> Bounds:
        """Bounds of a product of two values."""
        a, b = self.aligned(other)
        corners = [p * q for p in (a.low, a.high) for q in (b.low, b.high)]
        return Bounds.of(least(*corners), greatest(*corners))

    def scaled(self, factor: npt.ArrayLike) -> Bounds:
        """Bounds of value * factor, factor an integer or one for each channel."""
        return self.times(Bounds.of_array(np.asarray(factor)))

    def clipped(self, low: int, high: int) -> Bounds:
        return Bounds.of(*(least(greatest(end, low), high) for end in (self.low, self.high)))

    def with_zero(self) -> Bounds:
        """Of the value or 0: of a sum whose terms may be left out."""
        return Bounds.of(least(self.low, 0), greatest(self.high, 0))


@dataclass(frozen=True)
class Extreme:
    """One intermediate of an op: what it is, its bounds, and the integer type it is held in."""

    what: str
    bounds: Bounds
    kind: Int

    @property
    def fits(self) -> bool:
        low, high = self.bounds.ends
        return self.kind.min <= low and high <= self.kind.max


def least(*values: npt.ArrayLike) -> Array:
    """Element by element, of integers of any size."""
    return reduce(np.minimum, map(_exact, values))


def greatest(*values: npt.ArrayLike) -> Array:
    return reduce(np.maximum, map(_exact, values))


def _axis(x: Array) -> int | None:
    """The axis longer than 1, counted from the last as -1."""
    return next((axis - x.ndim for axis, s in enumerate(x.shape) if s > 1), None)


def _exact(x: npt.ArrayLike) -> Array:
    """Integers as Python ints in an object array: no bound can wrap."""
    a = np.asarray(x)
    if a.dtype == object:
        return a
    out = np.empty(a.shape, object)
    out[...] = a.astype(object) if a.ndim else int(a)
    return out
