"""Reductions over whole axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any, ClassVar

import numpy as np

from qir.ir.axes import Perm
from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Interval, Op, Value, op
from qir.ir.ops.accumulate import centred_extreme
from qir.ir.ops.kinds import Selection
from qir.ir.ops.pool import averaged, summed
from qir.ir.types import I32, Array, Quant, Tensor


@dataclass(frozen=True, repr=False)
class Reduce(Op):
    """A reduction over `axes` (each 0 .. rank-1, once); they become 1 with keep, else go."""

    x: Value
    axes: tuple[int, ...]
    keep: bool

    def followers(self) -> tuple[Value, ...] | None:
        return (self.x,) if self.keep else None

    def in_layout(self, perm: Perm) -> Reduce:
        return replace(self, axes=tuple(sorted(perm.index(a) for a in self.axes)))

    def batch_fault(self, batch: int) -> str | None:
        return None if 0 not in self.axes else f"{self.mnemonic} goes over the batch axis"

    def reduced(self) -> tuple[int, ...]:
        x = self.x.type
        if len(set(self.axes)) != len(self.axes) or not all(0 <= a < x.rank for a in self.axes):
            self.fail(f"axes {list(self.axes)} of rank {x.rank}", "distinct axes of x are needed")
        if self.keep:
            return tuple(1 if i in self.axes else s for i, s in enumerate(x.shape))
        return tuple(s for i, s in enumerate(x.shape) if i not in self.axes)

    @property
    def count(self) -> int:
        return prod(self.x.type.shape[a] for a in self.axes)


class Total(Reduce):
    """A sum over axes, divided by `divisor` on reals; on a quantized x the exact i32 sum of (x -
    zero_point), which the scale divides.
    """

    accumulates: ClassVar[bool] = True

    @property
    def divisor(self) -> int:
        return 1

    def infer(self) -> Tensor:
        shape, elem = self.reduced(), self.x.type.elem
        return Tensor(shape, elem if self.x.type.is_float else averaged(self, self.x, self.divisor))

    def reals(self, *operands: Interval) -> Interval:
        ((low, high),) = operands  # sums of floats round: only the sign is known
        return (0.0 if low >= 0 else -inf), (0.0 if high <= 0 else inf)

    def evaluate(self, x: Array) -> Array:
        zero = np.int32(self.x.type.quant.zero_point.array)
        return np.asarray(
            (x.astype(np.int32) - zero).sum(axis=self.axes, keepdims=self.keep, dtype=np.int32)
        )

    def bound(self, x: Bounds) -> Bounds:
        return summed(self.x, x, self.count)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        yield from centred_extreme(self.x, x)
        yield Extreme("sum", self.bound(x), I32)


@op("reduce_mean")
class ReduceMean(Total):
    """y = sum over axes / count; on a quantized x the exact i32 sum of (x - zero_point), of scale s
    / count.
    """

    x: Value
    axes: tuple[int, ...]
    keep: bool

    @property
    def divisor(self) -> int:
        return max(self.count, 1)

    def compute(self, torch: Any, x: Any) -> Any:
        return x.mean(dim=self.axes, keepdim=self.keep) if self.axes else x


@op("reduce_sum")
class ReduceSum(Total):
    """y = sum over axes; on a quantized x the exact i32 sum of (x - zero_point), of x's scale and
    zero point 0.
    """

    x: Value
    axes: tuple[int, ...]
    keep: bool

    def compute(self, torch: Any, x: Any) -> Any:
        return x.sum(dim=self.axes, keepdim=self.keep) if self.axes else x


@op("reduce_max")
class ReduceMax(Selection, Reduce):
    """y = the greatest over axes; stored values keep their type."""

    x: Value
    axes: tuple[int, ...]
    keep: bool

    def infer(self) -> Tensor:
        if any(self.x.type.shape[a] == 0 for a in self.axes if a < self.x.type.rank):
            self.fail(f"x is {self.x.type}", "at least one element to reduce is needed")
        if isinstance(self.x.type.elem, Quant) and not self.x.type.elem.is_per_tensor:
            self.fail(f"x is quantized along axis {self.x.type.elem.axis}", "one scale is needed")
        return Tensor(self.reduced(), self.x.type.elem)

    def compute(self, torch: Any, x: Any) -> Any:
        return torch.amax(x, dim=self.axes, keepdim=self.keep) if self.axes else x

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.axes, keepdims=self.keep))

    def bound(self, x: Bounds) -> Bounds:
        return x.forgotten
