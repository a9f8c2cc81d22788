"""Recognize rectifiers with a slope below zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Clip, Elu, Exp, LeakyRelu, Maximum, PRelu, Relu
from qir.passes.canonicalize.recognize.polynomials import is_close, line, polynomial
from qir.passes.infra.constants import uniform
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site


@register
@dataclass(frozen=True)
class RecognizeLeakyRelu(RewritePass):
    """prelu(x, one slope) -> leaky_relu(x)

    1. prelu(x, a), a one number throughout; max(x, a * x), 0 <= a <= 1 -> leaky_relu(x, a)
    2. relu(x) - a * relu(-x) -> leaky_relu(x, a)
    3. relu(x) + min(a * (exp(x) - 1), 0), a >= 0 -> elu(x, a)
    Keeps: reals within 1e-5.
    """

    name: ClassVar[str] = "recognize-leaky-relu"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (PRelu, Maximum, Add)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        if isinstance(op, PRelu):
            slope = uniform(at, op.slope)
            if slope is None:
                return Miss("its slope is not one number throughout")
            return at.replace(LeakyRelu(op.x, slope))
        assert isinstance(op, (Maximum, Add))
        for x, other in ((op.a, op.b), (op.b, op.a)):
            if isinstance(op, Maximum):
                coefficients = polynomial(at, other, x)
                if (
                    coefficients is not None
                    and coefficients[0] == 0
                    and len(coefficients) == 2
                    and 0 <= coefficients[1] <= 1
                ):
                    return at.replace(LeakyRelu(x, coefficients[1]))
            elif isinstance(positive := at.producer(x), Relu):
                negative = below_zero(at, positive.x, other)
                if negative is not None:
                    return at.replace(negative, positive)
        return Miss("no rectifier with a slope")


def below_zero(at: Site, x: Value, other: Value) -> Op | None:
    """The rectifier whose part below zero is `other`, else None."""
    source, (shift, scale) = line(at, other)
    rectifier = at.producer(source)
    if isinstance(rectifier, Relu) and shift == 0:
        coefficients = polynomial(at, rectifier.x, x)
        if coefficients is not None and len(coefficients) == 2 and coefficients == (0.0, -1.0):
            return LeakyRelu(x, -scale)
    if isinstance(rectifier, Clip) and (shift, scale, rectifier.high) == (0.0, 1.0, 0.0):
        power, (low, factor) = line(at, rectifier.x)
        activation = at.producer(power)
        is_elu = isinstance(activation, Exp) and activation.x == x and is_close(-low, factor)
        if is_elu and factor >= 0 and rectifier.low <= -factor:
            return Elu(x, factor, 1.0)
    return None
