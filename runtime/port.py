"""Port: one input or output of an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .format import Content

Array = npt.NDArray[Any]
REAL = np.dtype(np.float32)


@dataclass(frozen=True)
class Port:
    """One input or output.

    `low`, `high`: the stored integers there can be; real = scale * (stored - zero_point).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    low: int
    high: int
    scale: tuple[float, ...] | None
    zero_point: tuple[int, ...] | None
    axis: int | None

    @staticmethod
    def of(entry: dict[str, Any]) -> Port:
        q = entry["quantization"]
        return Port(
            entry["name"],
            np.dtype(entry["dtype"]),
            tuple(entry["shape"]),
            entry["low"],
            entry["high"],
            None if q is None else tuple(q["scale"]),
            None if q is None else tuple(q["zero_point"]),
            None if q is None else q["axis"],
        )

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def real_dtype(self) -> np.dtype[Any]:
        """Of the float border: float32, or the integers themselves when they stand for no reals."""
        return self.dtype if self.scale is None else REAL

    def stored(self, x: npt.ArrayLike) -> Array:
        """`x` as integers that can be stored here.

        Errors: DataError for another shape or kind, or for values out of reach.
        """
        a = unmasked(x, f"input {self.name}")
        if a.shape != self.shape or a.dtype.kind not in "iu":
            raise DataError(
                f"input {self.name}: {a.dtype}{list(a.shape)} given, {self.dtype}{list(self.shape)}"
                " is needed"
            )
        limits = np.iinfo(self.dtype)
        if a.dtype != self.dtype or (limits.min, limits.max) != (self.low, self.high):
            low, high = int(a.min()), int(a.max())
            if low < self.low or high > self.high:
                raise DataError(
                    f"input {self.name}: values reach [{low}, {high}], [{self.low}, {self.high}]"
                    " is needed"
                )
        return a

    def real(self, x: npt.ArrayLike) -> Array:
        """`x` as contiguous float32.

        Errors: DataError for another shape or kind.
        """
        a = unmasked(x, f"input {self.name}")
        if a.shape != self.shape or a.dtype.kind != "f":
            raise DataError(
                f"input {self.name}: {a.dtype}{list(a.shape)} given, float32{list(self.shape)}"
                " is needed"
            )
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and clamped as that
            return np.require(a, REAL, ["C", "A"])

    def decode(self, content: Content, at: int) -> Array:
        """The stored integers that lie, little endian, in `content` from `at`."""
        flat = np.frombuffer(content, self.dtype.newbyteorder("<"), prod(self.shape), at)
        return flat.reshape(self.shape).astype(self.dtype)

    def encode(self, stored: Array) -> bytes:
        """Little-endian bytes of stored integers."""
        return stored.astype(self.dtype.newbyteorder("<")).tobytes()


def unmasked(x: npt.ArrayLike, where: str) -> Array:
    """`x` as a plain array.

    Errors: DataError for masked elements: as a plain array shows them, they are any numbers.
    """
    if masked := masked_elements(x):
        raise DataError(
            f"{where}: {masked} masked elements, a number for each is needed",
            "x.filled(value) puts a number in place of the masked elements",
        )
    return np.asarray(x)


def masked_elements(x: Any) -> int:
    """The number of masked elements of an array, or of those in a list."""
    if isinstance(x, (list, tuple)):
        return sum(map(masked_elements, x))
    return int(np.count_nonzero(x.mask)) if isinstance(x, np.ma.MaskedArray) else 0
