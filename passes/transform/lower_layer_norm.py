"""Layer norm written out in ops that have integer forms, before ranges are calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Div, LayerNorm, Linear, Mul, ReduceMean, Sqrt, Sub
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class LowerLayerNorm(RewritePass):
    """layer_norm(x, gain, offset) -> d / sqrt(mean(d * d) + epsilon) * gain + offset, where
    d = x - mean(x)

    As integers: two exact sums along the last axis, a table of 1 / sqrt, a product, and a table for
    each channel; each of d, its mean square and the quotient is stored with a calibrated scale.
    Behind a linear op that nothing else reads, d is linear too, and no mean is stored:
    linear(x, w, b) - mean = linear(x, w - mean(w), b - mean(b)), means over the output channels.
    Source of the centred weights: Ashkboos et al. 2024, arXiv:2401.15024, section 3.2.
    Keeps: reals within 1e-4.
    """

    name: ClassVar[str] = "lower-layer-norm"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (LayerNorm,)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, LayerNorm)
        x, last = op.x, (op.x.type.rank - 1,)
        centred = centred_linear(x, at) or at.emit(Sub(x, at.emit(ReduceMean(x, last, True))))
        variance = at.emit(ReduceMean(at.emit(Mul(centred, centred)), last, True))
        epsilon = at.emit(Constant.of(np.asarray(op.epsilon), x.type.elem))
        steps: list[Op] = [Div(centred, at.emit(Sqrt(at.emit(Add(variance, epsilon)))))]
        if op.gain is not None:
            steps.append(Mul(at.emit(steps[-1]), op.gain))
        if op.offset is not None:
            steps.append(Add(at.emit(steps[-1]), op.offset))
        return at.replace(steps[-1])


def centred_linear(x: Value, at: Site) -> Value | None:
    """x - mean(x) over the last axis as one linear op; None where x is read elsewhere too, or is no
    linear op of float constants.
    """
    layer = at.producer(x)
    if not isinstance(layer, Linear) or at.uses(x) != 1 or not layer.w.type.is_float:
        return None
    w = at.constant(layer.w)
    bias = at.constant(layer.bias)
    if w is None or (layer.bias is not None and bias is None):
        return None
    parts = [centred_rows(part, at, x) for part in (w, bias) if part is not None]
    return at.emit(Linear(layer.x, parts[0], parts[1] if len(parts) > 1 else None, loc=layer.loc))


def centred_rows(part: Array, at: Site, like: Value) -> Value:
    """A constant less its mean along the first axis, taken in float64."""
    exact = part.astype(np.float64)
    return at.emit(Constant.of((exact - exact.mean(0)).astype(part.dtype), like.type.elem))
