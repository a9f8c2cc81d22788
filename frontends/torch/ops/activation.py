"""Activations: functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qir.frontends.torch.context import Held, Number, Site, axis_of
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
    def rule(site: Site, x: Held) -> Value:
        return site.add(PLAIN[name](site.value(x)))


for _name in PLAIN:
    plain(_name)


@imports("aten.relu6.default")
def relu6(site: Site, x: Held) -> Value:
    return site.add(Clip(site.value(x), 0.0, 6.0))


@imports("aten.hardtanh.default")
def hardtanh(site: Site, x: Held, min_val: Number = -1, max_val: Number = 1) -> Value:
    return site.add(Clip(site.value(x), float(min_val), float(max_val)))


@imports("aten.clamp.default", "aten.clip.default")
def clamp(site: Site, x: Held, min: Number | None = None, max: Number | None = None) -> Value:
    """clamp -> clip; an absent end is infinite. clamp(min=0) -> relu."""
    if min == 0 and max is None:
        return site.add(Relu(site.value(x)))
    low, high = (e if v is None else float(v) for v, e in zip((min, max), INFINITE, strict=True))
    return site.add(Clip(site.value(x), low, high))


@imports("aten.clamp_min.default")
def clamp_min(site: Site, x: Held, min: Number) -> Value:
    return clamp(site, x, min, None)


@imports("aten.clamp_max.default")
def clamp_max(site: Site, x: Held, max: Number) -> Value:
    return clamp(site, x, None, max)


@imports("aten.threshold.default")
def threshold(site: Site, x: Held, at: Number, value: Number) -> Value:
    """x where x > at, else value: relu for (0, 0), maximum for at = value."""
    if at != value:
        raise Unsupported(f"threshold {at} with value {value}", "one number for both is needed")
    return site.add(Maximum(site.value(x), site.value(value))) if at else clamp(site, x, 0)


@imports("aten.leaky_relu.default")
def leaky_relu(site: Site, x: Held, negative_slope: Number = 0.01) -> Value:
    return site.add(LeakyRelu(site.value(x), float(negative_slope)))


@imports("aten.rrelu_with_noise.default", "aten.rrelu.default")
def rrelu(
    site: Site,
    x: Held,
    *rest: object,
    lower: Number = 0.125,
    upper: Number = 1 / 3,
    training: bool = False,
) -> Value:
    """In inference a leaky relu of slope (lower + upper) / 2."""
    numbers = [r for r in rest if isinstance(r, (int, float)) and not isinstance(r, bool)]
    low, high = numbers[:2] if len(numbers) >= 2 else (lower, upper)
    return leaky_relu(site, x, (low + high) / 2)


@imports("aten.prelu.default", "aten._prelu_kernel.default")
def prelu(site: Site, x: Held, weight: Held) -> Value:
    """prelu with one slope, or one for each channel: then between transposes, the channels last."""
    at, slope = site.value(x), site.constant(weight, "the slope of a prelu")
    slope = site.derived(slope.reshape(() if slope.numel() == 1 else -1), slope)
    if not slope.shape:
        return site.add(PRelu(at, site.value(slope)))
    axis = 1 if at.type.rank > 1 else 0
    return on_last_axis(site, at, axis, lambda v: site.add(PRelu(v, site.value(slope))))


@imports("aten.hardsigmoid.default")
def hardsigmoid(site: Site, x: Held) -> Value:
    return site.add(HardSigmoid(site.value(x), 1 / 6, 0.5))


@imports("aten.gelu.default")
def gelu(site: Site, x: Held, *, approximate: str = "none") -> Value:
    return site.add(Gelu(site.value(x), approximate == "tanh"))


@imports("aten.elu.default")
def elu(
    site: Site, x: Held, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Value:
    """scale * (x, or alpha * (exp(x * input_scale) - 1) below 0)."""
    at = site.value(x)
    if input_scale == 1:
        return site.add(Elu(at, float(alpha), float(scale)))
    # elu(x) = scale / input_scale * elu'(x * input_scale) with alpha' = alpha * input_scale
    wide = site.add(Mul(at, site.value(input_scale)))
    y = Elu(wide, float(alpha) * float(input_scale), float(scale) / float(input_scale))
    return site.add(y)


@imports("aten.selu.default")
def selu(site: Site, x: Held) -> Value:
    return site.add(Elu(site.value(x), *SELU))


@imports("aten.celu.default")
def celu(site: Site, x: Held, alpha: Number = 1.0) -> Value:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)) = elu with input_scale 1 / alpha."""
    return elu(site, x, alpha, 1, 1 / float(alpha))


@imports("aten.softplus.default")
def softplus(site: Site, x: Held, beta: Number = 1, threshold: Number = 20) -> Value:
    """log(1 + exp(beta * x)) / beta; torch's threshold guards against float overflow alone."""
    at = site.value(x)
    if beta == 1:
        return site.add(Softplus(at))
    y = site.add(Softplus(site.add(Mul(at, site.value(beta)))))
    return site.add(Div(y, site.value(beta)))


@imports("aten.mish.default")
def mish(site: Site, x: Held) -> Value:
    """x * tanh(softplus(x))."""
    at = site.value(x)
    return site.add(Mul(at, site.add(Tanh(site.add(Softplus(at))))))


@imports("aten.log_sigmoid.default")
def log_sigmoid(site: Site, x: Held) -> Value:
    """-softplus(-x)."""
    return site.add(Neg(site.add(Softplus(site.add(Neg(site.value(x)))))))


@imports("aten.log1p.default")
def log1p(site: Site, x: Held) -> Value:
    return site.add(Log(site.add(Add(site.value(x), site.value(1.0)))))


@imports("aten.expm1.default")
def expm1(site: Site, x: Held) -> Value:
    return site.add(Sub(site.add(Exp(site.value(x))), site.value(1.0)))


@imports("aten.softmax.int", "aten._softmax.default")
def softmax(site: Site, x: Held, dim: int, dtype: object = None) -> Value:
    """softmax over `dim`; between transposes unless it is the last."""
    at = site.value(x)
    return on_last_axis(site, at, axis_of(dim, at.type.rank), lambda v: site.add(Softmax(v)))


@imports("aten.log_softmax.int", "aten._log_softmax.default")
def log_softmax(site: Site, x: Held, dim: int, dtype: object = None) -> Value:
    """d - log(sum(exp(d))), d = x - max(x): finite where the logarithm of a softmax is not."""
    at = site.value(x)
    axes = (axis_of(dim, at.type.rank),)
    d = site.add(Sub(at, site.add(ReduceMax(at, axes, True))))
    return site.add(Sub(d, log_sum_exp(site, d, axes)))


@imports("aten.logsumexp.default")
def logsumexp(site: Site, x: Held, dim: int | Sequence[int], keepdim: bool = False) -> Value:
    """max(x) + log(sum(exp(x - max(x))))."""
    at = site.value(x)
    dims = [dim] if isinstance(dim, int) else dim
    axes = tuple(sorted(axis_of(d, at.type.rank) for d in dims))
    top = site.add(ReduceMax(at, axes, True))
    y = site.add(Add(top, log_sum_exp(site, site.add(Sub(at, top)), axes)))
    shape = at.type.shape
    return y if keepdim else site.reshape(y, *(s for i, s in enumerate(shape) if i not in axes))


def log_sum_exp(site: Site, d: Value, axes: tuple[int, ...]) -> Value:
    """log(sum(exp(d))), the axes kept."""
    return site.add(Log(site.add(ReduceSum(site.add(Exp(d)), axes, True))))
