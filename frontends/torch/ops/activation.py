"""Activations: functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.frontends.torch.context import ImportContext, Number, Operand, axis_of
from qir.frontends.torch.ops.layout import on_last_axis
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Abs,
    Add,
    Clip,
    Div,
    Elu,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Log,
    Maximum,
    Mul,
    Neg,
    PRelu,
    Reciprocal,
    ReduceMax,
    ReduceSum,
    Relu,
    Rsqrt,
    Sigmoid,
    Silu,
    Softmax,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
)  # fmt: skip
from qir.ir.ops.unary import INFINITE, SELU

PLAIN: dict[str, Callable[[Value], Op]] = {
    "relu": Relu, "sigmoid": Sigmoid, "tanh": Tanh, "hardswish": HardSwish, "silu": Silu,
    "abs": Abs, "exp": Exp, "log": Log, "sqrt": Sqrt, "rsqrt": Rsqrt, "reciprocal": Reciprocal,
    "neg": Neg, "erf": Erf,
}  # fmt: skip


def plain(name: str) -> None:
    """Declare the rule of an operator that is one op of qir: x -> op(x)."""

    @imports(f"aten.{name}.default")
    def rule(ctx: ImportContext, x: Operand) -> Value:
        return ctx.add(PLAIN[name](ctx.value(x)))


for _name in PLAIN:
    plain(_name)


@imports("aten.relu6.default")
def relu6(ctx: ImportContext, x: Operand) -> Value:
    return ctx.add(Clip(ctx.value(x), 0.0, 6.0))


@imports("aten.hardtanh.default")
def hardtanh(ctx: ImportContext, x: Operand, min_val: Number = -1, max_val: Number = 1) -> Value:
    return ctx.add(Clip(ctx.value(x), float(min_val), float(max_val)))


@imports("aten.clamp.default", "aten.clip.default")
def clamp(
    ctx: ImportContext, x: Operand, min: Number | None = None, max: Number | None = None
) -> Value:
    """clamp -> clip; an absent end is infinite. clamp(min=0) -> relu."""
    if min == 0 and max is None:
        return ctx.add(Relu(ctx.value(x)))
    low, high = (e if v is None else float(v) for v, e in zip((min, max), INFINITE, strict=True))
    return ctx.add(Clip(ctx.value(x), low, high))


@imports("aten.clamp_min.default")
def clamp_min(ctx: ImportContext, x: Operand, min: Number) -> Value:
    return clamp(ctx, x, min, None)


@imports("aten.clamp_max.default")
def clamp_max(ctx: ImportContext, x: Operand, max: Number) -> Value:
    return clamp(ctx, x, None, max)


@imports("aten.threshold.default")
def threshold(ctx: ImportContext, x: Operand, at: Number, value: Number) -> Value:
    """x where x > at, else value: relu for (0, 0), maximum for at = value."""
    if at != value:
        raise Unsupported(f"threshold {at} with value {value}", "one number for both is needed")
    return ctx.add(Maximum(ctx.value(x), ctx.value(value))) if at else clamp(ctx, x, 0)


@imports("aten.leaky_relu.default")
def leaky_relu(ctx: ImportContext, x: Operand, negative_slope: Number = 0.01) -> Value:
    return ctx.add(LeakyRelu(ctx.value(x), float(negative_slope)))


@imports("aten.rrelu_with_noise.default", "aten.rrelu.default")
def rrelu(
    ctx: ImportContext,
    x: Operand,
    *rest: object,
    lower: Number = 0.125,
    upper: Number = 1 / 3,
    training: bool = False,
) -> Value:
    """In inference a leaky relu of slope (lower + upper) / 2."""
    numbers = [r for r in rest if isinstance(r, (int, float)) and not isinstance(r, bool)]
    low, high = numbers[:2] if len(numbers) >= 2 else (lower, upper)
    return leaky_relu(ctx, x, (low + high) / 2)


@imports("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(ctx: ImportContext, x: Operand, weight: Operand) -> Value:
    """prelu with one slope, or one for each channel: then between transposes, the channels last."""
    at, slope = ctx.value(x), ctx.constant(weight, "the slope of a prelu")
    slope = ctx.derived(slope.reshape(() if slope.numel() == 1 else -1), slope)
    if not slope.shape:
        return ctx.add(PRelu(at, ctx.value(slope)))
    axis = 1 if at.type.rank > 1 else 0
    return on_last_axis(ctx, at, axis, lambda v: ctx.add(PRelu(v, ctx.value(slope))))


@imports("aten.hardsigmoid.default")
def hardsigmoid(ctx: ImportContext, x: Operand) -> Value:
    return ctx.add(HardSigmoid(ctx.value(x), 1 / 6, 0.5))


@imports("aten.gelu.default")
def gelu(ctx: ImportContext, x: Operand, *, approximate: str = "none") -> Value:
    return ctx.add(Gelu(ctx.value(x), approximate == "tanh"))


@imports("aten.elu.default")
def elu(
    ctx: ImportContext, x: Operand, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Value:
    """scale * (x, or alpha * (exp(x * input_scale) - 1) below 0)."""
    at = ctx.value(x)
    if input_scale == 1:
        return ctx.add(Elu(at, float(alpha), float(scale)))
    # elu(x) = scale / input_scale * elu'(x * input_scale) with alpha' = alpha * input_scale
    wide = ctx.add(Mul(at, ctx.value(input_scale)))
    y = Elu(wide, float(alpha) * float(input_scale), float(scale) / float(input_scale))
    return ctx.add(y)


@imports("aten.selu.default")
def selu(ctx: ImportContext, x: Operand) -> Value:
    return ctx.add(Elu(ctx.value(x), *SELU))


@imports("aten.celu.default")
def celu(ctx: ImportContext, x: Operand, alpha: Number = 1.0) -> Value:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)) = elu with input_scale 1 / alpha."""
    return elu(ctx, x, alpha, 1, 1 / float(alpha))


