"""Arithmetic of two and more operands, and functions of one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qir.frontends.onnx.context import ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand
from qir.frontends.onnx.ops import boolean
from qir.ir import ops
from qir.ir.fixed import Rounding
from qir.ir.op import Op, Value
from qir.ir.ops.unary import SELU
from qir.ir.select import MASKED
from qir.ir.types import Quant

Converter = Callable[[ImportContext], Value]
Binary = Callable[[Value, Value], Op]


def unary(make: Callable[[Value], Op]) -> Converter:
    """An op of one float operand without attributes."""
    return lambda ctx: ctx.result(make(ctx.real(0)))


def binary(make: Binary) -> Converter:
    """An op of two float operands, broadcast as NumPy does."""
    return lambda ctx: ctx.result(make(ctx.real(0), ctx.real(1)))


def power(ctx: ImportContext) -> Value:
    """Pow: x ** y, y most often constant."""
    return ctx.result(ops.Pow(ctx.real(0), ctx.parameter(1)))


def multiply(ctx: ImportContext) -> Value:
    """Mul; of positions of tokens, by which of them count."""
    return boolean.masked_positions(ctx) or binary(ops.Mul)(ctx)


def subtract(ctx: ImportContext) -> Value:
    """Sub; of positions of tokens, a number."""
    return boolean.shifted_positions(ctx, -1) or binary(ops.Sub)(ctx)


def add(ctx: ImportContext) -> Value:
    """Add, of positions of tokens too; a constant mask of -inf before a Softmax becomes a finite
    one.
    """
    if (positions := boolean.shifted_positions(ctx, 1)) is not None:
        return positions
    return ctx.result(ops.Add(*(ctx.valued_real(finite_mask(ctx, k)) for k in (0, 1))))


def finite_mask(ctx: ImportContext, index: int) -> Operand:
    """Input `index`, with MASKED for each -inf of a constant that Softmax nodes alone read."""
    x = ctx.operand(index)
    if not ctx.feeds_softmax or not isinstance(x, ConstantOperand) or x.array.dtype.kind != "f":
        return x
    hidden = np.isneginf(x.array)
    if not hidden.any():
        return x
    if hidden.ndim and hidden.all(-1).any():
        ctx.refuse("a mask that hides a row altogether", "one element or more of each is needed")
    return ConstantOperand(np.where(hidden, MASKED, x.array), x.name)


def many(make: Binary) -> Converter:
    """An op of one or more operands, taken from the left."""

    def convert(ctx: ImportContext) -> Value:
        values = [ctx.real(i) for i in range(max(len(ctx.operands), 1))]
        if len(values) == 1:
            return values[0]
        left = values[0]
        for x in values[1:-1]:
            left = ctx.emit(make(left, x))
        return ctx.result(make(left, values[-1]))

    return convert


def mean(ctx: ImportContext) -> Value:
    """Mean: the sum of the operands / how many there are."""
    values = [ctx.real(i) for i in range(max(len(ctx.operands), 1))]
    total = values[0]
    for x in values[1:]:
        total = ctx.emit(ops.Add(total, x))
    return ctx.result(ops.Mul(total, ctx.constant(1 / len(values), "share")))


def clip(ctx: ImportContext) -> Value:
    """Clip: bounds as attributes before opset 11, then as inputs; ones computed at run time too.

    Of stored integers, as exporters of low bit widths write it: the reals clipped to those that the
    bounds stand for.
    """
    stored = ctx.operand(0)
    if isinstance(stored, Value) and isinstance(stored.type.elem, Quant):
        if any(ctx.has(i) and isinstance(ctx.operand(i), Value) for i in (1, 2)):
            ctx.refuse("bounds of stored integers computed at run time", "constants are needed")
        low, high = (_bound(ctx, i, d) for i, d in ((1, -math.inf), (2, math.inf)))
        return _stored_clip(ctx, stored, low, high)
    x = ctx.real(0)
    if ctx.opset < 11:
        low, high = ctx.number("min", -math.inf), ctx.number("max", math.inf)
        return ctx.result(ops.Clip(x, low, high))
    for index, make in ((1, ops.Maximum), (2, ops.Minimum)):
        if ctx.has(index) and isinstance(ctx.operand(index), Value):
            x = ctx.emit(make(x, ctx.real(index)))
    low, high = (_bound(ctx, i, d) for i, d in ((1, -math.inf), (2, math.inf)))
    return ctx.result(ops.Clip(x, low, high))


def _stored_clip(ctx: ImportContext, x: Value, low: float, high: float) -> Value:
    """clip(x, low, high) = quantize(clip(dequantize(x), (low - z) * s, (high - z) * s))"""
    kind = x.type.quant
    if not kind.is_per_tensor:
        ctx.refuse(f"integers quantized along axis {kind.axis}", "one scale is needed")
    if low > high:
        ctx.refuse(f"bounds {low:g} and {high:g}", "a lower one below an upper one is needed")
    scale, zero = float(kind.scale.array), int(kind.zero_point.array)
    real = ctx.emit(ops.Dequantize(x))
    clipped = ctx.emit(ops.Clip(real, (low - zero) * scale, (high - zero) * scale))
    return ctx.result(ops.Quantize(clipped, kind, Rounding.HALF_EVEN))


def relu(ctx: ImportContext) -> Value:
    """Relu: max(x, 0); on stored integers at a stored 0."""
    x = ctx.operand(0)
    if isinstance(x, Value) and isinstance(x.type.elem, Quant):
        return _stored_clip(ctx, x, 0, math.inf)
    return ctx.result(ops.Relu(ctx.real(0)))


def _bound(ctx: ImportContext, index: int, default: float) -> float:
    if not ctx.has(index) or isinstance(ctx.operand(index), Value):
        return default
    bound = ctx.scalar(index, "a bound")
    if bound is None or math.isnan(bound):
        ctx.refuse(f"bound {index} is {bound}", "a number is needed")
    return bound


def leaky_relu(ctx: ImportContext) -> Value:
    """LeakyRelu: x where x >= 0, else alpha * x."""
    return ctx.result(ops.LeakyRelu(ctx.real(0), ctx.number("alpha", 0.01)))


def prelu(ctx: ImportContext) -> Value:
    """PRelu: the slope broadcasts to x; before opset 9 one of (C,) belongs to axis 1."""
    x, slope = ctx.real(0), ctx.parameter(1)
    if ctx.opset < 9 and slope.type.rank == 1 and x.type.rank > 2:
        slope = ctx.emit(ops.Reshape(slope, (slope.type.shape[0], *[1] * (x.type.rank - 2))))
    return ctx.result(ops.PRelu(x, slope))


def elu(ctx: ImportContext) -> Value:
    """Elu: x where x > 0, else alpha * (exp(x) - 1)."""
    return ctx.result(ops.Elu(ctx.real(0), ctx.number("alpha", 1.0), 1.0))


def selu(ctx: ImportContext) -> Value:
    """Selu: gamma * x where x > 0, else gamma * alpha * (exp(x) - 1)."""
    return ctx.result(
        ops.Elu(ctx.real(0), ctx.number("alpha", SELU[0]), ctx.number("gamma", SELU[1]))
    )


def celu(ctx: ImportContext) -> Value:
    """Celu: max(x, 0) + min(0, alpha * (exp(x / alpha) - 1)) = alpha * elu(x / alpha)."""
    x, alpha = ctx.real(0), ctx.number("alpha", 1.0)
    if alpha == 1:
        return ctx.result(ops.Elu(x, 1.0, 1.0))
    if alpha <= 0:
        ctx.refuse(f"alpha {alpha}", "over 0 is needed")
    scale = ctx.constant(alpha, "alpha")
    return ctx.result(ops.Mul(ctx.emit(ops.Elu(ctx.emit(ops.Div(x, scale)), 1.0, 1.0)), scale))


def hard_sigmoid(ctx: ImportContext) -> Value:
    """HardSigmoid: min(max(alpha * x + beta, 0), 1)."""
    return ctx.result(
        ops.HardSigmoid(ctx.real(0), ctx.number("alpha", 0.2), ctx.number("beta", 0.5))
    )


def gelu(ctx: ImportContext) -> Value:
    """Gelu: x * Phi(x), exact or by tanh."""
    kind = ctx.text("approximate", "none")
    if kind not in ("none", "tanh"):
        ctx.refuse(f"approximate {kind!r}", "'none' or 'tanh' is needed")
    return ctx.result(ops.Gelu(ctx.real(0), kind == "tanh"))


def swish(ctx: ImportContext) -> Value:
    """Swish: x * sigmoid(alpha * x)."""
    return swished(ctx, ctx.number("alpha", 1.0))


def swished(ctx: ImportContext, alpha: float) -> Value:
    """x * sigmoid(alpha * x)."""
    x = ctx.real(0)
    if alpha == 1:
        return ctx.result(ops.Silu(x))
    inner = ctx.emit(ops.Mul(x, ctx.constant(alpha, "alpha")))
    return ctx.result(ops.Mul(x, ctx.emit(ops.Sigmoid(inner))))


def mish(ctx: ImportContext) -> Value:
    """Mish: x * tanh(softplus(x))."""
    x = ctx.real(0)
    return ctx.result(ops.Mul(x, ctx.emit(ops.Tanh(ctx.emit(ops.Softplus(x))))))


def softsign(ctx: ImportContext) -> Value:
    """Softsign: x / (1 + |x|)."""
    x = ctx.real(0)
    one = ctx.constant(1, "one")
    return ctx.result(ops.Div(x, ctx.emit(ops.Add(ctx.emit(ops.Abs(x)), one))))


hard_swish = unary(ops.HardSwish)
