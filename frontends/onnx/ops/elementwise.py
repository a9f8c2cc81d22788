"""Arithmetic of two and more operands, and functions of one."""

from __future__ import annotations

import math
from collections.abc import Callable

from qir.frontends.onnx.context import Site
from qir.ir import ops
from qir.ir.op import Op, Value
from qir.ir.ops.unary import SELU

Converter = Callable[[Site], Value]
Binary = Callable[[Value, Value], Op]


def unary(make: Callable[[Value], Op]) -> Converter:
    """An op of one float operand without attributes."""
    return lambda at: at.result(make(at.real(0)))


def binary(make: Binary) -> Converter:
    """An op of two float operands, broadcast as NumPy does."""
    return lambda at: at.result(make(at.real(0), at.real(1)))


def many(make: Binary) -> Converter:
    """An op of one or more operands, taken from the left."""

    def convert(at: Site) -> Value:
        values = [at.real(i) for i in range(max(len(at.operands), 1))]
        if len(values) == 1:
            return values[0]
        left = values[0]
        for x in values[1:-1]:
            left = at.emit(make(left, x))
        return at.result(make(left, values[-1]))

    return convert


def mean(at: Site) -> Value:
    """Mean: the sum of the operands / how many there are."""
    values = [at.real(i) for i in range(max(len(at.operands), 1))]
    total = values[0]
    for x in values[1:]:
        total = at.emit(ops.Add(total, x))
    return at.result(ops.Mul(total, at.constant(1 / len(values), "share")))


def clip(at: Site) -> Value:
    """Clip: bounds as attributes before opset 11, then as inputs; ones computed at run time too."""
    x = at.real(0)
    if at.opset < 11:
        low, high = at.number("min", -math.inf), at.number("max", math.inf)
        return at.result(ops.Clip(x, low, high))
    for index, make in ((1, ops.Maximum), (2, ops.Minimum)):
        if at.has(index) and isinstance(at.operand(index), Value):
            x = at.emit(make(x, at.real(index)))
    low, high = (_bound(at, i, d) for i, d in ((1, -math.inf), (2, math.inf)))
    return at.result(ops.Clip(x, low, high))


def _bound(at: Site, index: int, default: float) -> float:
    if not at.has(index) or isinstance(at.operand(index), Value):
        return default
    found = at.scalar(index, "a bound")
    if found is None or math.isnan(found):
        at.refuse(f"bound {index} is {found}", "a number is needed")
    return found


def leaky_relu(at: Site) -> Value:
    """LeakyRelu: x where x >= 0, else alpha * x."""
    return at.result(ops.LeakyRelu(at.real(0), at.number("alpha", 0.01)))


def prelu(at: Site) -> Value:
    """PRelu: the slope broadcasts to x; before opset 9 one of (C,) belongs to axis 1."""
    x, slope = at.real(0), at.real(1)
    if at.opset < 9 and slope.type.rank == 1 and x.type.rank > 2:
        slope = at.emit(ops.Reshape(slope, (slope.type.shape[0], *[1] * (x.type.rank - 2))))
    return at.result(ops.PRelu(x, slope))


def elu(at: Site) -> Value:
    """Elu: x where x > 0, else alpha * (exp(x) - 1)."""
    return at.result(ops.Elu(at.real(0), at.number("alpha", 1.0), 1.0))


def selu(at: Site) -> Value:
    """Selu: gamma * x where x > 0, else gamma * alpha * (exp(x) - 1)."""
    return at.result(ops.Elu(at.real(0), at.number("alpha", SELU[0]), at.number("gamma", SELU[1])))


def celu(at: Site) -> Value:
    """Celu: max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) = alpha * elu(x / alpha)."""
    x, alpha = at.real(0), at.number("alpha", 1.0)
    if alpha == 1:
        return at.result(ops.Elu(x, 1.0, 1.0))
    if alpha <= 0:
        at.refuse(f"alpha {alpha}", "over 0 is needed")
    scale = at.constant(alpha, "alpha")
    return at.result(ops.Mul(at.emit(ops.Elu(at.emit(ops.Div(x, scale)), 1.0, 1.0)), scale))


def hard_sigmoid(at: Site) -> Value:
    """HardSigmoid: min(max(alpha * x + beta, 0), 1)."""
    return at.result(ops.HardSigmoid(at.real(0), at.number("alpha", 0.2), at.number("beta", 0.5)))


def gelu(at: Site) -> Value:
    """Gelu: x * Phi(x), exact or by tanh."""
    kind = at.text("approximate", "none")
    if kind not in ("none", "tanh"):
        at.refuse(f"approximate {kind!r}", "'none' or 'tanh' is needed")
    return at.result(ops.Gelu(at.real(0), kind == "tanh"))


def swish(at: Site) -> Value:
    """Swish: x * sigmoid(alpha * x)."""
    return swished(at, at.number("alpha", 1.0))


def swished(at: Site, alpha: float) -> Value:
    """x * sigmoid(alpha * x)."""
    x = at.real(0)
    if alpha == 1:
        return at.result(ops.Silu(x))
    inner = at.emit(ops.Mul(x, at.constant(alpha, "alpha")))
    return at.result(ops.Mul(x, at.emit(ops.Sigmoid(inner))))


def mish(at: Site) -> Value:
    """Mish: x * tanh(softplus(x))."""
    x = at.real(0)
    return at.result(ops.Mul(x, at.emit(ops.Tanh(at.emit(ops.Softplus(x))))))


def softsign(at: Site) -> Value:
    """Softsign: x / (1 + |x|)."""
    x = at.real(0)
    one = at.constant(1, "one")
    return at.result(ops.Div(x, at.emit(ops.Add(at.emit(ops.Abs(x)), one))))


hard_swish = unary(ops.HardSwish)
