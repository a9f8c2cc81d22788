"""Arithmetic of two operands, each a tensor or a number, broadcast."""

from __future__ import annotations

from qir.frontends.torch.context import Held, Number, Site
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, Div, Maximum, Minimum, Mul, Pow, Reciprocal, Rsqrt, Sqrt, Sub

Operand = Held | Number


@imports("aten.add.Tensor", "aten.add.Scalar")
def add(site: Site, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    """a + alpha * b."""
    return site.add(Add(site.value(a), scaled(site, b, alpha)))


@imports("aten.sub.Tensor", "aten.sub.Scalar")
def sub(site: Site, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    """a - alpha * b."""
    return site.add(Sub(site.value(a), scaled(site, b, alpha)))


@imports("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(site: Site, a: Operand, b: Operand, alpha: Number = 1) -> Value:
    """b - alpha * a."""
    return sub(site, b, a, alpha)


@imports("aten.mul.Tensor", "aten.mul.Scalar")
def mul(site: Site, a: Operand, b: Operand) -> Value:
    return site.add(Mul(site.value(a), site.value(b)))


@imports("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(site: Site, a: Operand, b: Operand) -> Value:
    return site.add(Div(site.value(a), site.value(b)))


@imports("aten.div.Tensor_mode", "aten.div.Scalar_mode")
def div_mode(site: Site, a: Operand, b: Operand, *, rounding_mode: str | None) -> Value:
    if rounding_mode is not None:
        raise Unsupported(f"div with rounding_mode={rounding_mode!r}", "div without one is needed")
    return div(site, a, b)


@imports("aten.maximum.default", "aten.max.other", "aten.clamp_min.Tensor")
def maximum(site: Site, a: Operand, b: Operand) -> Value:
    return site.add(Maximum(site.value(a), site.value(b)))


@imports("aten.minimum.default", "aten.min.other", "aten.clamp_max.Tensor")
def minimum(site: Site, a: Operand, b: Operand) -> Value:
    return site.add(Minimum(site.value(a), site.value(b)))


@imports("aten.clamp.Tensor")
def clamp_tensor(site: Site, x: Held, min: Held | None = None, max: Held | None = None) -> Value:
    y = site.value(x)
    if min is not None:
        y = maximum(site, y, min)
    return y if max is None else minimum(site, y, max)


@imports("aten.pow.Tensor_Tensor", "aten.pow.Scalar")
def power(site: Site, a: Operand, b: Operand) -> Value:
    return site.add(Pow(site.value(a), site.value(b)))


@imports("aten.pow.Tensor_Scalar")
def power_scalar(site: Site, x: Held, exponent: Number) -> Value:
    """x ** e: mul for 2, sqrt, rsqrt and reciprocal for 0.5, -0.5 and -1, else pow."""
    at = site.value(x)
    match float(exponent):
        case 1.0:
            return at
        case 2.0:
            return site.add(Mul(at, at))
        case 0.5:
            return site.add(Sqrt(at))
        case -0.5:
            return site.add(Rsqrt(at))
        case -1.0:
            return site.add(Reciprocal(at))
        case other:
            return site.add(Pow(at, site.value(other)))


@imports("aten.square.default")
def square(site: Site, x: Held) -> Value:
    return power_scalar(site, x, 2)


@imports("aten.addcmul.default")
def addcmul(site: Site, x: Held, a: Held, b: Held, *, value: Number = 1) -> Value:
    """x + value * a * b."""
    return add(site, x, mul(site, a, b), value)


@imports("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(site: Site, a: Held, b: Held, weight: Operand) -> Value:
    """a + weight * (b - a)."""
    return add(site, a, mul(site, sub(site, b, a), weight))


@imports("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf")
def where(site: Site, condition: Held, a: Operand, b: Operand) -> Value:
    """a * mask + b * (1 - mask), for a constant condition: exact, as both are finite."""
    mask = site.constant(condition, "the condition of a where").float()
    return add(site, mul(site, a, mask), mul(site, b, 1 - mask))


@imports("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(site: Site, x: Held, mask: Held, value: Operand) -> Value:
    return where(site, mask, value, x)


def scaled(site: Site, x: Operand, alpha: Number) -> Value:
    """alpha * x, without an op for 1 or for numbers."""
    if alpha == 1:
        return site.value(x)
    if isinstance(x, (int, float)):
        return site.value(x * alpha)
    return site.add(Mul(site.value(x), site.value(alpha)))
