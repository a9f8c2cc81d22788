"""Channels between two contractions scaled so that one quantization fits them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Conv, Linear
from qir.ir.ops.kinds import Layer
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.channel_ranges import Reach

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)  # how much the activations count against the weights
NARROWEST = 2.0**-8  # of the widest channel: a channel that reaches less is taken to reach this
STEPS_X, STEPS_W = 255, 127


@register
@dataclass(frozen=True)
class EqualizeChannels(Pass):
    """f(conv(x, w, b)), read by convs of weights v -> f(conv(x, w / s, b / s)), v * s; s by channel

    f is homogeneous (relu, leaky relu, pooling, ...). s is the one of a few mixes of max|f| and
    max|v| with the least estimated noise: rounding of f to one scale through v, rounding of v * s,
    and what of one half of the samples lies outside the range of the other: scales by few
    elements of a channel fit these alone.
    Keeps: reals within 1e-4.
    Source: Nagel et al. 2019, arXiv:1906.04721; the choice of s by noise: this project.
    """

    name: ClassVar[str] = "equalize-channels"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    reach: Mapping[str, Array] = field(default_factory=dict)  # max|x| of each channel, by value
    halves: Mapping[str, Reach] = field(default_factory=dict)  # the same of halves of a sample

    def run(self, graph: Graph, record: Record) -> Graph:
        rows: dict[str, Array] = {}  # what the output channels of a contraction are divided by
        columns: dict[str, Array] = {}  # what its input channels are multiplied by
        for op in graph.ops:
            result = self._scales(graph, op)
            if isinstance(result, Miss):
                record.misses.append(Miss(result.why, result.at or op.names[0]))
                continue
            rows[op.names[0]] = result.scales
            columns.update(dict.fromkeys((r.names[0] for r in result.readers), result.scales))
            record.divided.update(dict.fromkeys(result.chain, result.scales))
            record.rewrites += 1
        return rescaled(graph, rows, columns, self.name) if rows else graph

    def _scales(self, graph: Graph, op: Op) -> Equalization | Miss:
        if not isinstance(op, Layer):
            return Miss("not a contraction")
        if constant(graph, op.w) is None or (op.bias and constant(graph, op.bias) is None):
            return Miss("its weights are not constants")
        outputs = {v.name for v in graph.outputs}
        chain = [op.result.name]
        while len(readers := graph.users.get(chain[-1], ())) == 1 and readers[0].homogeneous:
            chain.append(readers[0].names[0])
        if output := next((name for name in chain if name in outputs), None):
            return Miss("an output of the graph", output)
        last = chain[-1]
        layers: list[Layer] = []
        for reader in readers:
            if not isinstance(reader, Layer) or reader.x.name != last:
                return Miss(f"{reader.mnemonic} reads it, a conv or linear is needed", last)
            if constant(graph, reader.w) is None:
                return Miss("its reader's weights are not constants", last)
            layers.append(reader)
        if not layers:
            return Miss("nothing reads it", last)
        reach = self.halves.get(last) or Reach.of_both(self.reach.get(last, ()))
        if not reach.of_all.any():
            return Miss("no channel ranges were observed", last)
        scales = choose_scales(reach, [by_input(graph, r) for r in layers])
        return Equalization(chain, layers, scales)


@dataclass(frozen=True)
class Equalization:
    """The values from a contraction to its `readers`, all divided by `scales`, (C,)."""

    chain: list[str]
    readers: list[Layer]
    scales: Array


def constant(graph: Graph, value: Value) -> Array | None:
    """The elements of a float constant."""
    return constant_of(graph, value) if value.type.is_float else None


def by_input(graph: Graph, op: Layer) -> Array:
    """The weights as (groups, inputs of each, outputs of each, taps), which a scale multiplies."""
    w = constant(graph, op.w)
    assert w is not None
    if isinstance(op, Linear):
        return np.asarray(w.T[None, :, :, None], np.float64)
    assert isinstance(op, Conv)
    o, kh, kw, inner = w.shape
    g = op.groups
    return np.asarray(w.reshape(g, o // g, kh * kw, inner).transpose(0, 3, 1, 2), np.float64)


def choose_scales(reach: Reach, weights: list[Array]) -> Array:
    """The scale of each channel, of geometric mean 1 over the widest, with the least noise."""
    v = np.max([np.abs(w).max((2, 3)).reshape(-1) for w in weights], axis=0)
    v = np.maximum(v, (v.max() or 1.0) * NARROWEST)
    best = least = None
    for mix in (None, *MIXES):
        scales = mixed(reach.of_all, v, mix)
        total = noise(scales, widened(reach.of_all), weights)
        for half, other in (reach.halves, reach.halves[::-1]):
            total += outside(mixed(half, v, mix), half, other, reach.count, weights) / 2
        if least is None or total < least:
            best, least = scales, total
    assert best is not None
    return best


def widened(reach: Array) -> Array:
    wide: Array = np.maximum(reach, reach.max() * NARROWEST)
    return wide


def mixed(reach: Array, weights: Array, mix: float | None) -> Array:
    """x**mix / v**(1 - mix) over its geometric mean, as float32; 1 for None."""
    if mix is None or not reach.any():
        return np.ones_like(reach)
    s = widened(reach) ** mix / weights ** (1 - mix)
    return np.asarray((s / np.exp(np.log(s).mean())).astype(np.float32).astype(np.float64))


def outside(s: Array, half: Array, other: Array, count: int, weights: list[Array]) -> float:
    """The squared errors, in the units of noise(), of clamping x / s to the range of `half`,
    where the channels reach `other` once in `count` elements. A uniform rounding has the squared
    error step**2 / 12, and noise() counts step**2.
    """
    beyond = np.maximum(other / s - (half / s).max(), 0.0)
    square = 12 * beyond**2 / count
    return sum(
        float((square.reshape(*w.shape[:2], 1, 1) * (w * s.reshape(*w.shape[:2], 1, 1)) ** 2).sum())
        for w in weights
    )


def noise(s: Array, reach: Array, weights: list[Array]) -> float:
    """Sum of squared errors, up to a factor, at the outputs of the readers."""
    return float(sum(each.sum() for each in output_noise(s, reach, weights)))


def output_noise(s: Array, reach: Array, weights: list[Array]) -> list[Array]:
    """Squared errors, up to a factor, of each reader's outputs: (groups, outputs of each).

    x / s has one step for all channels, max(reach / s) / 255; each error passes through v * s.
    v * s has a step for each output, max|v * s| / 127; each error is multiplied by x / s, taken to
    be a third of its reach.
    """
    step = (reach / s).max() / STEPS_X
    noises = []
    for w in weights:
        groups, inputs, _, taps = w.shape
        scaled = w * s.reshape(groups, inputs, 1, 1)
        steps = np.abs(scaled).max((1, 3)) / STEPS_W  # of each output
        typical = (reach / s / 3).reshape(groups, inputs)
        rounded_w = taps * steps**2 * (typical**2).sum(1, keepdims=True)
        noises.append(step**2 * (scaled**2).sum((1, 3)) + rounded_w)
    return noises


def rescaled(
    graph: Graph, rows: Mapping[str, Array], columns: Mapping[str, Array], by: str
) -> Graph:
    """The graph with new weights and biases; old constants without readers are removed."""

    def scaled(op: Op, builder: Builder) -> Op:
        name = op.names[0]
        if not isinstance(op, Layer) or not (name in rows or name in columns):
            return op
        w, bias = constant(graph, op.w), None if op.bias is None else constant(graph, op.bias)
        assert w is not None
        wide = multiplied(w, op, columns.get(name))
        down = 1 / rows[name] if name in rows else np.ones(len(w))
        wide = wide * down.reshape(-1, *[1] * (w.ndim - 1))
        new = replace(op, w=builder.add(Constant.of(wide.astype(w.dtype)), f"{op.w.name}_eq"))
        if bias is not None and op.bias is not None:
            even = Constant.of((bias * down).astype(bias.dtype))
            new = replace(new, bias=builder.add(even, f"{op.bias.name}_eq"))
        return replace(new, loc=op.loc.touched(by))

    return graph.mapped(scaled)


def multiplied(w: Array, op: Layer, s: Array | None) -> Array:
    """w with its input channels times s."""
    if s is None:
        return w.astype(np.float64)
    if isinstance(op, Linear):
        return np.asarray(w * s)
    assert isinstance(op, Conv)
    inner = w.shape[3]
    group = np.arange(len(w)) // (len(w) // op.groups)  # of each output channel
    return np.asarray(w * s.reshape(op.groups, inner)[group][:, None, None, :])
