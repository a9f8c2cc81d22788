"""Constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from qir.ir.axes import Perm
from qir.ir.bounds import Bounds
from qir.ir.data import Data
from qir.ir.op import Interval, Op, op
from qir.ir.types import Array, Elem, Quant, Tensor, elem_of, integer_of


@op("constant")
class Constant(Op):
    """A fixed tensor: `value` holds the stored elements, `elem` what they stand for.

    Shapes: y has the shape of value.
    """

    value: Data
    elem: Elem

    @staticmethod
    def of(array: Any, elem: Elem | None = None) -> Constant:
        """`array` as a constant of `elem` (by default of its own dtype), in the carrier of it."""
        a = np.asarray(array)
        kind = elem_of(a.dtype) if elem is None else elem
        return Constant(Data(a.astype(kind.carrier, copy=False)), kind)

    def permuted(self, perm: Perm) -> Constant:
        """The constant transposed by `perm`, its scales with it."""
        elem = self.elem.permuted(perm) if isinstance(self.elem, Quant) else self.elem
        return Constant(Data(self.value.array.transpose(perm)), elem)

    def infer(self) -> Tensor:
        if self.value.array.dtype != self.elem.carrier:
            self.fail(
                f"value holds {self.value.array.dtype}",
                f"{self.elem} is kept in {self.elem.carrier}",
            )
        if isinstance(self.elem, Quant) and self.value.array.size:
            low, high = int(self.value.array.min()), int(self.value.array.max())
            if low < self.elem.storage.min or high > self.elem.storage.max:
                self.fail(f"value reaches [{low}, {high}]", f"{self.elem.storage} is needed")
        return Tensor(self.value.shape, self.elem)

    def reals(self, *operands: Interval) -> Interval:
        if not (self.result.type.is_float and self.value.array.size):
            return self.range
        return float(self.value.array.min()), float(self.value.array.max())

    def compute(self, torch: Any) -> Any:
        return torch.from_numpy(self.value.array.copy())

    def evaluate(self) -> Array:
        return self.value.array

    def bound(self) -> Bounds:
        if integer_of(self.elem) is None:
            return Bounds.of_type(self.result.type)  # an error that names the type
        return Bounds.of_array(self.value.array)
