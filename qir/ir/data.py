"""Immutable arrays: what constants, tables, scales and zero points are kept in."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.errors import DataError

INLINE = 16  # elements that are still printed in the text; more go beside it, by hash


class Data:
    """An array that nobody can change, equal to another when dtype, shape and bits are equal."""

    __slots__ = ("_digest", "_finite", "array")

    def __init__(self, array: npt.ArrayLike) -> None:
        contiguous = np.array(array, order="C", copy=True)
        contiguous = contiguous.astype(contiguous.dtype.newbyteorder("="), copy=False)
        contiguous.setflags(write=False)
        self.array: npt.NDArray[Any] = contiguous
        self._digest: str | None = None
        self._finite: bool | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of dtype, shape and bytes, in hex."""
        if self._digest is None:
            head = f"{self.array.dtype.str}{self.array.shape}".encode()
            sha256 = hashlib.sha256(head)
            sha256.update(self.array.reshape(-1).view(np.uint8).data)
            self._digest = sha256.hexdigest()
        return self._digest

    @property
    def is_finite(self) -> bool:
        """Whether it holds no NaN and no infinity."""
        if self._finite is None:
            self._finite = self.array.dtype.kind != "f" or bool(np.all(np.isfinite(self.array)))
        return self._finite

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def is_scalar(self) -> bool:
        return self.array.ndim == 0

    def item(self) -> Any:
        """The one element of a scalar, as a Python number."""
        return self.array.item()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[Data], tuple[npt.NDArray[Any]]]:
        return Data, (self.array,)

    def __str__(self) -> str:
        from_shape = "x".join(map(str, self.shape))
        head = f"{self.array.dtype.name}[{from_shape}]"
        if self.array.size > INLINE:
            return f"data<{head}, #{self.digest}>"
        return f"data<{head}, {' '.join(element(e) for e in self.array.ravel())}>"

    __repr__ = __str__


def element(e: Any) -> str:
    """One number as text that reads back to the same bits."""
    if isinstance(e, (np.bool_, bool)):
        return str(int(e))
    return str(e) if isinstance(e, np.generic) else repr(e)


def unmasked(x: Any, where: str) -> npt.NDArray[Any]:
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
