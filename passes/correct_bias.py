"""Biases moved so that the mean of each channel is that of the float graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import Constant, Conv, Linear
from qir.ir.torch_executor import FloatProgram
from qir.ir.types import Array
from qir.passes.calibrate import chunk_of, run_chunk
from qir.passes.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.rebatch import rebatch

CHUNKS = 4  # the whole sample runs at once: this many calibration chunks at most


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

    reference: Graph | None = None
    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        if self.reference is None or not self.sample:
            record.misses.append(Miss("no float graph and sample are given"))
            return graph
        own = graph.inputs[0].type.shape[0]
        size = min(len(self.sample[0]), CHUNKS * chunk_of(graph)) // own * own
        sample = tuple(x[:size] for x in self.sample)
        larger = rebatch(graph, size // own)
        if isinstance(larger, Miss):
            record.misses.append(larger)
            return graph
        means = channel_means(self.reference, sample)
        shifts = corrections(larger, sample, means)
        record.rewrites = len(shifts)
        return shifted(graph, shifts)


def channel_means(graph: Graph, sample: tuple[Array, ...]) -> Mapping[str, Array]:
    """The mean of each channel of each contraction, (C,) float64, by name."""
    wanted = {op.names[0] for op in graph.ops if isinstance(op, (Conv, Linear))}
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in wanted:
            total = x.reshape(-1, x.shape[-1]).double().sum(0).numpy()
            sums[value.name] = sums.get(value.name, 0.0) + total
            counts[value.name] = counts.get(value.name, 0) + x.numel() // x.shape[-1]

    size = chunk_of(graph)
    for i in range(0, len(sample[0]), size):
        run_chunk(graph, tuple(x[i : i + size] for x in sample), watch)
    return {name: sums[name] / counts[name] for name in sums}


def corrections(
    graph: Graph, sample: tuple[Array, ...], means: Mapping[str, Array]
) -> Mapping[str, Array]:
    """What each contraction's bias needs, with all before it corrected."""
    wanted = {
        op.names[0] for op in graph.ops if isinstance(op, (Conv, Linear)) and own_bias(graph, op)
    }
    found: dict[str, Array] = {}

    def correct(value: Value, y: Any) -> None:
        if value.name in wanted and value.name in means:
            mean = y.reshape(-1, y.shape[-1]).double().mean(0).numpy()
            found[value.name] = (means[value.name] - mean).astype(np.float32)
            y += torch.from_numpy(found[value.name])  # in place: the ops after it see it

    with torch.no_grad():
        FloatProgram(graph)(*sample, watch=correct)
    return found


def own_bias(graph: Graph, op: Conv | Linear) -> bool:
    """Whether the bias may be changed: none yet, or a float constant (not a model's integers)."""
    return op.bias is None or isinstance(graph.producers.get(op.bias.name), Constant)


def shifted(graph: Graph, shifts: Mapping[str, Array]) -> Graph:
    builder = Builder(graph.name, graph.stage)
    now = {v.name: builder.input(v.name, v.type) for v in graph.inputs}
    for op in graph.ops:
        new = op.rebind(lambda v: now[v.name])
        if isinstance(new, (Conv, Linear)) and (shift := shifts.get(op.names[0])) is not None:
            assert isinstance(op, (Conv, Linear))
            if op.bias is not None:
                old = graph.producers[op.bias.name]
                assert isinstance(old, Constant)
                shift = old.value.array + shift
            bias = builder.add(Constant.of(shift.astype(np.float32)), f"{op.names[0]}_b")
            new = replace(new, bias=bias, loc=op.loc.touched(CorrectBias.name))
        now.update(zip(op.names, builder.add_all(new), strict=True))
    outputs = [now[v.name] for v in graph.outputs]
    return builder.finish(outputs, graph.output_names).without_dead_code()
