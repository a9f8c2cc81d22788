"""Layer norm written out in ops that have integer forms, before ranges are calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Div, LayerNorm, Mul, ReduceMean, Sqrt, Sub
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class LowerLayerNorm(RewritePass):
    """layer_norm(x, gain, offset) -> d / sqrt(mean(d * d) + epsilon) * gain + offset, where
    d = x - mean(x)

    As integers: two exact sums along the last axis, a table of 1 / sqrt, a product, and a table for
    each channel; each of d, its mean square and the quotient is stored with a calibrated scale.
    Keeps: reals within 1e-4.
    """

    name: ClassVar[str] = "lower-layer-norm"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (LayerNorm,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, LayerNorm)
        x, last = op.x, (op.x.type.rank - 1,)
        centred = at.emit(Sub(x, at.emit(ReduceMean(x, last, True))))
        variance = at.emit(ReduceMean(at.emit(Mul(centred, centred)), last, True))
        epsilon = at.emit(Constant.of(np.asarray(op.epsilon), x.type.elem))
        steps: list[Op] = [Div(centred, at.emit(Sqrt(at.emit(Add(variance, epsilon)))))]
        if op.gain is not None:
            steps.append(Mul(at.emit(steps[-1]), op.gain))
        if op.offset is not None:
            steps.append(Add(at.emit(steps[-1]), op.offset))
        return at.replace(steps[-1])
