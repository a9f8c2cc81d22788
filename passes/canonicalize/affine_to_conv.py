"""Convert a per-channel scale and shift of a plane to a depthwise convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Conv, Mul
from qir.passes.canonicalize.fold_affine import affine
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class AffineToConv(RewritePass):
    """x * s + t, x (N, H, W, C), s and t constants (C,) -> conv(x, s, t), 1x1, C groups

    Also x * s alone, and x + t alone; not of one number for all channels, which is a function of
    one element and joins others in a table. It handles the remainder of fold-affine, e.g. a batch
    normalization after a concat. As integers it is one accumulator and one rounding, where a
    product and a sum would round twice; and one weight a channel is stored without error.
    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "affine-to-conv"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Add, Mul)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if op.result.type.rank != 4:
            return Miss(f"x has rank {op.result.type.rank}, 4 is needed")
        parts = affine(op, at)
        if parts is None:
            return Miss("no constant of one number, or one for each channel")
        x, scale, shift = parts
        inner = at.producer(x)
        before = affine(inner, at) if isinstance(inner, Mul) and isinstance(op, Add) else None
        merged_ops: tuple[Op, ...] = ()
        if before is not None and inner is not None and at.uses(x) == 1:
            (x, scale, _), merged_ops = before, (inner,)
        if scale.ndim == 0 and shift.ndim == 0:
            return Miss("one number for all channels, a function of one element as others are")
        if isinstance(op, Mul) and at.uses(op.result) == 1 and self._is_shifted(op, at):
            return Miss("a shift follows, which takes it along")
        elem, channels = x.type.elem, x.type.shape[3]
        weights = np.broadcast_to(scale, (channels,)).reshape(channels, 1, 1, 1)
        w = at.emit(Constant.of(weights, elem))
        bias = None
        if np.any(shift != 0):
            bias = at.emit(Constant.of(np.broadcast_to(shift, (channels,)), elem))
        return at.replace(Conv(x, w, bias, (1, 1), (0, 0, 0, 0), (1, 1), channels), *merged_ops)

    @staticmethod
    def _is_shifted(op: Op, at: Site) -> bool:
        """Whether the one reader of a product adds a constant to it."""
        (reader, *_) = at.graph.users.get(op.result.name, (None,))
        return isinstance(reader, Add) and any(
            isinstance(at.graph.producers.get(v.name), Constant) for v in reader.operands
        )
