"""Elements of two values by a constant condition: concat and gather, which only move data; masks
that a caller gives, as integers 0 and 1 or as bits, as floats; and what models compute of token ids
before anything is looked up: which count, and the positions of those.

a * mask + b * (1 - mask) is no select: an infinity under the mask becomes NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Constant, Expand, Gather, Positions, Reshape, Take, Within
from qir.ir.ops.shape import Move
from qir.ir.types import U1, Array, Int

Add = Callable[[Op], Value]  # adds an op to the graph under construction
Producer = Callable[[Value], Op | None]
CALLED = "mask"  # in the names of inputs whose integers are 0 and 1

# What stands for -inf in an additive mask before a softmax: exp(MASKED - max) is 0 in float32 for
# scores up to 1e8 in magnitude.
MASKED = -1e9


def select(add: Add, condition: Array, a: Value, b: Value) -> Value:
    """y = a where `condition`, else b; for every a and b, infinite and NaN ones too.

    Leading axes along which the condition does not vary stay axes, so that samples do not mix.
    Shapes: all three broadcast.
    """
    shape = np.broadcast_shapes(condition.shape, a.type.shape, b.type.shape)
    if condition.all() or not condition.any():
        return _expanded(add, a if condition.all() else b, shape)
    padded = condition.reshape((1,) * (len(shape) - condition.ndim) + condition.shape)
    axis = next(k for k, size in enumerate(padded.shape) if size > 1)
    rest = shape[axis:]
    mask = np.broadcast_to(padded[(0,) * axis], rest)
    left, right = (_rows(add, v, shape, axis) for v in (a, b))
    places = np.arange(prod(rest)).reshape(rest)
    index = np.where(
        mask,
        places if left.type.shape[-1] > 1 else 0,
        left.type.shape[-1] + (places if right.type.shape[-1] > 1 else 0),
    )
    return add(Gather(add(Concat((left, right), axis)), Data(index), axis))


def _rows(add: Add, x: Value, shape: tuple[int, ...], axis: int) -> Value:
    """x as (*shape[:lead], elements); one number as one element of each row."""
    if x.type.size == 1:
        return _expanded(add, _reshaped(add, x, (1,) * (axis + 1)), (*shape[:axis], 1))
    wide = _expanded(add, x, shape)
    return _reshaped(add, wide, (*shape[:axis], prod(shape[axis:])))


def _expanded(add: Add, x: Value, shape: tuple[int, ...]) -> Value:
    return x if x.type.shape == shape else add(Expand(x, shape))


def _reshaped(add: Add, x: Value, shape: tuple[int, ...]) -> Value:
    return x if x.type.shape == shape else add(Reshape(x, shape))


def is_mask(x: Value, producer: Producer) -> bool:
    """Whether the integers of x are 0 and 1 alone: bits, or of an input that is called a mask."""
    while isinstance(op := producer(x), Move):
        x = op.operands[0]
    return x.type.elem == U1 or (isinstance(x.type.elem, Int) and CALLED in x.name)


def as_floats(add: Add, x: Value) -> Value:
    """0.0 and 1.0 for the integers of a mask."""
    return add(Take(add(Constant.of(np.array([0, 1], np.float32))), x))


# -- ids

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
    op = producer(x)
    return add(replace(op, outside=not op.outside)) if isinstance(op, Within) else None


def mask_positions(add: Add, producer: Producer, x: Value) -> Value | None:
    """cumsum(x) along the last axis, of a mask -> positions"""
    bits = bits_of(add, producer, x)
    return None if bits is None else add(Positions(bits, 1, None))


def shifted_positions(add: Add, producer: Producer, x: Value, by: int) -> Value | None:
    """positions + by -> positions"""
    op = producer(x)
    if not isinstance(op, Positions):
        return None
    hidden = None if op.hidden is None else op.hidden + by
    return add(replace(op, first=op.first + by, hidden=hidden))


def masked_positions(add: Add, producer: Producer, a: Value, b: Value) -> Value | None:
    """positions * bits -> positions that are 0 where no token counts"""
    for x, mask in ((a, b), (b, a)):
        op = producer(x)
        if isinstance(op, Positions) and mask in (op.bits, _integers(producer, op.bits)):
            return add(replace(op, hidden=0))
    return None


def _integers(producer: Producer, bits: Value) -> Value | None:
    """The integers of a mask that these bits are."""
    op = producer(bits)
    is_mask_of = isinstance(op, Within) and (op.low, op.high, op.outside) == (0, 0, True)
    return op.x if isinstance(op, Within) and is_mask_of else None
