"""The address of an array's elements, read quickly: a small program runs in microseconds."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

_HEAD = object.__basicsize__  # in CPython an array's data pointer is the first thing after its head
_POINTER = ctypes.c_void_p.from_address


def by_interface(x: npt.NDArray[Any]) -> int:
    """The documented way; about 1 us."""
    return int(x.__array_interface__["data"][0])


def by_structure(x: npt.NDArray[Any]) -> int:
    """The same from the array's own structure, whose order NumPy's C interface fixes."""
    return _POINTER(id(x) + _HEAD).value or 0


def _is_as_expected() -> bool:
    probes = (np.zeros(3), np.zeros((4, 5), np.float32)[1:], np.arange(6)[::-1])
    return sys.implementation.name == "cpython" and all(
        by_structure(p) == by_interface(p) for p in probes
    )


address = by_structure if _is_as_expected() else by_interface
"""The address of the first element."""
