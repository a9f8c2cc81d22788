"""Aligned memory for programs, and weights shared by sessions."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from .format import Content

Array = npt.NDArray[Any]
MOST_ALIGNMENT = 128

_WEIGHTS: WeakValueDictionary[str, Array] = WeakValueDictionary()
"""The weights in use in this process, by SHA-256: equal ones are in memory once."""


def aligned(size: int, alignment: int = MOST_ALIGNMENT) -> Array:
    """`size` bytes of zeros at a multiple of `alignment`. Errors: MemoryError."""
    raw = np.zeros(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]


def shared(content: Content, sha256: str) -> memoryview:
    """Read-only bytes at an aligned address; equal hashes share them."""
    weights = _WEIGHTS.get(sha256)
    if weights is None:
        weights = _WEIGHTS.setdefault(sha256, _aligned(content))
    return weights.data


def _aligned(content: Content) -> Array:
    """The same memory where its address is aligned and nobody may write to it, else a copy."""
    if content and memoryview(content).readonly:
        array = np.frombuffer(content, np.uint8)
        if array.ctypes.data % MOST_ALIGNMENT == 0:
            return array
    copy = aligned(len(content))
    copy[:] = np.frombuffer(content, np.uint8) if content else 0
    copy.setflags(write=False)
    return copy
