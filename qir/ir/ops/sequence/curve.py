"""Functions of 16-bit values: tables with straight lines between their entries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence.rows import check_rows
from qir.ir.types import I32, Array, Quant, Tensor

SEGMENT_BITS = 10  # 2**10 straight lines, over 64 codes each


@op("interpolate")
class Interpolate(Op):
    """A function of a 16-bit value by a table and straight lines between its entries.

    i = (x + 2**15) >> 6;  f = (x + 2**15) & 63
    y = table[i] + ((f * (table[i + 1] - table[i]) + 32) >> 6)
    Shapes: x (...) i16, zero point 0; table (1025,), stored elements of `to` of at most 16 bits
            -> y (...).
    """

    x: Value
    table: Data
    to: Quant

    def infer(self) -> Tensor:
        check_rows(self, self.x, 16)
        if self.x.type.quant.storage.bits != 16 or not self.x.type.quant.storage.is_signed:
            self.fail(f"x is {self.x.type}", "i16 is needed (lookup takes 8 bits)")
        if self.table.shape != ((1 << SEGMENT_BITS) + 1,):
            self.fail(
                f"table is {list(self.table.shape)}", f"[{(1 << SEGMENT_BITS) + 1}] is needed"
            )
        if not self.to.is_per_tensor or self.to.storage.bits > 16:
            self.fail(f"y is {self.to}", "at most 16 bits and one scale are needed")
        return Tensor(self.x.type.shape, self.to)

    def faults(self) -> Iterator[str]:
        (low, high), storage = Bounds.of_array(self.table.array).ends, self.to.storage
        if low < storage.min or high > storage.max or self.table.array.dtype != self.to.carrier:
            yield (
                f"{self}: table holds {self.table.array.dtype} [{low}, {high}], {storage} is needed"
            )

    def evaluate(self, x: Array) -> Array:
        at = x.astype(np.int64) + (1 << 15)
        table = self.table.array.astype(np.int64)
        i, f = at >> (16 - SEGMENT_BITS), at & ((1 << (16 - SEGMENT_BITS)) - 1)
        half = 1 << (15 - SEGMENT_BITS)
        return stored(
            table[i] + ((f * (table[i + 1] - table[i]) + half) >> (16 - SEGMENT_BITS)),
            self.result.type,
        )

    def bound(self, x: Bounds) -> Bounds:
        return Bounds.of(*Bounds.of_array(self.table.array).ends)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        steps = np.diff(self.table.array.astype(np.int64)) * ((1 << (16 - SEGMENT_BITS)) - 1)
        total = Bounds.of(int(steps.min()), int(steps.max())).with_zero()
        yield Extreme("step along a line", total.plus(Bounds.of(0, 32)), I32)
