"""Quantized programs with their own scales: PT2E's pairs, QAT's fake quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qir.frontends.torch.context import Held, Number, Site, Stored
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.fixed import Rounding
from qir.ir.op import Value
from qir.ir.ops import Clip, Dequantize, Quantize
from qir.ir.types import STORAGES, Int, Quant

DECOMPOSED = "quantized_decomposed"
Scalar = Number | Held


@imports(f"{DECOMPOSED}.quantize_per_tensor.default", f"{DECOMPOSED}.quantize_per_tensor.tensor",
         f"{DECOMPOSED}.quantize_per_tensor.tensor2")  # fmt: skip
def quantize_per_tensor(
    site: Site,
    x: Held,
    scale: Scalar,
    zero_point: Scalar,
    quant_min: Scalar,
    quant_max: Scalar,
    dtype: Any,
) -> Value:
    """quantize_per_tensor -> quantize, ties to even.

    torch multiplies by 1 / scale where qir divides: they may differ where x / scale lies within
    float32's rounding of a tie. A range narrower than its storage (-127 to 127) is a clip before.
    """
    low, high = whole(site, quant_min), whole(site, quant_max)
    storage = storage_of(low, high)
    to = Quant.per_tensor(storage, real(site, scale), whole(site, zero_point))
    at = site.value(x)
    if (low, high) != (storage.min, storage.max):
        step, zero = float(to.scale.item()), int(to.zero_point.item())
        at = site.add(Clip(at, (low - zero) * step, (high - zero) * step))
    return site.add(Quantize(at, to, Rounding.HALF_EVEN))


@imports(f"{DECOMPOSED}.quantize_per_channel.default")
def quantize_per_channel(
    site: Site,
    x: Held,
    scales: Held,
    zero_points: Held,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
) -> Value:
    to = per_channel(site, scales, zero_points, axis, quant_min, quant_max)
    if (quant_min, quant_max) != (to.storage.min, to.storage.max):
        raise Unsupported(
            f"activations in {quant_min} to {quant_max} per channel",
            f"all of {to.storage}, or one scale, is needed",
        )
    return site.add(Quantize(site.value(x), to, Rounding.HALF_EVEN))


@imports(
    f"{DECOMPOSED}.dequantize_per_tensor.default",
    f"{DECOMPOSED}.dequantize_per_tensor.tensor",
    f"{DECOMPOSED}.dequantize_per_tensor.tensor2",
    folds=False,
)
def dequantize_per_tensor(
    site: Site,
    x: Held,
    scale: Scalar,
    zero_point: Scalar,
    quant_min: Scalar,
    quant_max: Scalar,
    dtype: Any,
    **out_dtype: Any,
) -> Held:
    storage = storage_of(whole(site, quant_min), whole(site, quant_max))
    return dequantized(
        site, x, Quant.per_tensor(storage, real(site, scale), whole(site, zero_point))
    )


@imports(f"{DECOMPOSED}.dequantize_per_channel.default", folds=False)
def dequantize_per_channel(
    site: Site,
    x: Held,
    scales: Held,
    zero_points: Held | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    **out_dtype: Any,
) -> Held:
    return dequantized(site, x, per_channel(site, scales, zero_points, axis, quant_min, quant_max))


@imports("aten.fake_quantize_per_tensor_affine.default",
         "aten.fake_quantize_per_tensor_affine.tensor_qparams", folds=False)  # fmt: skip
def fake_quantize(
    site: Site, x: Held, scale: Scalar, zero_point: Scalar, quant_min: int, quant_max: int
) -> Held:
    """fake_quantize -> quantize, dequantize; on weights their integers."""
    to = Quant.per_tensor(
        storage_of(quant_min, quant_max), real(site, scale), whole(site, zero_point)
    )
    if isinstance(x, torch.Tensor):
        return Stored(rounded(x, to, quant_min, quant_max), to, site.label(x))
    y = quantize_per_tensor(site, x, scale, zero_point, quant_min, quant_max, None)
    return site.add(Dequantize(y))


@imports("aten.fake_quantize_per_channel_affine.default", folds=False)
def fake_quantize_per_channel(
    site: Site, x: Held, scales: Held, zero_points: Held, axis: int, quant_min: int, quant_max: int
) -> Held:
    to = per_channel(site, scales, zero_points, axis, quant_min, quant_max)
    if isinstance(x, torch.Tensor):
        return Stored(rounded(x, to, quant_min, quant_max), to, site.label(x))
    y = quantize_per_channel(site, x, scales, zero_points, axis, quant_min, quant_max, None)
    return site.add(Dequantize(y))


def dequantized(site: Site, x: Held, quant: Quant) -> Held:
    """Constant integers with what they stand for; a value is dequantized by its own type."""
    if isinstance(x, torch.Tensor):
        return Stored(x, quant, site.label(x))
    at = site.value(x)
    if at.type.elem != quant:
        raise Unsupported(
            f"{quant} of a tensor of {at.type.elem}", "the type it was quantized to is needed"
        )
    return site.add(Dequantize(at))


def rounded(x: torch.Tensor, to: Quant, low: int, high: int) -> torch.Tensor:
    """clamp(round(x / scale) + zero_point, low, high): the integers of constant weights."""
    scale, zero = to.spread(tuple(x.shape))
    reals = x.detach().cpu().float().numpy() * (np.float32(1) / scale.astype(np.float32))
    return torch.from_numpy(np.clip(np.rint(reals) + zero, low, high).astype(np.int64))


def storage_of(low: int, high: int) -> Int:
    """The narrowest integer that holds low to high."""
    for kept in STORAGES:
        if kept.is_signed == (low < 0) and kept.min <= low and high <= kept.max:
            return kept
    raise Unsupported(
        f"stored integers {low} to {high}", f"one of {', '.join(map(str, STORAGES))} is needed"
    )


def per_channel(
    site: Site, scales: Held, zeros: Held | None, axis: int, low: int, high: int
) -> Quant:
    each = site.constant(scales, "the scales").detach().cpu().double().numpy().reshape(-1)
    zero = (
        0
        if zeros is None
        else site.constant(zeros, "the zero points").detach().cpu().numpy().reshape(-1)
    )
    check_scales(each)
    return Quant.per_axis(storage_of(low, high), each, zero, axis)


def real(site: Site, scale: Scalar) -> float:
    number = float(site.constant(scale, "the scale").item())
    check_scales(np.array(number))
    return number


def whole(site: Site, number: Scalar) -> int:
    return int(site.constant(number, "the zero point or range").item())


def check_scales(scales: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    if scales.size == 0 or not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise Unsupported(
            f"scales {np.array2string(scales, threshold=4)}", "finite scales over 0 are needed"
        )
