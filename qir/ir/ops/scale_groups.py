"""Weights that are quantized by group: small integers, times an integer for each group."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from qir.ir.bounds import Bounds
from qir.ir.op import Op, Value, op
from qir.ir.types import I16, Array, Int, Quant, Tensor


@op("scale_groups")
class ScaleGroups(Op):
    """y[o, ..., i] = w[o, ..., i] * mult[o, ..., i // block], of constant weights.

    A group is `block` adjacent input channels of one output channel and tap; the last one of an
    axis may be shorter. The real scale of a group is mult * the scale of its output channel, so a
    contraction by y is exact in integers: sum_g mult_g * (sum over the group of x * w).
    Shapes: w (O, ..., I) of q<iN, axis=0>, zero point 0; mult (O, ..., ceil(I / block)), plain u8
            -> y as w, q<i16, axis=0> with the scales of w.
    Source: integer scales under a scale for each channel as in VS-Quant, arXiv:2102.04503.
    """

    reads_elements: ClassVar[bool] = True

    w: Value
    mult: Value
    block: int

    def infer(self) -> Tensor:
        w, mult = self.w.type, self.mult.type
        if not isinstance(w.elem, Quant) or w.elem.axis not in (None, 0) or w.elem.block:
            self.fail(f"w is {w}", "weights with a scale for each output channel are needed")
        if not w.elem.storage.is_signed or w.elem.storage.bits > 8:
            self.fail(f"w is stored in {w.elem.storage}", "at most 8 signed bits are needed")
        if np.any(w.elem.zero_point.array):
            self.fail("w has a zero point", "zero point 0 is needed")
        if self.block < 1:
            self.fail(f"block is {self.block}", "1 or more is needed")
        shape = (*w.shape[:-1], -(-w.shape[-1] // self.block))
        if not isinstance(mult.elem, Int) or mult.elem.is_signed or mult.elem.bits > 8:
            self.fail(f"mult is {mult}", "plain u8 is needed")
        if mult.shape != shape:
            self.fail(f"mult is {list(mult.shape)}", f"{list(shape)} is needed")
        return Tensor(w.shape, Quant(I16, w.elem.scale, w.elem.zero_point, w.elem.axis))

    def spread(self, mult: Array) -> Array:
        """`mult`, one for each weight."""
        return np.repeat(mult, self.block, axis=-1)[..., : self.w.type.shape[-1]]

    def compute(self, torch: Any, w: Any, mult: Any) -> Any:
        wide = mult.to(torch.int32).repeat_interleave(self.block, -1)
        return w.to(torch.int32) * wide[..., : w.shape[-1]]

    def evaluate(self, w: Array, mult: Array) -> Array:
        return (w.astype(np.int32) * self.spread(mult.astype(np.int32))).astype(np.int16)

    def bound(self, w: Any, mult: Any) -> Bounds:
        if isinstance(w, Bounds) or isinstance(mult, Bounds):
            return Bounds.of_type(self.result.type)
        return Bounds.of_array(self.evaluate(w, mult)).forgotten
