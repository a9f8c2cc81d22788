"""The types of attributes: what a field of an op or pass may hold."""

from __future__ import annotations

import numbers
import types
from typing import Any, Union, get_args, get_origin

import numpy as np

from qir.ir.data import Data


def fits(attribute: Any, hint: Any) -> bool:
    """Whether an attribute is of its field's annotation, and so can be written and read back."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(attribute, a) for a in args)
    if origin is tuple:
        return isinstance(attribute, tuple) and all(fits(h, args[0]) for h in attribute)
    if hint is int:
        is_whole = isinstance(attribute, numbers.Integral) and not isinstance(attribute, bool)
        return is_whole and abs(int(attribute)) < 1 << 63
    if hint is float:
        return isinstance(attribute, numbers.Real) and not isinstance(attribute, bool)
    if hint is bool:
        return isinstance(attribute, (bool, np.bool_))
    if hint is Data:
        return isinstance(attribute, Data) and attribute.array.dtype.name in DTYPES
    return isinstance(attribute, hint)


DTYPES = frozenset(
    ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))]
    + [f"float{bits}" for bits in (16, 32, 64)]
)  # of the arrays that attributes can hold


def hint_text(hint: Any) -> str:
    """An annotation as an error names it."""
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
