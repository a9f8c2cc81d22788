"""Integers that a model makes of token ids: which of them count, and their positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence.embedding import check_index
from qir.ir.types import I32, U1, Array, Tensor


@op("within")
class Within(Op):
    """y = 1 where low <= x <= high, else 0; of what is not, where `outside`.

    Shapes: x (...) of integers -> y u1 (...).
    """

    x: Value
    low: int
    high: int
    outside: bool

    def infer(self) -> Tensor:
        check_index(self, self.x)
        return Tensor(self.x.type.shape, U1)

    @property
    def is_pointwise(self) -> bool:
        return True

    def compute(self, torch: Any, x: Any) -> Any:
        wide = torch.as_tensor(x).long()
        return (((wide >= self.low) & (wide <= self.high)) ^ self.outside).long()

    def evaluate(self, x: Array) -> Array:
        wide = x.astype(np.int64)
        return stored(((wide >= self.low) & (wide <= self.high)) ^ self.outside, self.result.type)


@op("positions")
class Positions(Op):
    """The position of each token among those that count: y[i] = first + sum(bits[:i]) where bits[i]
    is 1, and `hidden` elsewhere; none hidden: that of the last one that counts, first - 1 before.

    Shapes: bits u1 (..., N) -> y i32 (..., N).
    Needs:  first - 1, first - 1 + N and hidden in 32 bits.
    """

    last_axes: ClassVar[int] = 1

    bits: Value
    first: int
    hidden: int | None

    def infer(self) -> Tensor:
        if self.bits.type.elem != U1 or not self.bits.type.rank:
            self.fail(f"bits is {self.bits.type}", "bits (..., N) are needed")
        return Tensor(self.bits.type.shape, I32)

    def compute(self, torch: Any, bits: Any) -> Any:
        bits = torch.as_tensor(bits).long()
        positions = bits.cumsum(-1) + (self.first - 1)
        return positions if self.hidden is None else torch.where(bits == 1, positions, self.hidden)

    def evaluate(self, bits: Array) -> Array:
        positions = np.cumsum(bits, -1, dtype=np.int64) + (self.first - 1)
        y = positions if self.hidden is None else np.where(bits == 1, positions, self.hidden)
        return stored(y, self.result.type)

    def bound(self, bits: Bounds) -> Bounds:
        bounds = Bounds.of(self.first - 1, self.first - 1 + self.bits.type.shape[-1])
        return bounds if self.hidden is None else bounds.join(Bounds.of(self.hidden, self.hidden))

    def extremes(self, bits: Bounds) -> Iterator[Extreme]:
        yield Extreme("position", self.bound(bits), I32)
