"""Elements of two values by a constant condition: concat and gather, which only move data; and
masks that a caller gives, as integers 0 and 1 or as bits, as floats.

a * mask + b * (1 - mask) is no select: an infinity under the mask becomes NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Constant, Expand, Gather, Reshape, Take
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
