"""Normalizations, as one op where qir has it, else written out."""

from __future__ import annotations

from math import prod

from qir.frontends.onnx.context import Site
from qir.frontends.onnx.operands import Operand, shape_of
from qir.frontends.onnx.ops.layout import from_last, to_last
from qir.ir import ops
from qir.ir.op import Value

LEAST = 1e-38  # the smallest normal float32, about: what divides a zero vector


def batch_norm(at: Site) -> Value:
    """BatchNormalization at inference: x (N, C, ...), scale, B, mean, var (C,)."""
    if at.opset >= 14 and at.integer("training_mode", 0):
        at.refuse("training_mode = 1", "0 is needed", "export the model for inference")
    if at.opset < 9 and not at.integer("spatial", 1):
        at.refuse("spatial = 0", "1 is needed")
    x = at.real(0)
    gain, offset, mean, variance = (at.real(i) for i in range(1, 5))
    epsilon = at.number("epsilon", 1e-5)
    if x.type.rank <= 2:
        return at.result(ops.BatchNorm(x, gain, offset, mean, variance, epsilon))
    turned = at.emit(ops.Transpose(x, to_last(x.type.rank)), "nhwc")
    y = at.emit(ops.BatchNorm(turned, gain, offset, mean, variance, epsilon), "norm")
    return at.result(ops.Transpose(y, from_last(x.type.rank)))


