"""What models compute of token ids before anything is looked up, as the ops that mean it: which ids
count, and the positions of those, however the arithmetic is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qir.ir.op import Value
from qir.ir.ops import Positions, Within
from qir.ir.select import Add, Producer, is_mask
from qir.ir.types import U1, Int

MOST = (1 << 62) - 1  # beyond every id


def equal(x: Value, number: int) -> Within:
    """x == number"""
    return Within(x, number, number, False)


COMPARISONS: dict[str, Callable[[Value, int], Within]] = {
    "eq": equal,
    "ne": lambda x, number: replace(equal(x, number), outside=True),
    "gt": lambda x, number: Within(x, number + 1, MOST, False),
    "ge": lambda x, number: Within(x, number, MOST, False),
    "lt": lambda x, number: Within(x, -MOST, number - 1, False),
    "le": lambda x, number: Within(x, -MOST, number, False),
}
"""Comparisons of integers with a number, by the names that torch gives them."""


def is_integers(x: object) -> bool:
    return isinstance(x, Value) and isinstance(x.type.elem, Int)


def bits_of(add: Add, producer: Producer, x: Value) -> Value | None:
    """The integers of a mask as bits; None for other integers."""
    if not is_mask(x, producer):
        return None
    return x if x.type.elem == U1 else add(COMPARISONS["ne"](x, 0))


def opposite(add: Add, producer: Producer, x: Value) -> Value | None:
    """Where a comparison does not hold; None for other values."""
    made = producer(x)
    return add(replace(made, outside=not made.outside)) if isinstance(made, Within) else None


def counted(add: Add, producer: Producer, x: Value) -> Value | None:
    """cumsum(x) along the last axis, of a mask -> positions"""
    bits = bits_of(add, producer, x)
    return None if bits is None else add(Positions(bits, 1, None))


def moved(add: Add, producer: Producer, x: Value, by: int) -> Value | None:
    """positions + by -> positions"""
    made = producer(x)
    if not isinstance(made, Positions):
        return None
    hidden = None if made.hidden is None else made.hidden + by
    return add(replace(made, first=made.first + by, hidden=hidden))


def kept(add: Add, producer: Producer, a: Value, b: Value) -> Value | None:
    """positions * bits -> positions that are 0 where no token counts"""
    for x, mask in ((a, b), (b, a)):
        made = producer(x)
        if isinstance(made, Positions) and mask in (made.bits, _integers(producer, made.bits)):
            return add(replace(made, hidden=0))
    return None


def _integers(producer: Producer, bits: Value) -> Value | None:
    """The integers of a mask that these bits are."""
    made = producer(bits)
    is_mask_of = isinstance(made, Within) and (made.low, made.high, made.outside) == (0, 0, True)
    return made.x if isinstance(made, Within) and is_mask_of else None
