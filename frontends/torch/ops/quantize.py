"""Quantized programs with their own scales: PT2E's pairs, QAT's fake quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from qir.frontends.torch.context import ImportContext, Number, Operand, QuantizedConstant
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.fixed import Rounding
from qir.ir.op import Value
from qir.ir.ops import Clip, Dequantize, Quantize
from qir.ir.types import STORAGES, Int, Quant

DECOMPOSED = "quantized_decomposed"
Scalar = Number | Operand


@imports(f"{DECOMPOSED}.quantize_per_tensor.default", f"{DECOMPOSED}.quantize_per_tensor.tensor",
         f"{DECOMPOSED}.quantize_per_tensor.tensor2")  # fmt: skip
def quantize_per_tensor(
    ctx: ImportContext,
    x: Operand,
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
    low, high = constant_integer(ctx, quant_min), constant_integer(ctx, quant_max)
    storage = storage_of(low, high)
    to = Quant.per_tensor(storage, real(ctx, scale), constant_integer(ctx, zero_point))
    at = ctx.value(x)
    if (low, high) != (storage.min, storage.max):
        step, zero = float(to.scale.item()), int(to.zero_point.item())
        at = ctx.add(Clip(at, (low - zero) * step, (high - zero) * step))
    return ctx.add(Quantize(at, to, Rounding.HALF_EVEN))


@imports(f"{DECOMPOSED}.quantize_per_channel.default")
def quantize_per_channel(
    ctx: ImportContext,
    x: Operand,
    scales: Operand,
    zero_points: Operand,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
) -> Value:
    to = per_channel(ctx, scales, zero_points, axis, quant_min, quant_max)
    if (quant_min, quant_max) != (to.storage.min, to.storage.max):
        raise Unsupported(
            f"activations in {quant_min} to {quant_max} per channel",
            f"all of {to.storage}, or one scale, is needed",
        )
    return ctx.add(Quantize(ctx.value(x), to, Rounding.HALF_EVEN))


@imports(
    f"{DECOMPOSED}.dequantize_per_tensor.default",
    f"{DECOMPOSED}.dequantize_per_tensor.tensor",
    f"{DECOMPOSED}.dequantize_per_tensor.tensor2",
    folds=False,
)
def dequantize_per_tensor(
    ctx: ImportContext,
    x: Operand,
    scale: Scalar,
    zero_point: Scalar,
    quant_min: Scalar,
    quant_max: Scalar,
    dtype: Any,
    **out_dtype: Any,
) -> Operand:
    storage = storage_of(constant_integer(ctx, quant_min), constant_integer(ctx, quant_max))
    return dequantized(
        ctx, x, Quant.per_tensor(storage, real(ctx, scale), constant_integer(ctx, zero_point))
    )


@imports(f"{DECOMPOSED}.dequantize_per_channel.default", folds=False)
def dequantize_per_channel(
    ctx: ImportContext,
    x: Operand,
    scales: Operand,
    zero_points: Operand | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: Any,
    **out_dtype: Any,
) -> Operand:
    return dequantized(ctx, x, per_channel(ctx, scales, zero_points, axis, quant_min, quant_max))


@imports("aten.fake_quantize_per_tensor_affine.default",
         "aten.fake_quantize_per_tensor_affine.tensor_qparams", folds=False)  # fmt: skip
def fake_quantize(
    ctx: ImportContext,
    x: Operand,
    scale: Scalar,
    zero_point: Scalar,
    quant_min: int,
    quant_max: int,
) -> Operand:
    """fake_quantize -> quantize, dequantize; on weights their integers."""
    to = Quant.per_tensor(
        storage_of(quant_min, quant_max), real(ctx, scale), constant_integer(ctx, zero_point)
    )
    if isinstance(x, torch.Tensor):
        return QuantizedConstant(rounded(x, to, quant_min, quant_max), to, ctx.label(x))
    y = quantize_per_tensor(ctx, x, scale, zero_point, quant_min, quant_max, None)
    return ctx.add(Dequantize(y))


@imports("aten.fake_quantize_per_channel_affine.default", folds=False)
def fake_quantize_per_channel(
    ctx: ImportContext,
    x: Operand,
    scales: Operand,
    zero_points: Operand,
    axis: int,
    quant_min: int,
    quant_max: int,
) -> Operand:
    to = per_channel(ctx, scales, zero_points, axis, quant_min, quant_max)
    if isinstance(x, torch.Tensor):
        return QuantizedConstant(rounded(x, to, quant_min, quant_max), to, ctx.label(x))
    y = quantize_per_channel(ctx, x, scales, zero_points, axis, quant_min, quant_max, None)
    return ctx.add(Dequantize(y))


def dequantized(ctx: ImportContext, x: Operand, quant: Quant) -> Operand:
    """Constant integers with what they stand for; a value is dequantized by its own type."""
    if isinstance(x, torch.Tensor):
        return QuantizedConstant(x, quant, ctx.label(x))
    at = ctx.value(x)
    if at.type.elem != quant:
        raise Unsupported(
            f"{quant} of a tensor of {at.type.elem}", "the type it was quantized to is needed"
        )
    return ctx.add(Dequantize(at))


def rounded(x: torch.Tensor, to: Quant, low: int, high: int) -> torch.Tensor:
    """clamp(round(x / scale) + zero_point, low, high): the integers of constant weights."""
    scale, zero = to.spread(tuple(x.shape))
    reals = x.detach().cpu().float().numpy() * (np.float32(1) / scale.astype(np.float32))
    return torch.from_numpy(np.clip(np.rint(reals) + zero, low, high).astype(np.int64))


def storage_of(low: int, high: int) -> Int:
    """The narrowest integer that holds low to high."""
    for storage in STORAGES:
        if storage.is_signed == (low < 0) and storage.min <= low and high <= storage.max:
            return storage
    raise Unsupported(
        f"stored integers {low} to {high}", f"one of {', '.join(map(str, STORAGES))} is needed"
    )


def per_channel(
    ctx: ImportContext, scales: Operand, zeros: Operand | None, axis: int, low: int, high: int
) -> Quant:
    each = ctx.constant(scales, "the scales").detach().cpu().double().numpy().reshape(-1)
    zero = (
        0
        if zeros is None
        else ctx.constant(zeros, "the zero points").detach().cpu().numpy().reshape(-1)
    )
    check_scales(each)
    return Quant.per_axis(storage_of(low, high), each, zero, axis)


def real(ctx: ImportContext, scale: Scalar) -> float:
    number = float(ctx.constant(scale, "the scale").item())
    check_scales(np.array(number))
    return number


def constant_integer(ctx: ImportContext, number: Scalar) -> int:
    return int(ctx.constant(number, "the zero point or range").item())


def check_scales(scales: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    if scales.size == 0 or not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise Unsupported(
            f"scales {np.array2string(scales, threshold=4)}", "finite scales over 0 are needed"
        )
