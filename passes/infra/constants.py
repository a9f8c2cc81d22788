"""Constant operands as rules read them: elements, one number throughout, one for each channel."""

from __future__ import annotations

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Constant
from qir.ir.types import Array
from qir.passes.infra.rewriter import Site


def real_constant(at: Site, value: Value | None) -> Array | None:
    """The elements of a float constant as float64; None for anything else."""
    elements = at.constant(value)
    if elements is None or value is None or not value.type.is_float:
        return None
    return np.asarray(elements, np.float64)


def uniform(at: Site, value: Value | None) -> float | None:
    """The number that a float constant holds everywhere; None for anything else."""
    elements = real_constant(at, value)
    if elements is None or not elements.size or np.any(elements != elements.flat[0]):
        return None
    return float(elements.flat[0])


def per_channel(constant: Array, channels: int) -> Array | None:
    """A constant that depends on the last axis alone, as () or (channels,); None when on others
    too.
    """
    if constant.size == 0:
        return None
    if np.all(constant == constant.flat[0]):
        return np.asarray(constant.flat[0])
    if constant.size == channels == constant.shape[-1]:
        return constant.reshape(channels)
    return None


def split_constant(at: Site, op: Op) -> tuple[Value, Array, bool] | None:
    """(x, c, whether x is first) of an op of x and a float constant c that leaves x's shape
    alone.
    """
    if len(op.operands) != 2:
        return None
    for x, c, first in ((*op.operands, True), (*op.operands[::-1], False)):
        elements = real_constant(at, c)
        if elements is not None and x.type == op.result.type and real_constant(at, x) is None:
            return x, elements, first
    return None


def channel_constant(array: Array, like: Value) -> Constant:
    """`array` as a constant in the element type of `like`, a single number if it is uniform."""
    if array.size and np.all(array == array.flat[0]):
        array = np.asarray(array.flat[0])
    return Constant.of(array, like.type.elem)
