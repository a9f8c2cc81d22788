"""Normalizations, in inference."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from qir.frontends.torch.context import Held, Missing, Site
from qir.frontends.torch.ops.layout import on_last_axis
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.op import Value
from qir.ir.ops import Add, BatchNorm, LayerNorm, Mul, ReduceMean, Rsqrt

STATISTICS = Missing("the statistics of a normalization are read", "its result alone is needed")


@imports("aten.batch_norm.default")
def batch_norm(
    site: Site, x: Held, weight: Held | None, bias: Held | None, mean: Held | None,
    variance: Held | None, training: bool, momentum: float, eps: float, *flags: bool,
) -> Value:  # fmt: skip
    """batch_norm by its running statistics -> batch_norm, between transposes, the channels last."""
    if training or mean is None or variance is None:
        raise Unsupported(
            "batch_norm by the batch's statistics (training mode, or track_running_stats=False)",
            "running statistics are needed",
        )
    at = site.value(x)
    channels = at.type.shape[1] if at.type.rank > 1 else 0
    gain = site.value(torch.ones(channels) if weight is None else weight)
    offset = site.value(torch.zeros(channels) if bias is None else bias)
    m, v = site.value(mean), site.value(variance)
    return on_last_axis(
        site, at, 1, lambda x: site.add(BatchNorm(x, gain, offset, m, v, float(eps)))
    )


@imports("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(
    site: Site, x: Held, weight: Held | None, bias: Held | None, mean: Held, variance: Held,
    momentum: float, eps: float,
) -> tuple[Held, Held, Held]:  # fmt: skip
    y = batch_norm(site, x, weight, bias, mean, variance, False, momentum, eps)
    return y, STATISTICS, STATISTICS


@imports("aten._native_batch_norm_legit.default", "aten.native_batch_norm.default",
         "aten._native_batch_norm_legit_functional.default")  # fmt: skip
def native_batch_norm_mode(
    site: Site, x: Held, weight: Held | None, bias: Held | None, mean: Held | None,
    variance: Held | None, training: bool, momentum: float, eps: float,
) -> tuple[Held, ...]:  # fmt: skip
    y = batch_norm(site, x, weight, bias, mean, variance, training, momentum, eps)
    return y, STATISTICS, STATISTICS, STATISTICS, STATISTICS


@imports("aten._native_batch_norm_legit.no_stats")
def native_batch_norm_no_stats(
    site: Site,
    x: Held,
    weight: Held | None,
    bias: Held | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Held, Held, Held]:
    y = batch_norm(site, x, weight, bias, None, None, training, momentum, eps)
    return y, STATISTICS, STATISTICS


@imports("aten.layer_norm.default")
def layer_norm(
    site: Site, x: Held, normalized_shape: Sequence[int], weight: Held | None = None,
    bias: Held | None = None, eps: float = 1e-5, *flags: bool,
) -> Value:  # fmt: skip
    """layer_norm over the last axes -> layer_norm over one, into which they are merged."""
    at = site.value(x)
    shape, merged = at.type.shape, prod(normalized_shape)
    rows = site.reshape(at, *shape[: len(shape) - len(normalized_shape)], merged)
    gain, offset = (flat(site, held) for held in (weight, bias))
    return site.reshape(site.add(LayerNorm(rows, gain, offset, float(eps))), *shape)


@imports("aten.native_layer_norm.default")
def native_layer_norm(
    site: Site,
    x: Held,
    normalized_shape: Sequence[int],
    weight: Held | None,
    bias: Held | None,
    eps: float,
) -> tuple[Held, Held, Held]:
    return layer_norm(site, x, normalized_shape, weight, bias, eps), STATISTICS, STATISTICS


@imports("aten.group_norm.default")
def group_norm(
    site: Site, x: Held, groups: int, weight: Held | None = None, bias: Held | None = None,
    eps: float = 1e-5, *flags: bool,
) -> Value:  # fmt: skip
    """layer_norm of each group's elements as one row, then gain and offset of each channel."""
    at = site.value(x)
    shape = at.type.shape
    if len(shape) < 2 or shape[1] % groups:
        raise Unsupported(
            f"group_norm of {list(shape)} by {groups}", "a divisor of the channels is needed"
        )
    rows = site.reshape(at, shape[0], groups, prod(shape[1:]) // groups)
    y = site.reshape(site.add(LayerNorm(rows, None, None, float(eps))), *shape)
    ones = (1,) * (len(shape) - 2)
    if weight is not None:
        y = site.add(Mul(y, reshaped(site, weight, -1, *ones)))
    if bias is not None:
        y = site.add(Add(y, reshaped(site, bias, -1, *ones)))
    return y


@imports("aten.native_group_norm.default")
def native_group_norm(
    site: Site,
    x: Held,
    weight: Held | None,
    bias: Held | None,
    n: int,
    c: int,
    hw: int,
    groups: int,
    eps: float,
) -> tuple[Held, Held, Held]:
    return group_norm(site, x, groups, weight, bias, eps), STATISTICS, STATISTICS


@imports("aten.instance_norm.default")
def instance_norm(
    site: Site, x: Held, weight: Held | None, bias: Held | None, mean: Held | None,
    variance: Held | None, use_input_stats: bool, momentum: float, eps: float, *flags: bool,
) -> Value:  # fmt: skip
    """A group_norm with a group for each channel; by running statistics a batch_norm."""
    if not use_input_stats:
        return batch_norm(site, x, weight, bias, mean, variance, False, momentum, eps)
    at = site.value(x)
    return group_norm(site, at, at.type.shape[1] if at.type.rank > 1 else 1, weight, bias, eps)


@imports("aten.rms_norm.default")
def rms_norm(
    site: Site,
    x: Held,
    normalized_shape: Sequence[int],
    weight: Held | None = None,
    eps: float | None = None,
) -> Value:
    """x * rsqrt(mean(x * x) + eps) * gain, over the last axes."""
    at = site.value(x)
    axes = tuple(range(at.type.rank - len(normalized_shape), at.type.rank))
    mean = site.add(ReduceMean(site.add(Mul(at, at)), axes, True))
    small = torch.finfo(torch.float32).eps if eps is None else float(eps)
    y = site.add(Mul(at, site.add(Rsqrt(site.add(Add(mean, site.value(small)))))))
    return y if weight is None else site.add(Mul(y, site.value(weight)))


def flat(site: Site, held: Held | None) -> Value | None:
    """A gain or offset as one row."""
    if held is None or (isinstance(held, torch.Tensor) and held.dim() == 1):
        return site.optional(held)
    return reshaped(site, held, -1)


def reshaped(site: Site, held: Held, *shape: int) -> Value:
    """A constant gain or offset in another shape."""
    tensor = site.constant(held, "the gain or offset")
    return site.value(site.derived(tensor.reshape(shape), tensor))
