"""Padding: the one move that adds elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from typing import Any

import numpy as np

from qir.ir.axes import Perm, permuted
from qir.ir.bounds import Bounds
from qir.ir.op import Interval, Value, op
from qir.ir.ops.shape import Move
from qir.ir.types import Array, Quant, Tensor


class PadMode(Enum):
    """The content of padding: one value, the mirrored inside, the nearest element."""

    CONSTANT = "constant"
    REFLECT = "reflect"
    EDGE = "edge"


@op("pad")
class Pad(Move):
    """x with `before` and `after` more elements on each axis, and `between` of them between
    neighbours.

    constant: they hold `value`, a real; on quantized x it must be 0, held as the zero point.
    reflect, edge: copies of elements of x (between must be 0).
    Shapes: size -> before + size + (size - 1) * between + after.
    """

    x: Value
    before: tuple[int, ...]
    after: tuple[int, ...]
    between: tuple[int, ...]
    mode: PadMode
    value: float

    def followers(self) -> tuple[Value, ...]:
        return (self.x,)

    def in_layout(self, perm: Perm) -> Pad:
        sides = (self.before, self.after, self.between)
        before, after, between = (permuted(side, perm) for side in sides)
        return replace(self, before=before, after=after, between=between)

    def batch_fault(self, batch: int) -> str | None:
        still = not (self.before[0] or self.after[0] or self.between[0])
        return None if still else "pad reaches the batch axis"

    def infer(self) -> Tensor:
        x = self.x.type
        if not len(self.before) == len(self.after) == len(self.between) == x.rank:
            self.fail(f"pads for {len(self.before)} axes", f"{x.rank} are needed")
        if min((*self.before, *self.after, *self.between, 0)) < 0:
            self.fail(f"pads {self.before}, {self.after}, {self.between}", "at least 0 is needed")
        sides = zip(x.shape, self.before, self.after, self.between, strict=True)
        return self.result_type(tuple(b + s + max(s - 1, 0) * i + a for s, b, a, i in sides))

    def reals(self, *operands: Interval) -> Interval:
        ((low, high),) = operands
        if self.mode is not PadMode.CONSTANT:
            return low, high
        return min(low, self.value), max(high, self.value)

    def faults(self) -> Iterator[str]:
        if self.mode is not PadMode.CONSTANT and any(self.between):
            yield f"{self}: {self.mode.value} with {self.between} between, 0 is needed"
        if not self.x.type.is_float and self.mode is PadMode.CONSTANT and self.value != 0:
            yield f"{self}: value {self.value} on stored integers, 0 is needed"
        if self.mode is PadMode.REFLECT and any(
            max(b, a) >= s
            for s, b, a in zip(self.x.type.shape, self.before, self.after, strict=True)
            if b or a
        ):
            yield (
                f"{self}: reflect by {self.before}, {self.after}, less than the size"
                f" {self.x.type.shape} is needed"
            )

    def compute(self, torch: Any, x: Any) -> Any:
        if self.mode is PadMode.CONSTANT:
            y = torch.full(self.result.type.shape, self._fill(), dtype=x.dtype)
            y[self._inside()] = x
            return y
        index = self.sources()
        for axis, source in enumerate(index):
            x = x.index_select(axis, torch.from_numpy(source))
        return x

    def evaluate(self, x: Array) -> Array:
        if self.mode is not PadMode.CONSTANT:
            return np.asarray(x[np.ix_(*self.sources())], order="C")
        y = np.full(self.result.type.shape, self._fill(), x.dtype)
        y[self._inside()] = x
        return y

    def _fill(self) -> int | float:
        """The stored integer of `value`."""
        if isinstance(self.x.type.elem, Quant):
            return int(self.x.type.quant.zero_point.array)
        return self.value if self.x.type.is_float else int(self.value)

    def _inside(self) -> tuple[slice, ...]:
        sides = zip(self.x.type.shape, self.before, self.between, strict=True)
        return tuple(slice(b, b + s + max(s - 1, 0) * i, i + 1) for s, b, i in sides)

    def sources(self) -> list[Array]:
        """For each axis, which element of x each element of y copies."""
        mode = "reflect" if self.mode is PadMode.REFLECT else "edge"
        sides = zip(self.x.type.shape, self.before, self.after, strict=True)
        return [np.pad(np.arange(s), (b, a), mode=mode) for s, b, a in sides]  # type: ignore[call-overload]

    def bound(self, x: Bounds) -> Bounds:
        inside = x.forgotten
        if self.mode is not PadMode.CONSTANT:
            return inside
        return inside.join(Bounds.of(self._fill(), self._fill()))
