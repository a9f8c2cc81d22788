"""Biases moved so that the mean of each channel is that of the float graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant
from qir.ir.ops.kinds import Layer
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of, run_chunk
from qir.passes.infra.layers import layers_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.infra.rebatch import rebatch
from qir.passes.quantize.stored_weights import (
    StoredWeights,
    ratio_of,
    stored_weights,
    with_weights,
)

# The whole sample runs at once, this many calibration chunks at most: corrections on a part of what
# rounding saw make it worse again (docs/weight_rounding.md). 208 images of mobilenetv2 take
# 3.3 GiB.
CHUNKS = 16


@dataclass(frozen=True)
class Channels:
    """Mean and standard deviation of each channel, (C,) float64."""

    mean: Array
    std: Array


@dataclass(frozen=True)
class Correction:
    """(C,) each: y * times + shift; `scale` is that of the stored weights then, if it moves."""

    times: Array
    shift: Array
    scale: Array | None = None


@register
@dataclass(frozen=True)
class CorrectBias(Pass):
    """conv(x, w, b) of a simulated graph -> conv(x, w, b + mean(float conv) - mean(this conv))

    Means over the sample and all but the last axis, layer by layer: each one sees the layers before
    it corrected. Rounded weights shift a channel by error * mean(x); this takes the shift away.
    Changes: the mean of each accumulator becomes that of the float graph, on the sample.
    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2, the empirical way.
    """

    name: ClassVar[str] = "correct-bias"
    claim: ClassVar[Claim] = changes("the mean of each accumulator becomes that of the float graph")
    moves_scales: ClassVar[bool] = False

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        own = rows_of(graph.inputs[0])
        size = min(len(self.sample[0]), CHUNKS * chunk_of(graph)) // own * own
        sample = cut(graph, self.sample, 0, size)
        larger = rebatch(graph, size // own)
        if isinstance(larger, Miss):
            record.misses.append(larger)
            return graph
        wanted = channels_of(self.reference, sample)
        scaled = scalable(graph, self.reference) if self.moves_scales else {}
        found = corrections(larger, sample, wanted, scaled)
        record.rewrites = len(found)
        scales = {
            key: array
            for name, w in scaled.items()
            if name in found and (scale := found[name].scale) is not None
            for key, array in ((w.constant, w.stored), (f"{w.constant}.scale", scale))
        }
        return rebiased(with_weights(graph, scales, self.name), found, self.name)


@register
@dataclass(frozen=True)
class CorrectChannels(CorrectBias):
    """conv(x, q * s, b) of a simulated graph -> conv(x, q * (s * t), b'): mean and deviation of
    each channel become those of the float graph's.

    t = std(float conv) / std(this conv), within [1 / MOST, MOST]; layer by layer as correct-bias.
    Rounding of few bits takes from what a channel tells apart, more with every layer; with means
    alone corrected a deep network ends up saying the same of all inputs (docs/weight_rounding.md).
    Changes: scales of weights and biases; the integers stay.
    Source: this project; as batch norms re-estimated after rounding do, Sun et al. 2019,
            arXiv:1912.09356, without a batch norm.
    """

    name: ClassVar[str] = "correct-channels"
    claim: ClassVar[Claim] = changes("mean and deviation of accumulators become the float graph's")
    moves_scales: ClassVar[bool] = True


def channels_of(graph: Graph, sample: tuple[Array, ...]) -> Mapping[str, Channels]:
    """Of the result of each contraction, by name."""
    wanted = {op.names[0] for op in graph.ops if isinstance(op, Layer)}
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in wanted:
            rows = x.reshape(-1, x.shape[-1]).double()
            total = torch.stack([rows.sum(0), (rows**2).sum(0)]).numpy()
            sums[value.name] = sums.get(value.name, 0.0) + total
            counts[value.name] = counts.get(value.name, 0) + len(rows)

    size = chunk_of(graph)
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, cut(graph, sample, i, i + size), watch)
    found = {}
    for name, total in sums.items():
        mean, square = total / counts[name]
        found[name] = Channels(mean, np.sqrt(np.maximum(square - mean**2, 0.0)))
    return found


def scalable(graph: Graph, reference: Graph) -> Mapping[str, StoredWeights]:
    """The layers whose channels have scales of their own, by name."""
    known = (stored_weights(graph, reference, op) for op in layers_of(graph))
    return {w.layer: w for w in known if isinstance(w, StoredWeights) and w.has_channel_scales}


def corrections(
    graph: Graph,
    sample: tuple[Array, ...],
    wanted: Mapping[str, Channels],
    scaled: Mapping[str, StoredWeights],
) -> Mapping[str, Correction]:
    """What each contraction needs, with all before it corrected."""
    free = {
        op.names[0] for op in graph.ops if isinstance(op, Layer) and own_bias(graph, op)
    }
    found: dict[str, Correction] = {}

    def correct(value: Value, y: Any) -> None:
        if value.name in free and (want := wanted.get(value.name)) is not None:
            rows = y.reshape(-1, y.shape[-1]).double()
            mean, std = rows.mean(0).numpy(), rows.std(0, correction=0).numpy()
            one = _correction(Channels(mean, std), want, scaled.get(value.name))
            found[value.name] = one
            y *= torch.from_numpy(one.times.astype(np.float32))  # in place: what follows sees it
            y += torch.from_numpy(one.shift.astype(np.float32))

    with torch.no_grad():
        FloatProgram(graph)(*sample, watch=correct)
    return found


def _correction(has: Channels, want: Channels, weights: StoredWeights | None) -> Correction:
    if weights is None:
        return Correction(np.ones_like(has.mean), want.mean - has.mean)
    scale = weights.scaled(ratio_of(has.std, want.std))
    times = scale / weights.scale
    return Correction(times, want.mean - times * has.mean, scale)


def own_bias(graph: Graph, op: Layer) -> bool:
    """Whether the bias may be changed: none yet, or a float constant (not a model's integers)."""
    return op.bias is None or isinstance(graph.producers.get(op.bias.name), Constant)


def rebiased(graph: Graph, found: Mapping[str, Correction], by: str) -> Graph:
    """The graph with b * times + shift for the bias b of each layer in `found`, 0 where it has
    none.
    """

    def corrected(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Layer) or (one := found.get(op.names[0])) is None:
            return op
        bias = one.shift
        if op.bias is not None:
            old = builder.producer(op.bias)
            assert isinstance(old, Constant)
            bias = old.value.array * one.times + bias
        held = builder.add(Constant.of(bias.astype(np.float32)), f"{op.names[0]}_b")
        return replace(op, bias=held, loc=op.loc.touched(by))

    return graph.mapped(corrected)
