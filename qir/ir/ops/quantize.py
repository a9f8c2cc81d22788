"""The border between reals and stored integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qir.ir.axes import Perm
from qir.ir.fixed import Rounding, round_real
from qir.ir.op import Interval, Op, Value, op
from qir.ir.types import F32, Array, Quant, Tensor


@op("quantize")
class Quantize(Op):
    """Real to stored: y = clamp(round(f32(x) / f32(scale)) + zero_point), in float32 with IEEE
    division.

    Shapes: x (...) -> y (...), unchanged.
    Source: ONNX QuantizeLinear (rounding half_even there).
    """

    x: Value
    to: Quant
    rounding: Rounding

    @property
    def is_pointwise(self) -> bool:
        return self.to.is_per_tensor

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def in_layout(self, perm: Perm) -> Quantize:
        return replace(self, to=self.to.permuted(perm))

    def infer(self) -> Tensor:
        if not self.x.type.is_float:
            self.fail(f"x is {self.x.type}", "floats are needed")
        return Tensor(self.x.type.shape, self.to)

    def compute(self, torch: Any, x: Any) -> Any:
        scale, zero = spread_torch(torch, self.to, self.x.type.shape)
        y = x.float() / scale
        match self.rounding:
            case Rounding.HALF_EVEN:
                y = torch.round(y)
            case Rounding.HALF_UP:
                y = torch.floor(y) + (y - torch.floor(y) >= 0.5)
            case Rounding.HALF_AWAY:
                y = torch.trunc(y) + torch.sign(y) * ((y - torch.trunc(y)).abs() >= 0.5)
            case Rounding.FLOOR:
                y = torch.floor(y)
        storage = self.to.storage
        if storage.bits > 16:
            return (y.double() + zero).clamp(storage.min, storage.max).to(torch.int32)
        zero = zero.to(torch.int32)  # clamped to 16 bits, the float32 sum is exact: and faster
        return y.clamp(storage.min - zero, storage.max - zero).to(torch.int32) + zero

    def of(self, x: Array) -> Array:
        """The stored integers of the reals `x`, in NumPy: what the border of a program computes."""
        return quantized(x, self.to, self.rounding)


def quantized(x: Array, to: Quant, rounding: Rounding) -> Array:
    """clamp(round(f32(x) / f32(scale)) + zero_point) in the carrier of `to`."""
    scale, zero = to.spread(np.shape(x))
    with np.errstate(over="ignore"):  # a quotient beyond float32 is infinite, and is clamped
        steps = np.asarray(x, np.float32) / scale.astype(np.float32)
    codes = round_real(steps, rounding)
    return np.clip(codes.astype(np.float64) + zero, to.storage.min, to.storage.max).astype(
        to.carrier
    )


def dequantized(stored: Array, of: Quant) -> Array:
    """f32(stored - zero_point) * f32(scale)."""
    scale, zero = of.spread(np.shape(stored))
    return np.asarray(
        (stored.astype(np.int64) - zero).astype(np.float32) * scale.astype(np.float32)
    )


@op("dequantize")
class Dequantize(Op):
    """Stored to real: y = f32(x - zero_point) * f32(scale).

    Shapes: x (...) -> y (...), unchanged.
    Source: ONNX DequantizeLinear.
    """

    x: Value

    @property
    def is_pointwise(self) -> bool:
        return self.x.type.quant.is_per_tensor

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def infer(self) -> Tensor:
        if not isinstance(self.x.type.elem, Quant):
            self.fail(f"x is {self.x.type}", "a quantized tensor is needed")
        return Tensor(self.x.type.shape, F32)

    def reals(self, *operands: Interval) -> Interval:
        q = self.x.type.quant
        if not q.is_per_tensor:
            return self.range
        low, high = dequantized(np.array([q.storage.min, q.storage.max]), q)
        return float(low), float(high)

    def compute(self, torch: Any, x: Any) -> Any:
        scale, zero = spread_torch(torch, self.x.type.quant, self.x.type.shape)
        wide = x if x.dtype == torch.int32 and self.x.type.quant.storage.bits <= 16 else x.long()
        return (wide - zero.to(wide.dtype)).float() * scale


def spread_torch(torch: Any, quant: Quant, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(scale as float32, zero_point as int64), as torch tensors that broadcast against `shape`."""
    scale, zero = quant.spread(shape)
    return torch.from_numpy(np.array(scale, np.float32)), torch.from_numpy(np.array(zero, np.int64))
