"""A linear op that makes several values at once, as one op for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Gather, Linear, Slice
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import is_of_channels
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class SplitLinear(RewritePass):
    """slice(linear(x, w, b)) of channels i to j -> linear(x, w[i:j], b[i:j]), if only such slices
    read the linear op, or gathers of some channels: queries, keys and values then have scales of
    their own.

    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "split-linear"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES
    roots: ClassVar[tuple[type[Op], ...]] = (Slice, Gather)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, (Slice, Gather))
        layer = at.producer(op.x)
        if not isinstance(layer, Linear):
            return Miss("no linear op is sliced")
        readers, channels = at.graph.users.get(op.x.name, ()), channels_of(op)
        are_slices = all(channels_of(r) is not None for r in readers)
        if channels is None or not are_slices or at.uses(op.x) != len(readers):
            return Miss("something else than slices of channels reads the linear op")
        parts = [layer.w, *((layer.bias,) if layer.bias is not None else ())]
        if any(at.constant(p) is None or not p.type.is_float for p in parts):
            return Miss("its weights are not float constants")
        cut = [self._rows(p, channels, at) for p in parts]
        return at.replace(Linear(layer.x, cut[0], cut[1] if len(cut) > 1 else None))

    @staticmethod
    def _rows(part: Value, channels: Array, at: Site) -> Value:
        elements = at.constant(part)
        assert elements is not None
        return at.emit(Constant.of(elements[channels], part.type.elem))


def channels_of(op: Op) -> Array | None:
    """The channels, all along the last axis, that a slice or a gather takes; None of other ops."""
    if isinstance(op, Slice) and is_of_channels(op):
        return np.arange(op.start[-1], op.stop[-1])
    if isinstance(op, Gather) and op.axis == op.x.type.rank - 1 and op.index.array.ndim == 1:
        return op.index.array
    return None
