"""Outputs of sums whose channels are of unlike range: a scale for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Concat, Sub
from qir.ir.ops.shape import Move
from qir.ir.ops.unary import Clamp
from qir.ir.types import U8, Array, Quant
from qir.passes.calibrate.ranges import Ranges
from qir.passes.infra.manager import Miss
from qir.passes.integer.rules import Kind
from qir.passes.quantize.joins import MOST_SCALES
from qir.passes.quantize.placement import QuantizationPlan
from qir.passes.transform.channel_ranges import channel_reach

UNLIKE_CHANNELS = 16.0  # the widest over the narrowest: one scale would leave that one 4 bits
GAP = 2.0  # between two kinds of values; the logits of many classes differ as much, evenly
FEW = 64  # channels of which one at either end is an exception, no kind
DEAD = 2.0**-16  # of the widest channel: what reaches less is taken for 0
HALF = 128  # the zero point of channels with values of both signs: kernels add one for all


def channel_quants(
    plan: QuantizationPlan, ranges: Ranges, sample: tuple[Array, ...], misses: list[Miss]
) -> Mapping[str, Quant]:
    """The quantizations, along the last axis, of sums that outputs alone read, see _is_carried; the
    misses name the outputs of unlike channels that something else reads too.

        scale = max|channel| / 127, zero point 128; without negative values / 255 and 0
    """
    outputs = {v.name for v in plan.graph.outputs}
    groups = [names for group in map(sorted, plan.members()) if (names := _sums(plan, group))]
    is_carried = {
        names[0]: all(_is_carried(plan, plan.pairs[n]) for n in names) for names in groups
    }
    groups = [names for names in groups if is_carried[names[0]] or outputs.intersection(names)]
    if not groups or not sample:
        return {}
    reach = channel_reach(plan.graph, sample, {name for names in groups for name in names})
    quants: dict[str, Quant] = {}
    for names in groups:
        if any(name not in reach for name in names):
            continue  # of no element
        widest = np.max([reach[name].of_all for name in names], axis=0)
        live = np.sort(widest[widest > DEAD * widest.max()])
        if not are_unlike(live):
            continue
        if is_carried[names[0]]:
            observation = ranges.seen_of(names)
            wide = widest * max(1.0, max(-observation.low, observation.high) / widest.max())
            ranks = {name: plan.pairs[name].type.rank for name in names}
            quants |= {
                n: quant_of_channels(wide, observation.low < 0, r - 1) for n, r in ranks.items()
            }
            continue
        reason = f"its channels reach {live[0]:.3g} to {live[-1]:.3g} and share a scale"
        misses.append(Miss(reason, next(name for name in names if name in outputs)))
    return quants


def _sums(plan: QuantizationPlan, group: list[str]) -> list[str]:
    """The stored values of a group, if all are sums with a channel axis, else none; the others of
    it are moves of these.
    """
    names = [name for name in group if name in plan.pairs]
    makers = [plan.graph.producers.get(name) for name in group]
    rest = [op for op, name in zip(makers, group, strict=True) if name not in plan.pairs]
    if not all(isinstance(op, Concat) or (isinstance(op, Move) and op.keeps_slices) for op in rest):
        return []
    sums = [op for op, name in zip(makers, group, strict=True) if name in plan.pairs]
    is_sum = all(op is not None and _is_sum(plan, op) for op in sums)
    if not is_sum or len({plan.pairs[name].type.shape[-1:] for name in names}) != 1:
        return []
    return names if plan.pairs[names[0]].type.rank else []


def _is_sum(plan: QuantizationPlan, op: Op) -> bool:
    """Whether the result is a sum, at most with its negative values cut off."""
    kind = plan.answers[op.names[0]].kind
    if isinstance(op, Clamp):
        maker = plan.graph.producers.get(op.x.name)
        is_cut = op.limits == (0.0, inf) and kind is Kind.CLAMPED
        return is_cut and maker is not None and plan.answers[maker.names[0]].kind is Kind.SUM
    return kind is Kind.SUM


def _is_carried(plan: QuantizationPlan, value: Value, axis: int | None = None) -> bool:
    """Whether outputs alone read the value, behind moves that keep the axis, and sums, which take
    terms of any scales.
    """
    axis = value.type.rank - 1 if axis is None else axis
    readers = plan.graph.users.get(value.name, ())
    for op in readers:
        place: int | None = axis
        if isinstance(op, Concat):
            is_split = op.names[0] in plan.split_concats
            place = axis if (op.axis == axis) == is_split else None
        elif isinstance(op, Move) and op.keeps_slices:
            place = op.place_of(axis)
        elif not isinstance(op, (Add, Sub)) or op.shape != value.type.shape:
            return False
        if place is None or op.results[0].type.shape[place] > MOST_SCALES:
            return False
        if not _is_carried(plan, op.results[0], place):
            return False
    return bool(readers) or any(v.name == value.name for v in plan.graph.outputs)


def are_unlike(reach: Array) -> bool:
    """Whether channels, sorted by what they reach, are of several kinds: stored integers of one
    kind, as the logits of classes are, can be compared while they share a scale.
    """
    if len(reach) < 2 or reach[-1] <= UNLIKE_CHANNELS * reach[0]:
        return False
    few = len(reach) // FEW
    kinds = reach[few : len(reach) - few]
    return bool((kinds[1:] / kinds[:-1]).max(initial=0) > GAP)


def quant_of_channels(reach: Array, is_signed: bool, axis: int) -> Quant:
    """u8 along the axis, of one zero point."""
    zero, steps = (HALF, U8.max - HALF) if is_signed else (0, U8.max)
    scales = np.maximum(reach, DEAD * reach.max()) / steps
    return Quant.per_axis(U8, scales.astype(np.float32).astype(np.float64), zero, axis)
