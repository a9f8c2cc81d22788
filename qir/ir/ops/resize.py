"""Bilinear resizing; nearest is two gathers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.data import Data
from qir.ir.op import Op, Value, op
from qir.ir.ops.accumulate import centred_extreme
from qir.ir.types import I32, Array, Quant, Tensor

WEIGHT_BITS = 11  # 255 * 2**22 < 2**30: two axes of weights beside 8-bit values fit int32


@op("bilinear")
class Bilinear(Op):
    """y[n, p, q, c] = sum over a, b in {0, 1} of u[p, a] * v[q, b] * x[n, rows[p, a], columns[q,
    b], c]

    On floats the weights u, v are float64. On a quantized x they are int16 in units of 2**-11, each
    pair summing to
    2**11, and the result is the exact i32 sum over (x - zero_point), of scale s / 2**22 and zero
    point 0.
    Shapes: x (N, H, W, C), rows, u (OH, 2), columns, v (OW, 2) -> (N, OH, OW, C).
    """

    accumulates: ClassVar[bool] = True

    x: Value
    rows: Data
    columns: Data
    u: Data
    v: Data

    def infer(self) -> Tensor:
        x = self.x.type
        if x.rank != 4:
            self.fail(f"x is {x}", "rank 4 is needed")
        for index, weight, size in (
            (self.rows, self.u, x.shape[1]),
            (self.columns, self.v, x.shape[2]),
        ):
            if len(index.shape) != 2 or index.shape[1] != 2 or weight.shape != index.shape:
                self.fail(
                    f"index {index.shape}, weight {weight.shape}", "both of (n, 2) are needed"
                )
            if index.array.size and not 0 <= index.array.min() <= index.array.max() < size:
                self.fail("an index outside the axis", f"0 to {size - 1} are needed")
        shape = (x.shape[0], self.rows.shape[0], self.columns.shape[0], x.shape[3])
        if x.is_float:
            return Tensor(shape, x.elem)
        if not isinstance(x.elem, Quant) or not x.elem.is_per_tensor:
            self.fail(f"x is {x.elem}", "floats, or one scale, are needed")
        return Tensor(
            shape, Quant.per_tensor(I32, float(x.elem.scale.array) / (1 << 2 * WEIGHT_BITS), 0)
        )

    def faults(self) -> Iterator[str]:
        if not self.x.type.is_float:
            for w in (self.u, self.v):
                if (
                    w.array.dtype.kind != "i"
                    or np.any(w.array.sum(1) != 1 << WEIGHT_BITS)
                    or np.any(w.array < 0)
                ):
                    yield (
                        f"{self}: weights {w.array.dtype}, pairs of integers that sum to"
                        f" 2**{WEIGHT_BITS} are needed"
                    )

    def compute(self, torch: Any, x: Any) -> Any:
        for axis, index, weight in ((1, self.rows, self.u), (2, self.columns, self.v)):
            at, w = (torch.from_numpy(np.array(d.array)) for d in (index, weight))
            size = [1] * 4
            size[axis] = -1
            near, far = (
                x.index_select(axis, at[:, k].long()) * w[:, k].reshape(size).to(x.dtype)
                for k in (0, 1)
            )
            x = near + far
        return x

    def evaluate(self, x: Array) -> Array:
        y = x.astype(np.int32) - np.int32(self.x.type.quant.zero_point.array)
        for axis, index, weight in ((1, self.rows, self.u), (2, self.columns, self.v)):
            size = [1] * 4
            size[axis] = -1
            near, far = (
                np.take(y, index.array[:, k], axis)
                * weight.array[:, k].astype(np.int32).reshape(size)
                for k in (0, 1)
            )
            y = near + far
        return y

    def bound(self, x: Bounds) -> Bounds:
        return Bounds.centred(x, self.x.type).scaled(1 << 2 * WEIGHT_BITS).forgotten

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        yield from centred_extreme(self.x, x)
        yield Extreme("weighted sum", self.bound(x).with_zero(), I32)
