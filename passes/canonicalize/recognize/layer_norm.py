"""Recognize layer normalization."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    Constant,
    Div,
    LayerNorm,
    Mul,
    Pow,
    Reciprocal,
    ReduceMean,
    Rsqrt,
    Sqrt,
    Sub,
)  # fmt: skip
from qir.ir.types import Array
from qir.passes.infra.constants import split_constant, uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeLayerNorm(RewritePass):
    """d / sqrt(mean(d**2) + epsilon), d = x - mean(x) -> layer_norm(x); then * gain, + offset join
    it

    Over the last axis. The square may be d * d, the quotient a product with rsqrt, 1 / sqrt, or a
    power of -1/2. Without the mean (rms norm) nothing changes.
    Keeps: reals within 1e-4 (the variance is summed in another order).
    Source: Ba et al., arXiv:1607.06450.
    """

    name: ClassVar[str] = "recognize-layer-norm"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    roots: ClassVar[tuple[type[Op], ...]] = (Div, Mul, Add)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if (parts := split_constant(at, op)) is not None:
            return with_parameter(op, parts[0], parts[1], at)
        if isinstance(op, Add):
            return Miss("no constant is added")
        assert isinstance(op, (Div, Mul))
        sides = ((op.a, op.b),) if isinstance(op, Div) else ((op.a, op.b), (op.b, op.a))
        for d, spread in sides:
            variance = square_of(at, spread, isinstance(op, Div))
            found_norm = normalized(at, d, variance) if variance is not None else None
            if found_norm is not None:
                return at.replace(found_norm, *(o for o in (at.producer(d),) if o is not None))
        return Miss("no x - mean(x) over its deviation")


def square_of(at: Site, value: Value, divides: bool) -> Value | None:
    """v, where `value` is sqrt(v) (when it divides) or 1 / sqrt(v) (when it multiplies)."""
    op = at.producer(value)
    match op:
        case Sqrt() if divides:
            return op.x
        case Pow() if uniform(at, op.b) == (0.5 if divides else -0.5):
            return op.a
        case Rsqrt() if not divides:
            return op.x
        case Reciprocal() if not divides:
            return square_of(at, op.x, True)
        case Div() if not divides and uniform(at, op.a) == 1:
            return square_of(at, op.b, True)
        case _:
            return None


def normalized(at: Site, d: Value, variance: Value) -> LayerNorm | None:
    """layer_norm(x) where d = x - mean(x) and variance = mean(d**2) + epsilon, else None."""
    centred, total = at.producer(d), at.producer(variance)
    if not isinstance(centred, Sub) or not isinstance(total, Add):
        return None
    epsilon = [c for v in (total.a, total.b) if (c := uniform(at, v)) is not None]
    means = [m for v in (total.a, total.b) if isinstance(m := at.producer(v), ReduceMean)]
    mean = at.producer(centred.b)
    if len(epsilon) != 1 or len(means) != 1 or not isinstance(mean, ReduceMean):
        return None
    last = (centred.a.type.rank - 1,)
    if mean.x != centred.a or not all(m.axes == last and m.keep for m in (mean, means[0])):
        return None
    return LayerNorm(centred.a, None, None, epsilon[0]) if is_square(at, means[0].x, d) else None


def is_square(at: Site, value: Value, d: Value) -> bool:
    """Whether value = d * d."""
    op = at.producer(value)
    if isinstance(op, Mul):
        return op.a == d and op.b == d
    return isinstance(op, Pow) and op.a == d and uniform(at, op.b) == 2


def with_parameter(op: Op, x: Value, c: Array, at: Site) -> Value | Miss:
    """layer_norm(x) * gain or + offset, in the layer_norm."""
    norm = at.producer(x)
    if not isinstance(norm, LayerNorm) or at.uses(x) != 1:
        return Miss("no layer_norm is scaled or shifted, or it is read elsewhere too")
    channels = x.type.shape[-1:]
    if c.size > 1 and (c.size != channels[0] or c.shape[-1] != c.size):
        return Miss(f"the constant is {list(c.shape)}, one for each channel is needed")
    parameter = np.array(np.broadcast_to(c.reshape(-1), channels))
    elem = x.type.elem
    if isinstance(op, Mul):
        if norm.gain is not None or norm.offset is not None:
            return Miss("the layer_norm has its gain already")
        return at.replace(replace(norm, gain=at.emit(Constant.of(parameter, elem))), norm)
    if not isinstance(op, Add) or norm.offset is not None:
        return Miss("the layer_norm has its offset already, or is divided")
    return at.replace(replace(norm, offset=at.emit(Constant.of(parameter, elem))), norm)
