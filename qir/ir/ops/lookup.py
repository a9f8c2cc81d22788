"""Tables: any function of an 8-bit tensor, exact by definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qir.ir.bounds import Bounds
from qir.ir.data import Data
from qir.ir.op import Op, Value, op
from qir.ir.types import Array, Quant, Tensor


@op("lookup")
class Lookup(Op):
    """y = table[x - storage.min]; with a table for each channel, y[..., c] = table[c, x[..., c] -
    storage.min].

    Shapes: x (..., C) of at most 8 bits, table (2**bits,) or (C, 2**bits), stored elements of `to`
            -> y (..., C).
    """

    x: Value
    table: Data
    to: Quant

    def followers(self) -> tuple[Value, ...] | None:
        return (self.x,) if self.table.array.ndim == 1 else None

    def batch_fault(self, batch: int) -> str | None:
        if self.table.array.ndim > 1 and self.x.type.rank == 1:
            return f"{self.mnemonic} works along the batch axis"
        return super().batch_fault(batch)

    def infer(self) -> Tensor:
        x = self.x.type
        if not isinstance(x.elem, Quant) or x.elem.storage.bits > 8:
            self.fail(f"x is {x.elem}", "a quantized tensor of at most 8 bits is needed")
        size = 1 << x.elem.storage.bits
        if self.table.shape not in ((size,), (x.shape[-1] if x.rank else 1, size)):
            self.fail(
                f"table is {list(self.table.shape)}", f"[{size}], or [channels, {size}], is needed"
            )
        return Tensor(x.shape, self.to)

    def faults(self) -> Iterator[str]:
        (low, high), storage = Bounds.of_array(self.table.array).ends, self.to.storage
        if low < storage.min or high > storage.max or self.table.array.dtype != self.to.carrier:
            yield (
                f"{self}: table holds {self.table.array.dtype} [{low}, {high}], {self.to.storage}"
                " is needed"
            )

    def evaluate(self, x: Array) -> Array:
        index = x.astype(np.int64) - self.x.type.quant.storage.min
        if self.table.array.ndim == 1:
            return np.asarray(self.table.array[index])
        return np.asarray(self.table.array[np.arange(x.shape[-1]), index])

    def bound(self, x: Bounds) -> Bounds:
        (low, high), base = x.ends, self.x.type.quant.storage.min
        return Bounds.of_array(self.table.array[..., low - base : high - base + 1]).forgotten
