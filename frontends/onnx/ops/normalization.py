"""Normalizations: one op where qir has it, otherwise primitive ops."""

from __future__ import annotations

from math import prod

from qir.frontends.onnx.context import MAX_TAPS, ImportContext
from qir.frontends.onnx.operands import Operand, shape_of
from qir.frontends.onnx.ops.layout import from_last, to_last
from qir.ir import ops
from qir.ir.op import Value

LEAST = 1e-38  # the smallest normal float32, about: what divides a zero vector


def batch_norm(ctx: ImportContext) -> Value:
    """BatchNormalization at inference: x (N, C, ...), scale, B, mean, var (C,)."""
    if ctx.opset >= 14 and ctx.integer("training_mode", 0):
        ctx.refuse("training_mode = 1", "0 is needed", "export the model for inference")
    if ctx.opset < 9 and not ctx.integer("spatial", 1):
        ctx.refuse("spatial = 0", "1 is needed")
    x = ctx.real(0)
    gain, offset, mean, variance = (ctx.real(i) for i in range(1, 5))
    epsilon = ctx.number("epsilon", 1e-5)
    if x.type.rank <= 2:
        return ctx.result(ops.BatchNorm(x, gain, offset, mean, variance, epsilon))
    nhwc = ctx.emit(ops.Transpose(x, to_last(x.type.rank)), "nhwc")
    y = ctx.emit(ops.BatchNorm(nhwc, gain, offset, mean, variance, epsilon), "norm")
    return ctx.result(ops.Transpose(y, from_last(x.type.rank)))


