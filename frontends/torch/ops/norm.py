"""Normalizations in inference mode."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from qir.frontends.torch.context import ImportContext, MissingResult, Operand
from qir.frontends.torch.ops.layout import on_last_axis
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, BatchNorm, LayerNorm, Mul, ReduceMean, Rsqrt

STATISTICS = MissingResult(
    "the statistics of a normalization are read", "its result alone is needed"
)


@imports("aten.batch_norm.default")
def batch_norm(
    ctx: ImportContext, x: Operand, weight: Operand | None, bias: Operand | None,
    mean: Operand | None, variance: Operand | None, training: bool, momentum: float, eps: float,
    *flags: bool,
) -> Value:  # fmt: skip
    """batch_norm by its running statistics -> batch_norm, between transposes, the channels last."""
    if training or mean is None or variance is None:
        raise Unsupported(
            "batch_norm by the batch's statistics (training mode, or track_running_stats=False)",
            "running statistics are needed",
        )
    at = ctx.value(x)
    channels = at.type.shape[1] if at.type.rank > 1 else 0
    gain = ctx.value(torch.ones(channels) if weight is None else weight)
    offset = ctx.value(torch.zeros(channels) if bias is None else bias)
    m, v = ctx.value(mean), ctx.value(variance)
    return on_last_axis(ctx, at, 1, lambda x: ctx.add(BatchNorm(x, gain, offset, m, v, float(eps))))


@imports("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(
    ctx: ImportContext, x: Operand, weight: Operand | None, bias: Operand | None, mean: Operand,
    variance: Operand, momentum: float, eps: float,
) -> tuple[Operand, Operand, Operand]:  # fmt: skip
    y = batch_norm(ctx, x, weight, bias, mean, variance, False, momentum, eps)
    return y, STATISTICS, STATISTICS


@imports("aten._native_batch_norm_legit.default", "aten.native_batch_norm.default",
         "aten._native_batch_norm_legit_functional.default")  # fmt: skip
def native_batch_norm_mode(
    ctx: ImportContext, x: Operand, weight: Operand | None, bias: Operand | None,
    mean: Operand | None, variance: Operand | None, training: bool, momentum: float, eps: float,
) -> tuple[Operand, ...]:  # fmt: skip
    y = batch_norm(ctx, x, weight, bias, mean, variance, training, momentum, eps)
    return y, STATISTICS, STATISTICS, STATISTICS, STATISTICS


@imports("aten._native_batch_norm_legit.no_stats")
def native_batch_norm_no_stats(
    ctx: ImportContext,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Operand, Operand, Operand]:
    y = batch_norm(ctx, x, weight, bias, None, None, training, momentum, eps)
    return y, STATISTICS, STATISTICS


@imports("aten.layer_norm.default")
def layer_norm(
    ctx: ImportContext, x: Operand, normalized_shape: Sequence[int], weight: Operand | None = None,
    bias: Operand | None = None, eps: float = 1e-5, *flags: bool,
) -> Value:  # fmt: skip
    """layer_norm over the last axes -> layer_norm over one, into which they are merged."""
    at = ctx.value(x)
    shape, width = at.type.shape, prod(normalized_shape)
    rows = ctx.reshape(at, *shape[: len(shape) - len(normalized_shape)], width)
    gain, offset = (flat(ctx, parameter) for parameter in (weight, bias))
    return ctx.reshape(ctx.add(LayerNorm(rows, gain, offset, float(eps))), *shape)


@imports("aten.native_layer_norm.default")
def native_layer_norm(
    ctx: ImportContext,
    x: Operand,
    normalized_shape: Sequence[int],
    weight: Operand | None,
    bias: Operand | None,
    eps: float,
) -> tuple[Operand, Operand, Operand]:
    return layer_norm(ctx, x, normalized_shape, weight, bias, eps), STATISTICS, STATISTICS


@imports("aten.group_norm.default")
def group_norm(
    ctx: ImportContext, x: Operand, groups: int, weight: Operand | None = None,
    bias: Operand | None = None, eps: float = 1e-5, *flags: bool,
) -> Value:  # fmt: skip
    """layer_norm of each group's elements as one row, then gain and offset of each channel."""
    at = ctx.value(x)
    shape = at.type.shape
    if len(shape) < 2 or shape[1] % groups:
        raise Unsupported(
            f"group_norm of {list(shape)} by {groups}", "a divisor of the channels is needed"
        )
    rows = ctx.reshape(at, shape[0], groups, prod(shape[1:]) // groups)
    y = ctx.reshape(ctx.add(LayerNorm(rows, None, None, float(eps))), *shape)
    ones = (1,) * (len(shape) - 2)
    if weight is not None:
        y = ctx.add(Mul(y, reshaped(ctx, weight, -1, *ones)))
    if bias is not None:
        y = ctx.add(Add(y, reshaped(ctx, bias, -1, *ones)))
    return y


@imports("aten.native_group_norm.default")
def native_group_norm(
    ctx: ImportContext,
    x: Operand,
    weight: Operand | None,
    bias: Operand | None,
    n: int,
    c: int,
    hw: int,
    groups: int,
    eps: float,
) -> tuple[Operand, Operand, Operand]:
    return group_norm(ctx, x, groups, weight, bias, eps), STATISTICS, STATISTICS


@imports("aten.instance_norm.default")
def instance_norm(
    ctx: ImportContext, x: Operand, weight: Operand | None, bias: Operand | None,
    mean: Operand | None, variance: Operand | None, use_input_stats: bool, momentum: float,
    eps: float, *flags: bool,
) -> Value:  # fmt: skip
    """A group_norm with a group for each channel; by running statistics a batch_norm."""
    if not use_input_stats:
        return batch_norm(ctx, x, weight, bias, mean, variance, False, momentum, eps)
    at = ctx.value(x)
    return group_norm(ctx, at, at.type.shape[1] if at.type.rank > 1 else 1, weight, bias, eps)


@imports("aten.rms_norm.default")
def rms_norm(
    ctx: ImportContext,
    x: Operand,
    normalized_shape: Sequence[int],
    weight: Operand | None = None,
    eps: float | None = None,
) -> Value:
    """x * rsqrt(mean(x * x) + eps) * gain, over the last axes."""
    at = ctx.value(x)
    axes = tuple(range(at.type.rank - len(normalized_shape), at.type.rank))
    mean = ctx.add(ReduceMean(ctx.add(Mul(at, at)), axes, True))
    small = torch.finfo(torch.float32).eps if eps is None else float(eps)
    y = ctx.add(Mul(at, ctx.add(Rsqrt(ctx.add(Add(mean, ctx.value(small)))))))
    return y if weight is None else ctx.add(Mul(y, ctx.value(weight)))


def flat(ctx: ImportContext, parameter: Operand | None) -> Value | None:
    """A gain or offset as one row."""
    if parameter is None or (isinstance(parameter, torch.Tensor) and parameter.dim() == 1):
        return ctx.optional(parameter)
    return reshaped(ctx, parameter, -1)


def reshaped(ctx: ImportContext, parameter: Operand, *shape: int) -> Value:
    """A constant gain or offset in another shape."""
    tensor = ctx.constant(parameter, "the gain or offset")
    return ctx.value(ctx.derived(tensor.reshape(shape), tensor))
