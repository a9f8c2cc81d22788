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
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register

MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)  # how much the activations count against the weights
NARROWEST = 2.0**-8  # of the widest channel: a channel that reaches less is taken to reach this
STEPS_X, STEPS_W = 255, 127


@register
@dataclass(frozen=True)
class EqualizeChannels(Pass):
    """f(conv(x, w, b)), read by convs of weights v -> f(conv(x, w / s, b / s)), v * s; s by channel

    f is homogeneous (relu, leaky relu, pooling, ...). s is the one of a few mixes of max|f| and
    max|v| with the least estimated noise: rounding of f to one scale through v, and rounding of
    v * s.
    Keeps: reals within 1e-4.
    Source: Nagel et al. 2019, arXiv:1906.04721; the choice of s by noise: this project.
    """

    name: ClassVar[str] = "equalize-channels"
    claim: ClassVar[Claim] = keeps_reals(1e-4)

    reach: Mapping[str, Array] = field(default_factory=dict)  # max|x| of each channel, by value

    def run(self, graph: Graph, record: Record) -> Graph:
        rows: dict[str, Array] = {}  # what the output channels of a contraction are divided by
        columns: dict[str, Array] = {}  # what its input channels are multiplied by
        for op in graph.ops:
            scaling = self._scales(graph, op)
            if isinstance(scaling, Miss):
                record.misses.append(Miss(scaling.why, scaling.at or op.names[0]))
                continue
            readers, scales = scaling
            rows[op.names[0]] = scales
            columns.update(dict.fromkeys((r.names[0] for r in readers), scales))
            record.rewrites += 1
        return rescaled(graph, rows, columns) if rows else graph

    def _scales(self, graph: Graph, op: Op) -> tuple[list[Layer], Array] | Miss:
        if not isinstance(op, Layer):
            return Miss("not a contraction")
        if constant(graph, op.w) is None or (op.bias and constant(graph, op.bias) is None):
            return Miss("its weights are not constants")
        last = op.result
        outputs = {v.name for v in graph.outputs}
        while (
            last.name not in outputs
            and len(readers := graph.users.get(last.name, ())) == 1
            and readers[0].homogeneous
        ):
            last = readers[0].results[0]
        if last.name in outputs:
            return Miss("an output of the graph", last.name)
        layers: list[Layer] = []
        for reader in readers:
            if not isinstance(reader, Layer) or reader.x.name != last.name:
                return Miss(f"{reader.mnemonic} reads it, a conv or linear is needed", last.name)
            if constant(graph, reader.w) is None:
                return Miss("its reader's weights are not constants", last.name)
            layers.append(reader)
        reach = np.asarray(self.reach.get(last.name, ()))
        if not reach.any():
            return Miss("no channel ranges were observed", last.name)
        return layers, choose_scales(reach, [by_input(graph, r) for r in layers])


def constant(graph: Graph, value: Value) -> Array | None:
    """The elements of a float constant."""
    return constant_of(graph, value) if value.type.is_float else None


def by_input(graph: Graph, op: Layer) -> Array:
    """The weights as (groups, inputs of each, outputs of each, taps): what a scale multiplies."""
    w = constant(graph, op.w)
    assert w is not None
    if isinstance(op, Linear):
        return np.asarray(w.T[None, :, :, None], np.float64)
    assert isinstance(op, Conv)
    o, kh, kw, inner = w.shape
    g = op.groups
    return np.asarray(w.reshape(g, o // g, kh * kw, inner).transpose(0, 3, 1, 2), np.float64)


def choose_scales(reach: Array, weights: list[Array]) -> Array:
    """The scale of each channel, of geometric mean 1 over the widest, with the least noise."""
    x = np.maximum(reach, reach.max() * NARROWEST)
    v = np.max([np.abs(w).max((2, 3)).reshape(-1) for w in weights], axis=0)
    v = np.maximum(v, (v.max() or 1.0) * NARROWEST)
    tried = [np.ones_like(x)]
    for mix in MIXES:
        s = x**mix / v ** (1 - mix)
        tried.append((s / np.exp(np.log(s).mean())).astype(np.float32).astype(np.float64))
    return min(tried, key=lambda s: noise(s, x, weights))


def noise(s: Array, reach: Array, weights: list[Array]) -> float:
    """Sum of squared errors, up to a factor, at the outputs of the readers.

    x / s has one step for all channels, max(reach / s) / 255; each error passes through v * s.
    v * s has a step for each output, max|v * s| / 127; each error is multiplied by x / s, taken to
    be a third of its reach.
    """
    step = (reach / s).max() / STEPS_X
    total = 0.0
    for w in weights:
        groups, inputs, _, taps = w.shape
        scaled = w * s.reshape(groups, inputs, 1, 1)
        steps = np.abs(scaled).max((1, 3), keepdims=True) / STEPS_W  # of each output
        typical = (reach / s / 3).reshape(groups, inputs, 1, 1)
        total += step**2 * float((scaled**2).sum())
        total += taps * float((steps**2 * typical**2).sum())
    return total


def rescaled(graph: Graph, rows: Mapping[str, Array], columns: Mapping[str, Array]) -> Graph:
    """The graph with new weights and biases; the old constants go when nobody reads them."""

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
        return replace(new, loc=op.loc.touched(EqualizeChannels.name))

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
