"""Recognize the norm by the root mean square."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Div, Mul, ReduceMean, RmsNorm
from qir.passes.canonicalize.recognize.layer_norm import is_square, square_of
from qir.passes.infra.constants import split_constant, uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeRmsNorm(RewritePass):
    """x / sqrt(mean(x**2) + epsilon) -> rms_norm(x); then * gain joins it

    Over the last axis. The square may be x * x, the quotient a product with rsqrt, 1 / sqrt, or a
    power of -1/2.
    Keeps: reals within 1e-4 (the squares are summed in another order).
    Source: Zhang & Sennrich 2019, arXiv:1910.07467.
    """

    name: ClassVar[str] = "recognize-rms-norm"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (Div, Mul)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        assert isinstance(op, (Div, Mul))
        if isinstance(op, Mul) and (parts := split_constant(at, op)) is not None:
            norm, c = at.producer(parts[0]), parts[1]
            if not isinstance(norm, RmsNorm) or norm.gain is not None or at.uses(parts[0]) != 1:
                return Miss("no rms_norm without a gain is scaled, or it is read elsewhere too")
            channels = op.result.type.shape[-1]
            if c.size > 1 and not c.size == c.shape[-1] == channels:
                return Miss(f"the constant is {list(c.shape)}, one for each channel is needed")
            gain = Constant.of(np.broadcast_to(c.reshape(-1), (channels,)), op.result.type.elem)
            return at.replace(replace(norm, gain=at.emit(gain)), norm)
        sides = ((op.a, op.b),) if isinstance(op, Div) else ((op.a, op.b), (op.b, op.a))
        for x, spread in sides:
            mean = square_of(at, spread, isinstance(op, Div))
            epsilon = None if mean is None else mean_of_squares(at, x, mean)
            if epsilon is not None:
                return at.replace(RmsNorm(x, None, epsilon))
        return Miss("no x over the root of its mean square")


def mean_of_squares(at: Site, x: Value, value: Value) -> float | None:
    """epsilon, where value = mean(x**2) + epsilon over the last axis; else None."""
    total = at.producer(value)
    if not isinstance(total, Add):
        return None
    for side, other in ((total.a, total.b), (total.b, total.a)):
        mean, epsilon = at.producer(side), uniform(at, other)
        if epsilon is None or not isinstance(mean, ReduceMean) or not mean.keep:
            continue
        if mean.axes == (x.type.rank - 1,) and is_square(at, mean.x, x):
            return epsilon
    return None
