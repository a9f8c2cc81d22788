"""Norms of rows, on reals and in fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir import rows
from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence.rows import check_rows
from qir.ir.types import I64, Array, Quant, Tensor

UNIT_BITS = 22  # an element over its row's length is held in units of 2**-22


@op("rms_norm")
class RmsNorm(Op):
    """y = x / sqrt(mean(x**2) + epsilon) * gain, over the last axis.

    Shapes: x (..., C), gain (C,) -> y (..., C).
    Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    gain: Value | None
    epsilon: float

    def infer(self) -> Tensor:
        x = self.x.type
        if not x.is_float or not x.rank:
            self.fail(f"x is {x}", "floats of rank 1 or more are needed")
        if self.gain is not None and self.gain.type.shape != x.shape[-1:]:
            self.fail(f"gain is {list(self.gain.type.shape)}", f"{list(x.shape[-1:])} is needed")
        return x

    def compute(self, torch: Any, x: Any, gain: Any) -> Any:
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return y if gain is None else y * gain


@op("norm_fixed")
class NormFixed(Op):
    """rms_norm, or with a `mean` layer_norm, of stored integers, without division.

    d = x, or (x << fraction) - rounded(sum(x) * mean.mult, mean.shift)
    (y, h) = reciprocal_root(sum(d**2) + epsilon)                        (qir.ir.rows)
    u = clip(rounded(d * y, h + 2), -2**22, 2**22)                       (d / its row's length)
    y = clip((u * mult + offset + 2**(shift-1)) >> shift)
    Shapes: x (..., C) of at most 24 bits, zero point 0; mult, offset (C,) or () -> y (..., C).
    Units:  mult / 2**shift = sqrt(C) * gain * 2**-22 / scale of y; offset in steps of y / 2**shift;
            epsilon, at least 1, that of the model times C / s**2, s that of d; mean.mult /
            2**mean.shift = 2**fraction / C.
    Source: I-LLM, arXiv:2405.17849, section 3.4; root by table and Newton steps: this project.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    to: Quant
    mult: Data
    offset: Data | None
    shift: int
    epsilon: int
    fraction: int
    mean: Dyadic | None

    def infer(self) -> Tensor:
        x = self.x.type
        check_rows(self, self.x, 24)
        if not x.rank or not x.shape[-1]:
            self.fail(f"x is {x}", "at least one element along the last axis is needed")
        if not (self.to.is_per_tensor and self.to.zero_point.item() == 0):
            self.fail(f"y is {self.to}", "one scale and zero point 0 are needed")
        for data in (self.mult, *((self.offset,) if self.offset is not None else ())):
            if data.shape not in ((), x.shape[-1:]) or data.array.dtype != np.int64:
                self.fail(
                    f"numbers {data.array.dtype}{list(data.shape)}",
                    f"int64, [] or [{x.shape[-1]}], are needed",
                )
        if self.mean is not None and not (self.mean.mult.is_scalar and self.mean.shift.is_scalar):
            self.fail("a mean of several ratios", "one is needed")
        return Tensor(x.shape, self.to)

    def faults(self) -> Iterator[str]:
        if not (1 <= self.shift <= 62 and 1 <= self.epsilon < 1 << 61):
            yield f"{self}: shift {self.shift}, epsilon {self.epsilon}: 1 to 62, and 1 or more"
        if not 0 <= self.fraction <= 16 or (self.mean is None and self.fraction):
            yield f"{self}: fraction {self.fraction}, 0 to 16, and 0 without a mean, is needed"
        if self.mean is not None:
            real, expected = self.mean.real.item(), 2.0**self.fraction / self.x.type.shape[-1]
            if abs(real - expected) > expected * 2.0**-29:
                yield f"{self}: mean by {real:g}, {expected:g} is needed"

    def _centred(self, x: Array) -> Array:
        wide = x.astype(np.int64)
        if self.mean is None:
            return wide
        total = wide.sum(-1, keepdims=True) * self.mean.mult.array
        return (wide << self.fraction) - rows.rounded(total, self.mean.shift.array)

    def evaluate(self, x: Array) -> Array:
        d = self._centred(x)
        root, h = rows.reciprocal_root((d * d).sum(-1, keepdims=True) + self.epsilon)
        reach = 1 << UNIT_BITS
        u = np.clip(rows.rounded(d * root, h + (rows.ROOT_BITS - UNIT_BITS)), -reach, reach)
        total = u * self.mult.array + (0 if self.offset is None else self.offset.array)
        y = (total + (np.int64(1) << (self.shift - 1))) >> self.shift
        storage = self.to.storage
        return stored(np.clip(y, storage.min, storage.max), self.result.type)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        size = self.x.type.shape[-1]
        d = x.forgotten
        if self.mean is not None:
            total = d.with_zero().scaled(size).scaled(self.mean.mult.array)
            half = 1 << int(self.mean.shift.array) - 1
            yield Extreme("sum times reciprocal", total.plus(Bounds.of(0, half)), I64)
            low, high = (end << self.fraction for end in d.ends)
            d = Bounds.of(low - max(high, 0) - 1, high - min(low, 0) + 1)
        most = max(abs(end) for end in d.ends)
        yield Extreme("sum of squares", Bounds.of(0, most * most * size + self.epsilon), I64)
        reach = most << rows.ROOT_BITS
        yield Extreme("element times root", Bounds.of(-reach, reach + (1 << 33)), I64)
        scaled = Bounds.of(-(1 << UNIT_BITS), 1 << UNIT_BITS).scaled(self.mult.array).with_zero()
        if self.offset is not None:
            scaled = scaled.plus(Bounds.of_array(self.offset.array).with_zero())
        yield Extreme("scaled element", scaled.plus(Bounds.of(0, 1 << self.shift - 1)), I64)
        # rows.reciprocal_root is defined below 2**62
        yield Extreme("twice the sum of squares", Bounds.of(0, 2 * most * most * size), I64)