@imports("aten.softplus.default")
def softplus(ctx: ImportContext, x: Operand, beta: Number = 1, threshold: Number = 20) -> Value:
    """log(1 + exp(beta * x)) / beta; torch's threshold guards against float overflow alone."""
    at = ctx.value(x)
    if beta == 1:
        return ctx.add(Softplus(at))
    y = ctx.add(Softplus(ctx.add(Mul(at, ctx.value(beta)))))
    return ctx.add(Div(y, ctx.value(beta)))


@imports("aten.mish.default")
def mish(ctx: ImportContext, x: Operand) -> Value:
    """x * tanh(softplus(x))."""
    at = ctx.value(x)
    return ctx.add(Mul(at, ctx.add(Tanh(ctx.add(Softplus(at))))))


@imports("aten.log_sigmoid.default")
def log_sigmoid(ctx: ImportContext, x: Operand) -> Value:
    """-softplus(-x)."""
    return ctx.add(Neg(ctx.add(Softplus(ctx.add(Neg(ctx.value(x)))))))


@imports("aten.log1p.default")
def log1p(ctx: ImportContext, x: Operand) -> Value:
    return ctx.add(Log(ctx.add(Add(ctx.value(x), ctx.value(1.0)))))


@imports("aten.expm1.default")
def expm1(ctx: ImportContext, x: Operand) -> Value:
    return ctx.add(Sub(ctx.add(Exp(ctx.value(x))), ctx.value(1.0)))


@imports("aten.softmax.int", "aten._softmax.default")
def softmax(ctx: ImportContext, x: Operand, dim: int, dtype: object = None) -> Value:
    """softmax over `dim`; between transposes unless it is the last."""
    at = ctx.value(x)
    return on_last_axis(ctx, at, axis_of(dim, at.type.rank), lambda v: ctx.add(Softmax(v)))


@imports("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(ctx: ImportContext, x: Operand, dim: int, dtype: object = None) -> Value:
    """d - log(sum(exp(d))), d = x - max(x): finite where the logarithm of a softmax is not."""
    at = ctx.value(x)
    axes = (axis_of(dim, at.type.rank),)
    d = ctx.add(Sub(at, ctx.add(ReduceMax(at, axes, True))))
    return ctx.add(Sub(d, log_sum_exp(ctx, d, axes)))


@imports("aten.logsumexp.default")
def logsumexp(
    ctx: ImportContext, x: Operand, dim: int | Sequence[int], keepdim: bool = False
) -> Value:
    """max(x) + log(sum(exp(x - max(x))))."""
    at = ctx.value(x)
    dims = [dim] if isinstance(dim, int) else dim
    axes = tuple(sorted(axis_of(d, at.type.rank) for d in dims))
    top = ctx.add(ReduceMax(at, axes, True))
    y = ctx.add(Add(top, log_sum_exp(ctx, ctx.add(Sub(at, top)), axes)))
    shape = at.type.shape
    return y if keepdim else ctx.reshape(y, *(s for i, s in enumerate(shape) if i not in axes))


def log_sum_exp(ctx: ImportContext, d: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(d))), the axes kept."""
    return ctx.add(Log(ctx.add(ReduceSum(ctx.add(Exp(d)), axes, True))))
