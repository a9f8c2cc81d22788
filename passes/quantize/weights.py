"""Weights as stored integers: symmetric, one scale for each output channel or one for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qir.ir.errors import PassError
from qir.ir.ops import Constant
from qir.ir.types import STORAGES, U8, Array, Int, Quant

SHRINKS = np.linspace(1.0, 0.3, 36)  # parts of the full range tried for clipped weights
GRID = 1 << 16  # steps of the finest grid that is looked for
OFF_GRID = 0.01  # of a step: how far float rounding may take a weight from its grid
LARGEST_MULT = 255  # of a group
MOST_EXPONENTS = 7  # binary orders between the greatest group of a channel and the least
LARGEST_SUM = 1 << 30  # of products, which leaves room for the bias
LARGEST_BIAS = 1 << 29  # bias / (sx * sw) stays below, which leaves room for the sum
SMALLEST_SCALE = 2.0**-24  # of the tensor's largest scale: nothing smaller can matter


def storage_of(bits: int, is_signed: bool) -> Int:
    """The storage of `bits` bits: 2**bits levels and no more."""
    if not 2 <= bits <= 8:
        raise PassError(f"quantize: {bits} bits, 2 to 8 are supported")
    return next(s for s in STORAGES if (s.bits, s.is_signed) == (bits, is_signed))


@dataclass(frozen=True)
class IntegerWeights:
    """Weights as they are stored: small integers, and where groups have scales of their own, an
    integer for each group of `block` input channels (see the op scale_groups).
    """

    weights: Constant
    mult: Constant | None = None
    block: int = 0

    @property
    def reals(self) -> Array:
        """The reals of the weights, float64."""
        quant = self.weights.elem
        assert isinstance(quant, Quant)
        stored = self.weights.value.array.astype(np.float64)
        if self.mult is not None:
            stored = stored * spread(self.mult.value.array, self.block, stored.shape[-1])
        return np.asarray(stored * quant.spread(stored.shape)[0])


def quantize_weights(
    w: Array,
    bits: int,
    per_channel: bool,
    clip: bool,
    bias: Array | None,
    x_scale: float,
    group: int = 0,
    x_reach: int = 255,
    floating: bool = False,
) -> IntegerWeights:
    """w (O, ..., I) as a constant of q<iN>: stored = clamp(half_even(w / scale), -top - 1, top)

    top = 2**(bits-1) - 1. The scale of a channel is the one with less squared error of
    max|w| / top, the full range's max(max(w) / top, -min(w) / (top + 1)), and the step of weights
    that lie on a grid already (a model trained with rounded ones); with `clip` also of shrunken
    ones: less error of weights, though mostly more of the network
    (docs/explanation/weight_rounding.md). A channel that is almost zero gets a scale that keeps its
    bias within i32. With a `group` smaller than I each group of so many input channels has such a
    scale, rounded to mult * the scale of its channel, mult in [1, 255] and so small that sums of
    inputs up to x_reach fit i32. With `floating` groups are block floating point, as `Bfp` defines
    it: their scales are powers of two, and so is each mult, 128 at most.
    Source: symmetric per channel as in HAWQ-V3, arXiv:2011.10680; groups as in VS-Quant,
    arXiv:2102.04503; the choice of scales: this project.
    """
    wide = np.asarray(w, np.float64)
    rows = wide.reshape(len(w), -1) if per_channel else wide.reshape(1, -1)
    top = (1 << (bits - 1)) - 1
    floor = smallest_scales(rows, np.abs(rows).max(1), top, bias, x_scale)
    storage = storage_of(bits, is_signed=True)
    if floating:
        return block_floating(wide, storage, min(group, w.shape[-1]), floor, x_reach)
    if 0 < group < w.shape[-1]:
        return _by_group(wide, storage, group, clip, floor, x_reach)
    best = best_scales(rows, top, floor, clip)
    stored = stored_weights(rows, best, top).reshape(np.shape(w))
    if per_channel:
        return IntegerWeights(Constant.of(stored, Quant.per_axis(storage, best, 0, axis=0)))
    return IntegerWeights(Constant.of(stored, Quant.per_tensor(storage, float(best[0]), 0)))


def _by_group(
    w: Array, storage: Int, group: int, clip: bool, floor: Array, x_reach: int
) -> IntegerWeights:
    """Scales for each group, as integers times one scale for each channel."""
    top, count = storage.max, -(-w.shape[-1] // group)
    padded = np.zeros((*w.shape[:-1], count * group))
    padded[..., : w.shape[-1]] = w
    rows = padded.reshape(-1, group)
    widest = np.maximum(np.abs(w).reshape(len(w), -1).max(1) / top, floor)
    tiny = np.repeat(widest / (2 * LARGEST_MULT), len(rows) // len(w))
    group_scales = best_scales(rows, top, tiny, clip).reshape(len(w), -1)
    most = np.full(len(w), float(LARGEST_MULT))
    while True:
        scale = np.maximum(group_scales.max(1) / most, floor).astype(np.float32).astype(np.float64)
        mult = np.clip(np.rint(group_scales / scale[:, None]), 1, most[:, None])
        each = (mult * scale[:, None]).reshape(-1)
        stored = stored_weights(rows, each, top).reshape(len(w), -1, group)
        sums = (np.abs(stored).sum(2) * mult).sum(1) * x_reach
        if (sums < LARGEST_SUM).all():
            break
        most = np.where(sums < LARGEST_SUM, most, np.maximum(most // 2, 1))
    cut = stored.reshape(padded.shape)[..., : w.shape[-1]]
    weights = Constant.of(cut, Quant.per_axis(storage, scale, 0, axis=0))
    groups = Constant.of(mult.astype(np.uint8).reshape(*w.shape[:-1], count))
    return IntegerWeights(weights, groups, group)


def block_floating(
    w: Array, storage: Int, group: int, floor: Array, x_reach: int
) -> IntegerWeights:
    """Groups that share an exponent: u = 2**(floor(log2(max|w|)) - bits + 2), stored =
    clip(round_half_up(w / u)); the exponents of a channel differ by at most MOST_EXPONENTS.
    """
    count = -(-w.shape[-1] // group)
    padded = np.zeros((*w.shape[:-1], count * group))
    padded[..., : w.shape[-1]] = w
    rows = padded.reshape(len(w), -1, group)
    least = np.ceil(np.log2(floor)).astype(np.int64)
    exponent = np.frexp(np.abs(rows).max(2))[1].astype(np.int64) - storage.bits + 1
    exponent = np.where(rows.any(2), exponent, least[:, None])
    is_whole = rows.shape[1] == 1
    most = np.full(len(w), 0 if is_whole else MOST_EXPONENTS)
    while True:
        channel = np.maximum(exponent.max(1) - most, least)
        shift = np.clip(exponent - channel[:, None], 0, most[:, None])
        unit = np.exp2(channel[:, None] + shift)[..., None]
        stored = np.clip(np.floor(rows / unit + 0.5), storage.min, storage.max)
        sums = (np.abs(stored).sum(2) * (1 << shift)).sum(1) * x_reach
        if (sums < LARGEST_SUM).all():
            break
        most = np.where(sums < LARGEST_SUM, most, np.maximum(most - 1, 0))
    cut = stored.reshape(padded.shape)[..., : w.shape[-1]]
    weights = Constant.of(cut, Quant.per_axis(storage, np.exp2(channel), 0, axis=0))
    if is_whole:
        return IntegerWeights(weights)
    groups = Constant.of((1 << shift).astype(np.uint8).reshape(*w.shape[:-1], count))
    return IntegerWeights(weights, groups, group)


def requantized_weights(
    w: Constant, bias: Array | None, x_scale: float, x_reach: int
) -> IntegerWeights | None:
    """Weights of the model's own quantization as integers that layers take; None where they are.

    Blocks along the input channels keep their stored integers, less their zero points; their
    scales become mult * the scale of the output channel, as in quantize_weights. Other scales than
    one for each output channel, and integers beyond 8 bits, are quantized again, in 8 bits.
    """
    quant = w.elem
    assert isinstance(quant, Quant)
    if quant.axis in (None, 0) and quant.block is None and quant.storage.bits <= 8:
        return None
    stored, (scale, zero) = w.value.array, quant.spread(w.value.shape)
    centred = stored.astype(np.int64) - zero
    fits = [s for s in STORAGES if s.is_signed and s.bits <= 8]
    fits = [s for s in fits if s.min <= centred.min() and centred.max() <= s.max]
    if quant.block is None or quant.axis != stored.ndim - 1 or not fits:
        return quantize_weights(centred * scale, 8, True, False, bias, x_scale)
    storage = min(fits, key=lambda s: s.bits)
    rows = (centred * scale).reshape(len(stored), -1)
    channel, mult = _by_channel(
        quant.scale.array.reshape(len(stored), -1),
        np.abs(centred).reshape(len(stored), -1, quant.block).sum(-1),
        smallest_scales(rows, np.abs(rows).max(1), 127, bias, x_scale),
        x_reach,
    )
    elem = Quant.per_axis(storage, channel, 0, axis=0)
    groups = Constant.of(mult.reshape(quant.scale.array.shape), U8)
    return IntegerWeights(Constant.of(centred, elem), groups, quant.block)


def _by_channel(scales: Array, sizes: Array, floor: Array, x_reach: int) -> tuple[Array, Array]:
    """(scale of each channel, mult of each group) nearest to the scales of groups (O, groups)."""
    most = np.full(len(scales), float(LARGEST_MULT))
    while True:
        channel = np.maximum(scales.max(1) / most, floor).astype(np.float32).astype(np.float64)
        mult = np.clip(np.rint(scales / channel[:, None]), 1, most[:, None])
        too_large = (sizes * mult).sum(1) * x_reach >= LARGEST_SUM
        if not too_large.any():
            return channel, mult.astype(np.uint8)
        most = np.where(too_large, np.maximum(most // 2, 1), most)


def best_scales(rows: Array, top: int, floor: Array, clip: bool) -> Array:
    """The scale of each row with the least squared error, of those that quantize_weights tries."""
    reach = np.abs(rows).max(1)
    full = np.maximum(rows.max(1) / top, -rows.min(1) / (top + 1))
    best, least = np.ones(len(rows)), np.full(len(rows), np.inf)
    for base in (reach / top, full, np.full(len(rows), grid_step(rows))):
        for shrink in SHRINKS if clip else SHRINKS[:1]:
            scale = np.maximum(base * shrink, floor).astype(np.float32).astype(np.float64)
            error = ((rows - stored_weights(rows, scale, top) * scale[:, None]) ** 2).sum(1)
            is_better = error < least
            best, least = np.where(is_better, scale, best), np.where(is_better, error, least)
    return best


def spread(mult: Array, block: int, channels: int) -> Array:
    """(..., groups) -> (..., channels): the number of the group of each channel."""
    return np.repeat(mult, block, axis=-1)[..., :channels]


def grid_step(rows: Array) -> float:
    """The step of which all weights are multiples, 0 when they are on no grid of 16 bits."""
    values = np.unique(rows)
    gaps = np.diff(values)
    gaps = gaps[gaps > (values[-1] - values[0]) / GRID]
    if not gaps.size or values.size > GRID:
        return 0.0
    largest = float(np.abs(values).max())
    step = largest / max(1.0, float(np.rint(largest / gaps.min())))
    multiples = values / step
    return step if np.abs(multiples - np.rint(multiples)).max() < OFF_GRID else 0.0


def stored_weights(rows: Array, scale: Array, top: int) -> Array:
    """clamp(half_even(rows / scale)) in float64; rows (O, K), scale (O,)."""
    return np.clip(np.rint(rows / scale[:, None]), -top - 1, top)


def smallest_scales(
    rows: Array, reach: Array, top: int, bias: Array | None, x_scale: float
) -> Array:
    """The least scale of each row that keeps bias / (x_scale * scale) below LARGEST_BIAS; rows of
    zeros have it, so that their bias is held in fine steps.
    """
    widest = float(reach.max()) / top or 1.0
    floor = np.full(len(rows), widest * SMALLEST_SCALE)
    if bias is not None:
        size = np.abs(bias) if len(rows) == len(bias) else np.abs(bias).max()
        floor = np.maximum(floor, size / (x_scale * LARGEST_BIAS))
    return floor
