"""Rows of tables by integers that the caller gives: token ids, positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.op import Op, Value, op, stored
from qir.ir.types import I64, Array, Int, Quant, Tensor


def check_index(op: Op, index: Value) -> None:
    elem = index.type.elem
    if not isinstance(elem, Int) or elem.bits - elem.is_signed >= 64:
        op.fail(f"index is {index.type}", "integers of at most 63 bits and a sign are needed")


@op("take")
class Take(Op):
    """y = table[index], an index outside clipped to 0 .. V-1 (a caller's border refuses it before).

    Shapes: table (V, ...), index (...) of integers -> y (index's shape, ...).
    """

    table: Value
    index: Value

    def infer(self) -> Tensor:
        check_index(self, self.index)
        table = self.table.type
        if not table.rank or not table.shape[0]:
            self.fail(f"table is {table}", "at least one row is needed")
        if isinstance(table.elem, Quant) and not table.elem.is_per_tensor:
            self.fail(f"table is {table}", "one scale is needed (embed takes scales of rows)")
        return table.with_shape((*self.index.type.shape, *table.shape[1:]))

    def permitted(self) -> Iterator[tuple[Value, int, int]]:
        yield self.index, 0, self.table.type.shape[0] - 1

    def compute(self, torch: Any, table: Any, index: Any) -> Any:
        at = torch.as_tensor(index).long().clamp(0, self.table.type.shape[0] - 1)
        return table[at]

    def evaluate(self, table: Array, index: Array) -> Array:
        return np.asarray(table[np.clip(index.astype(np.int64), 0, len(table) - 1)], order="C")

    def bound(self, table: Bounds, index: Bounds) -> Bounds:
        return table.forgotten


@op("embed")
class Embed(Op):
    """y = clip((table[index] * mult[index] + 2**(shift-1)) >> shift): rows of a table that has a
    scale for each, such as the weights of a tied head.

    Shapes: table (V, C) of at most 8 bits, zero point 0, scales along axis 0; index (...) of
            integers, clipped to 0 .. V-1; mult (V,) int64 -> y (index's shape, C).
    Units:  mult / 2**shift = scale of the row / scale of y, in 31 bits for the largest.
    """

    table: Value
    index: Value
    to: Quant
    mult: Data
    shift: int

    def infer(self) -> Tensor:
        check_index(self, self.index)
        table, q = self.table.type, self.table.type.quant
        if table.rank != 2 or not table.shape[0] or q.axis not in (None, 0) or q.storage.bits > 8:
            self.fail(f"table is {table}", "rows of at most 8 bits, a scale for each, are needed")
        if np.any(q.zero_point.array != 0):
            self.fail(f"table is {table}", "zero point 0 is needed")
        if self.mult.shape != table.shape[:1] or self.mult.array.dtype != np.int64:
            self.fail(f"mult is {list(self.mult.shape)}", f"int64 [{table.shape[0]}] is needed")
        if not (self.to.is_per_tensor and self.to.zero_point.item() == 0):
            self.fail(f"y is {self.to}", "one scale and zero point 0 are needed")
        return Tensor((*self.index.type.shape, table.shape[1]), self.to)

    def faults(self) -> Iterator[str]:
        mult = self.mult.array
        if not 1 <= self.shift <= 62 or mult.min() < 0 or mult.max() >= 1 << 31:
            yield f"{self}: shift {self.shift}, 1 to 62, and multipliers below 2**31 are needed"

    def permitted(self) -> Iterator[tuple[Value, int, int]]:
        yield self.index, 0, self.table.type.shape[0] - 1

    def evaluate(self, table: Array, index: Array) -> Array:
        at = np.clip(index.astype(np.int64), 0, len(table) - 1)
        product = table[at].astype(np.int64) * self.mult.array[at][..., None]
        y = (product + (np.int64(1) << (self.shift - 1))) >> self.shift
        storage = self.to.storage
        return stored(np.clip(y, storage.min, storage.max), self.result.type)

    def extremes(self, table: Bounds, index: Bounds) -> Iterator[Extreme]:
        product = table.forgotten.scaled(int(self.mult.array.max())).with_zero()
        yield Extreme("scaled row", product.plus(Bounds.of(0, 1 << self.shift - 1)), I64)


@op("slice_rows")
class SliceRows(Op):
    """y = table[start : start + count], start clipped so that all rows exist: rows of positions.

    Shapes: table (M, ...), start () of integers -> y (count, ...).
    """

    table: Value
    start: Value
    count: int

    def infer(self) -> Tensor:
        check_index(self, self.start)
        table = self.table.type
        if not table.rank or not 1 <= self.count <= table.shape[0] or self.start.type.rank:
            self.fail(f"table is {table}, count {self.count}", "as many rows, one start are needed")
        return table.with_shape((self.count, *table.shape[1:]))

    def permitted(self) -> Iterator[tuple[Value, int, int]]:
        yield self.start, 0, self.table.type.shape[0] - self.count

    def compute(self, torch: Any, table: Any, start: Any) -> Any:
        at = min(max(int(start), 0), self.table.type.shape[0] - self.count)
        return table[at : at + self.count]

    def evaluate(self, table: Array, start: Array) -> Array:
        at = min(max(int(start), 0), self.table.type.shape[0] - self.count)
        return np.asarray(table[at : at + self.count], order="C")

    def bound(self, table: Bounds, start: Bounds) -> Bounds:
        return table.forgotten


@op("write_rows")
class WriteRows(Op):
    """y = cache with the rows start, start + 1, ... of axis 1 replaced by those of x; start is
    clipped so that all exist. The cache is a state: written in place.

    Shapes: cache (B, M, C), x (B, N, C) of one type, start () of integers -> y (B, M, C).
    """

    last_axes: ClassVar[int] = 3
    has_parameters: ClassVar[bool] = False

    cache: Value
    x: Value
    start: Value

    def infer(self) -> Tensor:
        check_index(self, self.start)
        cache, x = self.cache.type, self.x.type
        fits = cache.rank == x.rank == 3 and cache.elem == x.elem
        if not fits or (x.shape[0], x.shape[2]) != (cache.shape[0], cache.shape[2]):
            self.fail(f"cache is {cache}, x is {x}", "one type, batch and width are needed")
        if x.shape[1] > cache.shape[1] or self.start.type.rank:
            self.fail(f"{x.shape[1]} rows into {cache.shape[1]}", "no more rows are needed")
        return cache

    def permitted(self) -> Iterator[tuple[Value, int, int]]:
        yield self.start, 0, self.cache.type.shape[1] - self.x.type.shape[1]

    def compute(self, torch: Any, cache: Any, x: Any, start: Any) -> Any:
        y = cache.clone()
        at = min(max(int(start), 0), cache.shape[1] - x.shape[1])
        y[:, at : at + x.shape[1]] = x
        return y

    def evaluate(self, cache: Array, x: Array, start: Array) -> Array:
        y = np.array(cache, order="C")
        at = min(max(int(start), 0), cache.shape[1] - x.shape[1])
        y[:, at : at + x.shape[1]] = x
        return y

    def bound(self, cache: Bounds, x: Bounds, start: Bounds) -> Bounds:
        return cache.join(x)
