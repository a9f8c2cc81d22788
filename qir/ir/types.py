"""Types: integers, floats, and the quantized elements that stand for reals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from qir.ir.axes import Perm
from qir.ir.data import Data
from qir.ir.errors import VerifyError

Array = npt.NDArray[Any]
MAX_ELEMENTS = 1 << 32  # of a tensor


@dataclass(frozen=True)
class Int:
    """An integer of `bits` bits, two's complement when signed. Text: i8, u4."""

    bits: int
    is_signed: bool

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.is_signed)) - 1

    @property
    def carrier(self) -> np.dtype[Any]:
        """The NumPy type that holds one: the narrowest that fits (i4 lives in int8)."""
        width = next(w for w in (8, 16, 32, 64) if w >= self.bits)
        return np.dtype(f"{'int' if self.is_signed else 'uint'}{width}")

    def __str__(self) -> str:
        return f"{'i' if self.is_signed else 'u'}{self.bits}"


@dataclass(frozen=True)
class Float:
    """An IEEE binary float of `bits` bits: f16, f32, f64. Room is kept here for fp8, fp6, fp4."""

    bits: int

    @property
    def carrier(self) -> np.dtype[Any]:
        return np.dtype(f"float{self.bits}")

    def __str__(self) -> str:
        return f"f{self.bits}"


