"""Masks that a caller gives as integers 0 and 1, or as bits: how they become floats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Take
from qir.ir.ops.shape import Move
from qir.ir.types import U1, Int

CALLED = "mask"  # in the names of inputs whose integers are 0 and 1

Add = Callable[[Op], Value]  # adds an op to the graph under construction
Producer = Callable[[Value], Op | None]


def is_mask(x: Value, producer: Producer) -> bool:
    """Whether the integers of x are 0 and 1 alone: bits, or of an input that is called a mask."""
    while isinstance(op := producer(x), Move):
        x = op.operands[0]
    return x.type.elem == U1 or (isinstance(x.type.elem, Int) and CALLED in x.name)


def as_floats(add: Add, x: Value) -> Value:
    """0.0 and 1.0 for the integers of a mask."""
    return add(Take(add(Constant.of(np.array([0, 1], np.float32))), x))
