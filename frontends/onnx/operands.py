"""Operands of a node during import: constants, or values of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.types import I2, I4, I8, I16, I32, U2, U4, U8, U16, Array, Int, Quant

STORED = {
    "int2": I2, "uint2": U2, "int4": I4, "uint4": U4, "int8": I8, "uint8": U8, "int16": I16,
    "uint16": U16, "int32": I32,
}  # fmt: skip
FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, eq=False)
class ConstantOperand:
    """A constant: the array as the model has it; with `quant`, it stands for the reals of it."""

    array: Array
    name: str
    quant: Quant | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def is_float(self) -> bool:
        return self.quant is not None or self.array.dtype.name in FLOATS

    def dequantized(self) -> ConstantOperand:
        """The reals that it stands for, in float32 as DequantizeLinear computes them."""
        if self.quant is None:
            return self
        scale, zero = self.quant.spread(self.shape)
        centred = self.array.astype(np.int64) - zero
        return ConstantOperand(centred.astype(np.float32) * np.float32(scale), self.name)

    def transposed(self, perm: Sequence[int]) -> ConstantOperand:
        """Axis k of the result is axis perm[k]; the quantization follows."""
        q = self.quant
        if q is not None and q.axis is not None:
            scale, zero = q.scale.array, q.zero_point.array
            if q.block is not None:
                scale, zero = scale.transpose(perm), zero.transpose(perm)
            q = Quant(q.storage, Data(scale), Data(zero), list(perm).index(q.axis), q.block)
        return ConstantOperand(self.array.transpose(perm), self.name, q)

    def reshaped(self, shape: Sequence[int]) -> ConstantOperand | None:
        """The elements in another shape; None where a quantization cannot follow."""
        q, to = self.quant, tuple(shape)
        if q is not None and q.axis is not None:
            axis = _same_axis(self.shape, to, q.axis)
            if q.block is not None or axis is None:
                return None
            q = Quant(q.storage, q.scale, q.zero_point, axis)
        return ConstantOperand(self.array.reshape(to), self.name, q)


Operand = ConstantOperand | Value


def shape_of(operand: Operand) -> tuple[int, ...]:
    return operand.shape if isinstance(operand, ConstantOperand) else operand.type.shape


def stored_int(array: Array) -> Int | None:
    """The storage type that an integer array of the model has, None where it has no counterpart."""
    return STORED.get(array.dtype.name)


def as_float(array: Array) -> Array:
    """A float array of any width as float32, the one float type of imported graphs."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array).astype(np.float32)


def _same_axis(old: tuple[int, ...], new: tuple[int, ...], axis: int) -> int | None:
    """The axis of `new` with the slices of `axis` of `old`: as long, and as much before it."""
    before = prod(old[:axis])
    for k, size in enumerate(new):
        if size == old[axis] and prod(new[:k]) == before:
            return k
    return None