def centred(at: Site, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """(x - mean(x), mean(x)) over `axes`."""
    mean = at.emit(ops.ReduceMean(x, axes, True), "mean")
    return at.emit(ops.Sub(x, mean), "centred"), mean


def inverse_deviation(at: Site, d: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    """1 / sqrt(mean(d**2) + epsilon) over `axes`."""
    variance = at.emit(ops.ReduceMean(at.emit(ops.Mul(d, d)), axes, True), "variance")
    shifted = at.emit(ops.Add(variance, at.constant(epsilon, "epsilon")))
    return at.emit(ops.Rsqrt(shifted))


def scaled(at: Site, y: Value, gain: Operand | None, offset: Operand | None) -> Value:
    """y * gain + offset, broadcast."""
    if gain is not None:
        y = at.emit(ops.Mul(y, at.valued_real(gain)))
    return y if offset is None else at.emit(ops.Add(y, at.valued_real(offset)))


def instance_norm(at: Site) -> Value:
    """InstanceNormalization: each channel of each image by its own mean and variance."""
    x = at.real(0)
    rank, c = x.type.rank, x.type.shape[1]
    axes = tuple(range(2, rank))
    d, _ = centred(at, x, axes)
    y = at.emit(ops.Mul(d, inverse_deviation(at, d, axes, at.number("epsilon", 1e-5))))
    wide = (c, *[1] * (rank - 2))
    return scaled(at, y, *(at.reshaped(at.operand(i), wide) for i in (1, 2)))


def group_norm(at: Site) -> Value:
    """GroupNormalization: each group of channels by its own mean and variance.

    scale and bias are one for each group before opset 21, then one for each channel.
    """
    x, groups = at.real(0), at.integer("num_groups")
    n, c, *rest = x.type.shape
    if groups < 1 or c % groups:
        at.refuse(f"{c} channels, num_groups {groups}", "a divisor is needed")
    apart = at.emit(ops.Reshape(x, (n, groups, c // groups, *rest)))
    axes = tuple(range(2, apart.type.rank))
    d, _ = centred(at, apart, axes)
    y = at.emit(ops.Mul(d, inverse_deviation(at, d, axes, at.number("epsilon", 1e-5))))
    if shape_of(at.operand(1)) == (groups,) and at.opset < 21:
        wide = (groups, 1, *[1] * len(rest))
    else:
        wide = (groups, c // groups, *[1] * len(rest))
    y = scaled(at, y, *(at.reshaped(at.operand(i), wide) for i in (1, 2)))
    return at.result(ops.Reshape(y, x.type.shape))


def layer_norm(at: Site) -> tuple[Value, ...]:
    """LayerNormalization over the axes from `axis` on; mean, inverse deviation when asked for."""
    x, epsilon = at.real(0), at.number("epsilon", 1e-5)
    rank = x.type.rank
    axis = at.axis(at.integer("axis", -1), rank)
    inner, width = x.type.shape[axis:], prod(x.type.shape[axis:])
    gain, offset = (_spread(at, i, inner, width) for i in (1, 2))
    flat = x if axis == rank - 1 else at.emit(ops.Reshape(x, (*x.type.shape[:axis], width)))
    norm = ops.LayerNorm(flat, gain, offset, epsilon)
    y = at.result(norm) if flat is x else at.result(ops.Reshape(at.emit(norm), x.type.shape))
    if not any(at.outputs[1:]):
        return (y,)
    axes = tuple(range(axis, rank))
    d, mean = centred(at, x, axes)
    return y, mean, inverse_deviation(at, d, axes, epsilon)


def _spread(at: Site, index: int, inner: tuple[int, ...], width: int) -> Value | None:
    """A gain or offset as (width,): one number for each normalized element."""
    if not at.has(index):
        return None
    found = at.operand(index)
    if prod(shape_of(found)) == width:
        return at.valued_real(at.reshaped(found, (width,)))
    wide = at.emit(ops.Expand(at.real(index), inner))
    return at.emit(ops.Reshape(wide, (width,)))


def rms_norm(at: Site) -> Value:
    """RMSNormalization: x / sqrt(mean(x**2) + epsilon) * scale, over the axes from `axis` on."""
    x = at.real(0)
    axes = tuple(range(at.axis(at.integer("axis", -1), x.type.rank), x.type.rank))
    y = ops.Mul(x, inverse_deviation(at, x, axes, at.number("epsilon", 1e-5)))
    return at.result(ops.Mul(at.emit(y), at.real(1)))


def mean_variance_norm(at: Site) -> Value:
    """MeanVarianceNormalization: (x - mean) / (sqrt(mean((x - mean)**2)) + 1e-9)."""
    x = at.real(0)
    axes = at.axes(at.integers("axes") or (0, 2, 3), x.type.rank)
    d, _ = centred(at, x, axes)
    deviation = at.emit(ops.Sqrt(at.emit(ops.ReduceMean(at.emit(ops.Mul(d, d)), axes, True))))
    return at.result(ops.Div(d, at.emit(ops.Add(deviation, at.constant(1e-9, "epsilon")))))


def lrn(at: Site) -> Value:
    """LRN: x / (bias + alpha / size * sum over `size` channels around of x**2)**beta.

    The sum is an average pooling of x**2 seen as an image of C rows.
    """
    x, size = at.real(0), at.integer("size")
    if x.type.rank < 3 or size < 1:
        at.refuse(f"x is {list(x.type.shape)}, size {size}", "rank 3, size 1 at least are needed")
    n, c, *rest = x.type.shape
    rows = at.emit(ops.Reshape(at.emit(ops.Mul(x, x)), (n, c, prod(rest), 1)))
    sides = ((size - 1) // 2, 0, size // 2, 0)
    mean = at.emit(ops.AvgPool(rows, (size, 1), (1, 1), sides, (1, 1), True))
    back = at.emit(ops.Reshape(mean, x.type.shape))
    scaled_ = at.emit(ops.Mul(back, at.constant(at.number("alpha", 1e-4), "alpha")))
    base = at.emit(ops.Add(scaled_, at.constant(at.number("bias", 1.0), "bias")))
    power = at.emit(ops.Pow(base, at.constant(at.number("beta", 0.75), "beta")))
    return at.result(ops.Div(x, power))


def lp_norm(at: Site) -> Value:
    """LpNormalization: x / (sum of |x|**p)**(1/p) along `axis`, p 1 or 2; 0 where that is 0 / 0."""
    x, p = at.real(0), at.integer("p", 2)
    if p not in (1, 2):
        at.refuse(f"p = {p}", "1 or 2 is needed")
    axis = (at.axis(at.integer("axis", -1), x.type.rank),)
    terms = at.emit(ops.Mul(x, x) if p == 2 else ops.Abs(x))
    total = at.emit(ops.ReduceSum(terms, axis, True))
    norm = total if p == 1 else at.emit(ops.Sqrt(total))
    return at.result(ops.Div(x, at.emit(ops.Maximum(norm, at.constant(LEAST, "least")))))
