"""The layout of a constants block: named arrays, each at a multiple of 64 bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qir.backends.kernels.contraction.spec import Array
from qir.backends.kernels.plane import check_indices

LINE = 64  # bytes of a cache line, and of the widest vector that loads constants
TAIL = 128  # bytes that may be read, and are there, after the last array


@dataclass(frozen=True)
class Fields:
    """(name, dtype, count) of each array, in order; little endian.

    Errors: ValueError for a block that is too large for 32-bit indices.
    """

    entries: tuple[tuple[str, str, int], ...] = ()

    def __post_init__(self) -> None:
        check_indices("constants: bytes of the block", self.size_bytes)

    @property
    def size_bytes(self) -> int:
        return sum(_padded(np.dtype(dtype).itemsize * count) for _, dtype, count in self.entries)

    def __add__(self, other: Fields) -> Fields:
        return Fields(self.entries + other.entries)

    def dtype(self, name: str) -> str:
        return next(dtype for n, dtype, _ in self.entries if n == name)

    def __contains__(self, name: str) -> bool:
        return any(n == name for n, _, _ in self.entries)

    def at(self, name: str) -> int:
        """The byte offset of an array."""
        offset = 0
        for entry, dtype, count in self.entries:
            if entry == name:
                return offset
            offset += _padded(np.dtype(dtype).itemsize * count)
        raise KeyError(name)

    def pack(self, values: Mapping[str, Array | int]) -> bytes:
        """The block; every array must have the count its entry says."""
        parts = []
        for name, dtype, count in self.entries:
            array = np.asarray(values[name]).reshape(-1)
            kind = np.dtype(dtype)
            assert array.size == count and np.array_equal(array.astype(kind), array), name
            data = array.astype(kind.newbyteorder("<")).tobytes()
            parts.append(data.ljust(_padded(len(data)), b"\0"))
        return b"".join(parts) + bytes(TAIL) if parts else b""


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE
