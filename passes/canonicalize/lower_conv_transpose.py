"""Lower a transposed convolution to a pad with zeros between elements and a convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Conv, ConvTranspose, Dequantize, Pad, PadMode, Slice
from qir.passes.canonicalize.layout.permutations import reordered_constant
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class LowerConvTranspose(RewritePass):
    """conv_transpose(x, w, stride s, pad p, extra e) -> conv(pad(x, s - 1 zeros between), w turned
    by 180 degrees)

    With dilation d and kernel k the conv pads d * (k - 1) - p before, and e more after; where that
    is negative, its result is sliced. Grouped alike: w is output-first in both.
    Keeps: reals within 1e-5 (the same products, summed in another order).
    """

    name: ClassVar[str] = "lower-conv-transpose"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (ConvTranspose,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, ConvTranspose)
        wrapped = at.producer(op.w)
        weights = at.producer(wrapped.x) if isinstance(wrapped, Dequantize) else wrapped
        if not isinstance(weights, Constant):
            return Miss("w is not a constant")
        flipped: Constant | None = weights
        for axis in (1, 2):
            order = np.arange(op.w.type.shape[axis])[::-1]
            flipped = flipped and reordered_constant(flipped, axis, order)
        if flipped is None:
            return Miss("blocks of taps that share a scale would be torn apart", op.w.name)
        flipped_weights = at.emit(flipped)
        if isinstance(wrapped, Dequantize):
            flipped_weights = at.emit(Dequantize(flipped_weights))
        x = op.x
        if op.stride != (1, 1):
            none, between = (0,) * 4, (0, op.stride[0] - 1, op.stride[1] - 1, 0)
            x = at.emit(Pad(x, none, none, between, PadMode.CONSTANT, 0.0))
        pads = conv_pads(op)
        top, left, bottom, right = (max(p, 0) for p in pads)
        conv = Conv(
            x, flipped_weights, op.bias, (1, 1), (top, left, bottom, right), op.dilation, op.groups
        )
        if min(pads) >= 0:
            return at.replace(conv)
        y = at.emit(conv)
        top, left, bottom, right = (max(-p, 0) for p in pads)
        n, height, width, channels = y.type.shape
        stop = (n, height - bottom, width - right, channels)
        return at.replace(Slice(y, (0, top, left, 0), stop, (1, 1, 1, 1)))


def conv_pads(op: ConvTranspose) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the convolution; a negative one is to be sliced off."""
    reach = [d * (k - 1) for d, k in zip(op.dilation, op.w.type.shape[1:3], strict=True)]
    top, left, bottom, right = op.pad
    return (
        reach[0] - top,
        reach[1] - left,
        reach[0] - bottom + op.extra[0],
        reach[1] - right + op.extra[1],
    )
