"""Products of blocks of a row by a Hadamard matrix, on reals and exact on stored integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds, Extreme
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.sequence import matrices
from qir.ir.ops.sequence.rows import check_rows
from qir.ir.types import I32, Array, Quant, Tensor

LARGEST = 1 << 13  # sizes: kernels hold a block of sums on the stack


@op("hadamard")
class Hadamard(Op):
    """y = x @ H / sqrt(size) for each block of `size` along the last axis; H symmetric, of 1 and
    -1, with orthogonal rows: Paley's matrix (x) Sylvester's (matrices.py).

    On stored integers the exact i32 x @ H, of scale sx / sqrt(size): additions and subtractions.
    A rotation and its inverse: H @ H = size, (x @ H) @ (w @ H).T / size = x @ w.T. What an outlier
    holds is spread evenly.
    Shapes: x (..., C), size divides C; stored with one scale and zero point 0 -> y (..., C).
    Needs:  size * max|x| < 2**31, and a size 2**k, or 2**k times 12, 20, 28, 36, 44, 60, ..
    Source: QuaRot, arXiv:2404.00456, section 3; Paley 1933.
    """

    last_axes: ClassVar[int] = 1

    x: Value
    size: int

    def infer(self) -> Tensor:
        x = self.x.type
        if not x.rank or not 1 <= self.size <= LARGEST or x.shape[-1] % self.size:
            self.fail(f"x is {x}, blocks of {self.size}", "a divisor of the last axis is needed")
        if matrices.factors(self.size) is None:
            self.fail(f"blocks of {self.size}", "a size that has a Hadamard matrix is needed")
        if x.is_float:
            return x
        check_rows(self, self.x)
        step = float(x.quant.scale.array) / np.sqrt(self.size)
        return Tensor(x.shape, Quant.per_tensor(I32, float(step), 0))

    @property
    def _paley(self) -> Array:
        order, _ = matrices.factors(self.size) or (1, 1)
        return matrices.paley(order)

    def compute(self, torch: Any, x: Any) -> Any:
        by = torch.as_tensor(self._paley).to(x)
        return matrices.product(x, self.size, torch, by) * self.size**-0.5

    def evaluate(self, x: Array) -> Array:
        by = self._paley.astype(np.int64)
        sums = matrices.product(x.astype(np.int64), self.size, np, by)
        return stored(sums, self.result.type)

    def bound(self, x: Bounds) -> Bounds:
        most = self.size * max(abs(end) for end in x.ends)
        return Bounds.of(-most, most)

    def extremes(self, x: Bounds) -> Iterator[Extreme]:
        yield Extreme("sum", self.bound(x), I32)  # and every part of it
