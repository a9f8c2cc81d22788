"""Correct biases towards the means of the float graph, where held-out samples improve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Constant
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, rows_of
from qir.passes.infra.layers import check_names, layers_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.infra.rebatch import rebatch
from qir.passes.quantize.correction_walk import Correction, CorrectionWalk, SampleGraph
from qir.passes.quantize.stored_weights import (
    StoredWeights,
    stored_weights,
    with_weights,
)

# The whole sample runs at once, this many calibration chunks at most: corrections on a part of what
# rounding saw make it worse again (docs/explanation/weight_rounding.md). 208 images of mobilenetv2
# take 3.3 GiB.
CHUNKS = 16
JUDGES = 16  # runs held back at most; a third of the sample at most


@register
@dataclass(frozen=True)
class CorrectBias(Pass):
    """conv(x, w, b) of a simulated graph -> conv(x, w, b + e * max(0, 1 - 4 * v / e**2))

    e = mean(float conv) - mean(this conv) of a channel, over the sample and all but the last axis;
    v: the variance of e, from the means of single runs. Layer by layer: each correction sees the
    layers before it corrected. Rounded weights shift a channel by error * mean(x); this takes the
    shift away where it is certain. The layers of a segment, one after the other in the graph, keep
    their shifts if the outputs are nearer to the float graph's with them on samples held back: a
    layer's own error may become less and a later layer's greater.
    Changes: means of accumulators approach those of the float graph.
    Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2, the empirical way; shrinkage as of
            James and Stein 1961 by channel, and the held-back outputs: this project.
    """

    name: ClassVar[str] = "correct-bias"
    claim: ClassVar[Claim] = changes("means of accumulators approach those of the float graph")
    stages: ClassVar[tuple[str, ...]] = ("simulated",)
    moves_scales: ClassVar[bool] = False

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        record.misses += check_names(graph, self.reference, self.name)
        run_rows = rows_of(graph.inputs[0])
        runs = min(len(self.sample[0]), CHUNKS * chunk_of(graph)) // run_rows
        judges = min(JUDGES, runs // 3)
        if not judges:
            record.misses.append(Miss(f"{runs} runs, 3 are needed to hold one back"))
            return graph
        larger = [rebatch(graph, count) for count in (runs - judges, judges)]
        misses = [g for g in larger if isinstance(g, Miss)]
        if misses:
            record.misses.append(misses[0])
            return graph
        ends = (0, (runs - judges) * run_rows, runs * run_rows)
        fit, judge = (
            SampleGraph(g, cut(graph, self.sample, ends[i], ends[i + 1]))
            for i, g in enumerate(larger)
            if isinstance(g, Graph)
        )
        scaled = scalable(graph, self.reference) if self.moves_scales else {}
        results = CorrectionWalk(self.reference, fit, judge, scaled).run(record)
        record.rewrites = len(results)
        scales = {
            key: array
            for name, w in scaled.items()
            if name in results and (scale := results[name].scale) is not None
            for key, array in ((w.constant, w.stored), (f"{w.constant}.scale", scale))
        }
        return rebiased(with_weights(graph, scales, self.name), results, self.name)


@register
@dataclass(frozen=True)
class CorrectChannels(CorrectBias):
    """conv(x, q * s, b) of a simulated graph -> conv(x, q * (s * t), b'): mean and deviation of
    each channel become those of the float graph's.

    t = std(float conv) / std(this conv), within [1 / MOST, MOST]; layer by layer, and by segments
    that held-back samples gain by, as correct-bias.
    Rounding of few bits takes from what a channel tells apart, more with every layer; with means
    alone corrected a deep network ends up saying the same of all inputs
    (docs/explanation/weight_rounding.md).
    Changes: scales of weights and biases; the integers stay.
    Source: this project; as batch norms re-estimated after rounding do, Sun et al. 2019,
            arXiv:1912.09356, without a batch norm.
    """

    name: ClassVar[str] = "correct-channels"
    claim: ClassVar[Claim] = changes("mean and deviation of accumulators become the float graph's")
    moves_scales: ClassVar[bool] = True


def scalable(graph: Graph, reference: Graph) -> Mapping[str, StoredWeights]:
    """The layers whose channels have scales of their own, by name."""
    rounded_layers = (stored_weights(graph, reference, op) for op in layers_of(graph))
    return {
        w.layer: w for w in rounded_layers if isinstance(w, StoredWeights) and w.has_channel_scales
    }


def rebiased(graph: Graph, corrections: Mapping[str, Correction], by: str) -> Graph:
    """The graph with b * times + shift for the bias b of each layer in `corrections`, 0 where it
    has none.
    """

    def rewrite(op: Op, builder: Builder) -> Op:
        if not isinstance(op, Layer) or (one := corrections.get(op.names[0])) is None:
            return op
        bias = one.shift
        if op.bias is not None:
            old = builder.producer(op.bias)
            assert isinstance(old, Constant)
            bias = old.value.array * one.times + bias
        bias_value = builder.add(Constant.of(bias.astype(np.float32)), f"{op.names[0]}_b")
        return replace(op, bias=bias_value, loc=op.loc.touched(by))

    return graph.mapped(rewrite)