@dataclass(frozen=True)
class Quant:
    """Integers with a real meaning: real = scale * (stored - zero_point).

    scale (float64, > 0) and zero_point (int64) have one shape: () per tensor; (C,) per slice of
    `axis`;
    or, per block, the tensor's shape with size(axis) / block in place of size(axis).
    Text: q<u8, 0.5:3>; q<i8, axis=0, scale=data<...>, zero_point=data<...>>; with block=32 after
          axis.
    Source: Jacob et al. 2018, arXiv:1712.05877; storage and expressed types as in MLIR's quant
            dialect.
    """

    storage: Int
    scale: Data
    zero_point: Data
    axis: int | None = None
    block: int | None = None

    @staticmethod
    def per_tensor(storage: Int, scale: float, zero_point: int) -> Quant:
        return Quant(storage, Data(np.float64(scale)), Data(np.int64(zero_point)))

    @staticmethod
    def per_axis(storage: Int, scale: npt.ArrayLike, zero_point: npt.ArrayLike, axis: int) -> Quant:
        wide = np.asarray(scale, np.float64)
        return Quant(
            storage,
            Data(wide),
            Data(np.broadcast_to(np.asarray(zero_point, np.int64), wide.shape)),
            axis,
        )

    @property
    def is_per_tensor(self) -> bool:
        return self.axis is None

    @property
    def has_one_zero_point(self) -> bool:
        zeros = self.zero_point.array
        return bool(np.all(zeros == zeros.reshape(-1)[:1]))

    @property
    def carrier(self) -> np.dtype[Any]:
        return self.storage.carrier

    def spread(self, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """(scale, zero_point), shaped to broadcast against a tensor of `shape`."""
        if self.axis is None:
            return self.scale.array, self.zero_point.array
        if self.block is None:
            to = [1] * len(shape)
            to[self.axis] = -1
            return self.scale.array.reshape(to), self.zero_point.array.reshape(to)
        repeat = [
            np.repeat(a.array, self.block, axis=self.axis) for a in (self.scale, self.zero_point)
        ]
        return repeat[0], repeat[1]

    def permuted(self, perm: Perm) -> Quant:
        """That of the tensor transposed by `perm`: its axis, and the blocks along it, move too."""
        if self.axis is None:
            return self
        scale, zero = self.scale, self.zero_point
        if self.block is not None:
            scale, zero = Data(scale.array.transpose(perm)), Data(zero.array.transpose(perm))
        return replace(self, axis=perm.index(self.axis), scale=scale, zero_point=zero)

    def __str__(self) -> str:
        if self.axis is None:
            return f"q<{self.storage}, {float(self.scale.array)!r}:{int(self.zero_point.array)}>"
        block = "" if self.block is None else f", block={self.block}"
        return (
            f"q<{self.storage}, axis={self.axis}{block}, scale={self.scale},"
            f" zero_point={self.zero_point}>"
        )


@dataclass(frozen=True)
class Bfp:
    """Block floating point: `block` values along `axis` share one exponent, each keeps a signed
    mantissa.

    E = floor(log2(max|x|)), u = 2**(E - mantissa_bits + 2), q = clip(round(x / u), -2**(p-1),
    2**(p-1) - 1).
    Text: bfp<4, 8, block=32, axis=3>.
    Source: Trukhanov & Soloveychik, arXiv:2403.20137; the formula is this project's.
    """

    mantissa_bits: int
    exponent_bits: int
    block: int
    axis: int

    @property
    def carrier(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.mantissa_bits <= 8 else np.int16)

    def __str__(self) -> str:
        return (
            f"bfp<{self.mantissa_bits}, {self.exponent_bits}, block={self.block}, axis={self.axis}>"
        )


@dataclass(frozen=True)
class Span:
    """Blocks of codes that lie evenly between the least and the greatest value of the block.

    real = least + step * code, code in [0, 2**bits - 1]; step and least belong to the block.
    Text: span<4, block=64, axis=2>.
    Source: asymmetric groups as in KIVI, arXiv:2402.02750, and QuaRot, arXiv:2404.00456.
    """

    bits: int
    block: int
    axis: int

    def __str__(self) -> str:
        return f"span<{self.bits}, block={self.block}, axis={self.axis}>"


Packing = Bfp | Span
"""How blocks of integers are packed in bytes (qir.ir.ops.sequence.blocks)."""

Elem = Int | Float | Quant | Bfp


@dataclass(frozen=True)
class Tensor:
    """A static shape and an element type. Text: tensor<1x32x32x3xf32>, tensor<q<u8, 0.5:3>> for a
    scalar.
    """

    shape: tuple[int, ...]
    elem: Elem

    @cached_property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return isinstance(self.elem, Float)

    @property
    def quant(self) -> Quant:
        """The quantized element; an error when the tensor is not quantized."""
        if not isinstance(self.elem, Quant):
            raise VerifyError(f"type {self}: a quantized tensor is needed")
        return self.elem

    def with_shape(self, shape: tuple[int, ...]) -> Tensor:
        return Tensor(tuple(int(s) for s in shape), self.elem)

    def __str__(self) -> str:
        return f"tensor<{''.join(f'{s}x' for s in self.shape)}{self.elem}>"


I2, I3, I4, I5, I6, I7, I8, I16, I32, I64 = (
    Int(b, True) for b in (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)
)
U1, U2, U3, U4, U5, U6, U7, U8, U16 = (Int(b, False) for b in (1, 2, 3, 4, 5, 6, 7, 8, 16))
F16, F32, F64 = Float(16), Float(32), Float(64)
STORAGES = (I2, I3, I4, I5, I6, I7, I8, U2, U3, U4, U5, U6, U7, U8, I16, U16, I32)


def integer_of(elem: Elem) -> Int | None:
    """The stored integer type of `elem`, or None when it stores floats or blocks."""
    match elem:
        case Int():
            return elem
        case Quant():
            return elem.storage
        case _:
            return None


def elem_of(dtype: npt.DTypeLike) -> Elem:
    """The plain element type of a NumPy dtype."""
    d = np.dtype(dtype)
    if d.kind == "b":
        return U1
    if d.kind in "iu":
        return Int(d.itemsize * 8, d.kind == "i")
    if d.kind == "f" and d.itemsize in (2, 4, 8):
        return Float(d.itemsize * 8)
    raise VerifyError(f"type: dtype {d} has no counterpart, integers and f16, f32, f64 have")