def centred(ctx: ImportContext, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """(x - mean(x), mean(x)) over `axes`."""
    mean = ctx.emit(ops.ReduceMean(x, axes, True), "mean")
    return ctx.emit(ops.Sub(x, mean), "centred"), mean


def inverse_deviation(ctx: ImportContext, d: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """1 / sqrt(mean(d**2) + epsilon) over `axes`."""
    variance = ctx.emit(ops.ReduceMean(ctx.emit(ops.Mul(d, d)), axes, True), "variance")
    shifted = ctx.emit(ops.Add(variance, ctx.constant(epsilon, "epsilon")))
    return ctx.emit(ops.Rsqrt(shifted))


def scaled(ctx: ImportContext, y: Value, gain: Operand | None, offset: Operand | None) -> Value:
    """y * gain + offset, broadcast."""
    if gain is not None:
        y = ctx.emit(ops.Mul(y, ctx.valued_real(gain)))
    return y if offset is None else ctx.emit(ops.Add(y, ctx.valued_real(offset)))


def instance_norm(ctx: ImportContext) -> Value:
    """InstanceNormalization: each channel of each image by its own mean and variance."""
    x = ctx.real(0)
    rank, c = x.type.rank, x.type.shape[1]
    axes = tuple(range(2, rank))
    d, _ = centred(ctx, x, axes)
    y = ctx.emit(ops.Mul(d, inverse_deviation(ctx, d, axes, ctx.number("epsilon", 1e-5))))
    wide = (c, *[1] * (rank - 2))
    return scaled(ctx, y, *(ctx.reshaped(ctx.operand(i), wide) for i in (1, 2)))


def group_norm(ctx: ImportContext) -> Value:
    """GroupNormalization: each group of channels by its own mean and variance.

    scale and bias are one for each group before opset 21, then one for each channel.
    """
    x, groups = ctx.real(0), ctx.integer("num_groups")
    n, c, *rest = x.type.shape
    if groups < 1 or c % groups:
        ctx.refuse(f"{c} channels, num_groups {groups}", "a divisor is needed")
    grouped = ctx.emit(ops.Reshape(x, (n, groups, c // groups, *rest)))
    axes = tuple(range(2, grouped.type.rank))
    d, _ = centred(ctx, grouped, axes)
    y = ctx.emit(ops.Mul(d, inverse_deviation(ctx, d, axes, ctx.number("epsilon", 1e-5))))
    if shape_of(ctx.operand(1)) == (groups,) and ctx.opset < 21:
        wide = (groups, 1, *[1] * len(rest))
    else:
        wide = (groups, c // groups, *[1] * len(rest))
    y = scaled(ctx, y, *(ctx.reshaped(ctx.operand(i), wide) for i in (1, 2)))
    return ctx.result(ops.Reshape(y, x.type.shape))


def layer_norm(ctx: ImportContext) -> tuple[Value, ...]:
    """LayerNormalization over the axes from `axis` on; mean, inverse deviation when asked for."""
    x, epsilon = ctx.real(0), ctx.number("epsilon", 1e-5)
    rank = x.type.rank
    axis = ctx.axis(ctx.integer("axis", -1), rank)
    inner, width = x.type.shape[axis:], prod(x.type.shape[axis:])
    gain, offset = (_spread(ctx, i, inner, width) for i in (1, 2))
    flat = x if axis == rank - 1 else ctx.emit(ops.Reshape(x, (*x.type.shape[:axis], width)))
    norm = ops.LayerNorm(flat, gain, offset, epsilon)
    y = ctx.result(norm) if flat is x else ctx.result(ops.Reshape(ctx.emit(norm), x.type.shape))
    if not any(ctx.outputs[1:]):
        return (y,)
    axes = tuple(range(axis, rank))
    d, mean = centred(ctx, x, axes)
    return y, mean, inverse_deviation(ctx, d, axes, epsilon)


def _spread(ctx: ImportContext, index: int, inner: tuple[int, ...], width: int) -> Value | None:
    """A gain or offset as (width,): one number for each normalized element."""
    if not ctx.has(index):
        return None
    operand = ctx.operand(index)
    if prod(shape_of(operand)) == width:
        return ctx.valued_real(ctx.reshaped(operand, (width,)))
    wide = ctx.emit(ops.Expand(ctx.real(index), inner))
    return ctx.emit(ops.Reshape(wide, (width,)))


def rms_norm(ctx: ImportContext) -> Value:
    """RMSNormalization: x / sqrt(mean(x**2) + epsilon) * scale, over the axes from `axis` on."""
    x = ctx.real(0)
    axes = tuple(range(ctx.axis(ctx.integer("axis", -1), x.type.rank), x.type.rank))
    y = ops.Mul(x, inverse_deviation(ctx, x, axes, ctx.number("epsilon", 1e-5)))
    return ctx.result(ops.Mul(ctx.emit(y), ctx.real(1)))


def mean_variance_norm(ctx: ImportContext) -> Value:
    """MeanVarianceNormalization: (x - mean) / (sqrt(mean((x - mean)**2)) + 1e-9)."""
    x = ctx.real(0)
    axes = ctx.axes(ctx.integers("axes") or (0, 2, 3), x.type.rank)
    d, _ = centred(ctx, x, axes)
    deviation = ctx.emit(ops.Sqrt(ctx.emit(ops.ReduceMean(ctx.emit(ops.Mul(d, d)), axes, True))))
    return ctx.result(ops.Div(d, ctx.emit(ops.Add(deviation, ctx.constant(1e-9, "epsilon")))))


def lrn(ctx: ImportContext) -> Value:
    """LRN: x / (bias + alpha / size * sum over `size` channels around of x**2)**beta.

    The sum is an average pooling of x**2 seen as an image of C rows.
    """
    x, size = ctx.real(0), ctx.integer("size")
    if x.type.rank < 3 or size < 1:
        ctx.refuse(f"x is {list(x.type.shape)}, size {size}", "rank 3, size 1 at least are needed")
    if size > MAX_TAPS:
        ctx.refuse(f"size {size}", f"at most {MAX_TAPS} is needed")
    n, c, *rest = x.type.shape
    rows = ctx.emit(ops.Reshape(ctx.emit(ops.Mul(x, x)), (n, c, prod(rest), 1)))
    sides = ((size - 1) // 2, 0, size // 2, 0)
    mean = ctx.emit(ops.AvgPool(rows, (size, 1), (1, 1), sides, (1, 1), True))
    back = ctx.emit(ops.Reshape(mean, x.type.shape))
    scaled_ = ctx.emit(ops.Mul(back, ctx.constant(ctx.number("alpha", 1e-4), "alpha")))
    base = ctx.emit(ops.Add(scaled_, ctx.constant(ctx.number("bias", 1.0), "bias")))
    power = ctx.emit(ops.Pow(base, ctx.constant(ctx.number("beta", 0.75), "beta")))
    return ctx.result(ops.Div(x, power))


def lp_norm(ctx: ImportContext) -> Value:
    """LpNormalization: x / (sum of |x|**p)**(1/p) along `axis`, p 1 or 2; 0 where that is 0 / 0."""
    x, p = ctx.real(0), ctx.integer("p", 2)
    if p not in (1, 2):
        ctx.refuse(f"p = {p}", "1 or 2 is needed")
    axis = (ctx.axis(ctx.integer("axis", -1), x.type.rank),)
    terms = ctx.emit(ops.Mul(x, x) if p == 2 else ops.Abs(x))
    total = ctx.emit(ops.ReduceSum(terms, axis, True))
    norm = total if p == 1 else ctx.emit(ops.Sqrt(total))
    return ctx.result(ops.Div(x, ctx.emit(ops.Maximum(norm, ctx.constant(LEAST, "least")))))
