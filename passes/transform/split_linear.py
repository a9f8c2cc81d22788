"""A linear op that makes several values at once, as one op for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Linear, Slice
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.layers import is_of_channels
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class SplitLinear(RewritePass):
    """slice(linear(x, w, b)) of channels i to j -> linear(x, w[i:j], b[i:j]), if only such slices
    read the linear op: queries, keys and values then have scales of their own.

    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "split-linear"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES
    roots: ClassVar[tuple[type[Op], ...]] = (Slice,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, Slice)
        layer = at.producer(op.x)
        if not isinstance(layer, Linear):
            return Miss("no linear op is sliced")
        readers = at.graph.users.get(op.x.name, ())
        if not all(map(is_of_channels, readers)) or at.uses(op.x) != len(readers):
            return Miss("something else than slices of channels reads the linear op")
        parts = [layer.w, *((layer.bias,) if layer.bias is not None else ())]
        if any(at.constant(p) is None or not p.type.is_float for p in parts):
            return Miss("its weights are not float constants")
        start, stop = op.start[-1], op.stop[-1]
        cut = [self._rows(p, start, stop, at) for p in parts]
        return at.replace(Linear(layer.x, cut[0], cut[1] if len(cut) > 1 else None))

    @staticmethod
    def _rows(part: Value, start: int, stop: int, at: Site) -> Value:
        elements = at.constant(part)
        assert elements is not None
        return at.emit(Constant.of(elements[start:stop], part.type.elem))
