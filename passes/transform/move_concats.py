"""Values of unlike scales that are joined, kept apart behind the ops that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Concat, Constant, Mul
from qir.ir.ops.kinds import Layer
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.manager import Claim, Pass, Record, keeps_reals, register
from qir.passes.transform.channel_ranges import Reach
from qir.passes.transform.equalize_channels import (
    MIXES,
    by_input,
    constant,
    multiplied,
    output_noise,
)
from qir.passes.transform.parts import Parts, PartWriter, part_reach, parts_of

UNLIKE = 2.0  # one scale for all would take more than a bit from some
LEAST_GAIN = 1.0  # bits of the mean output of a layer, else its input is left alone


@register
@dataclass(frozen=True)
class MoveConcats(Pass):
    """f(concat(a, b)) -> concat(f(a), f(b)) where max|a| and max|b| are unlike

    1. f works part by part: elementwise ops, moves, pools (parts.py), and its result is an output,
       joins values that are alike, or is read by an f or a layer of these rules.
    2. conv(concat(a, b), w) -> conv(concat(a / s, b / t), w * (s, t)), s and t powers of two, where
       the estimated noise of the layer's outputs becomes less by LEAST_GAIN on the average.
    Behind this a concat of unlike values is an output, whose operands keep scales of their own
    (quantize-graph), or it is of values that one scale serves.
    Keeps: reals within 1e-5.
    Source: this project.
    """

    name: ClassVar[str] = "move-concats"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()
    reach: Mapping[str, Reach] = field(default_factory=dict)  # of channels, on the sample

    def run(self, graph: Graph, record: Record) -> Graph:
        parts = parts_of(graph) if self.sample else {}
        if not parts:
            return graph
        plan = ConcatPlan(graph, parts, part_reach(graph, self.sample, parts), self.reach)
        new = Rewrite(plan, record)
        return graph.mapped(new.change)


class ConcatPlan:
    """Which ops work part by part, and which layers read scaled parts."""

    def __init__(
        self,
        graph: Graph,
        parts_by_name: Mapping[str, Parts],
        part_reach: Mapping[str, Array],
        channels: Mapping[str, Reach],
    ) -> None:
        self.graph, self.parts_by_name, self.part_reach, self.channels = (
            graph,
            parts_by_name,
            part_reach,
            channels,
        )
        self.outputs = {v.name for v in graph.outputs}
        self.moves: set[str] = set()  # ops, by their first result
        self.scales: dict[str, Array] = {}  # what the parts of a value are divided by for layers
        uses: set[str] = set()  # values whose parts somebody makes use of
        for op in reversed(graph.ops):
            name = op.names[0]
            if name in parts_by_name:
                self._scale_for_layers(name)
                readers = graph.users.get(name, ())
                if name in self.outputs or name in self.scales or self._has_use(readers, uses):
                    uses.add(name)
            if self._moves(op, uses):
                self.moves.add(name)

    def is_unlike(self, name: str) -> bool:
        reach = self.part_reach.get(name, np.zeros(1))
        live = reach[reach > 0]
        return bool(live.size and live.max() > UNLIKE * live.min())

    def _moves(self, op: Op, uses: set[str]) -> bool:
        name = op.names[0]
        if self.joins(op) or not any(self.is_unlike(v.name) for v in op.operands):
            return False
        return name in self.parts_by_name and (name in uses or not self.is_unlike(name))

    def joins(self, op: Op) -> bool:
        """Whether the op itself puts parts one after another."""
        return isinstance(op, Concat) and (
            op.names[0] not in self.parts_by_name or self.parts_by_name[op.names[0]].axis == op.axis
        )

    def _has_use(self, readers: tuple[Op, ...], uses: set[str]) -> bool:
        return any(
            r.names[0] in self.moves or (self.joins(r) and r.names[0] in uses) for r in readers
        )

    def _scale_for_layers(self, name: str) -> None:
        layers = [r for r in self.graph.users.get(name, ()) if isinstance(r, Layer)]
        axis = self.parts_by_name[name].axis
        if not layers or not self.is_unlike(name) or axis != layers[0].x.type.rank - 1:
            return
        if all(r.x.name == name and constant(self.graph, r.w) is not None for r in layers):
            scales = self._best_scales(name, [by_input(self.graph, r) for r in layers])
            if scales is not None:
                self.scales[name] = scales

    def _best_scales(self, name: str, weights: list[Array]) -> Array | None:
        """Powers of two for the parts, 1 for the longest, with the least noise; None where that is
        no gain.
        """
        sizes, part_reach = np.array(self.parts_by_name[name].sizes), self.part_reach[name]
        channel_reach = self.channels.get(name)
        reach = np.repeat(part_reach, sizes) if channel_reach is None else channel_reach.of_all
        by_channel = np.max([np.abs(w).max((2, 3)).reshape(-1) for w in weights], axis=0)
        ends = np.cumsum(sizes) - sizes
        v = np.maximum.reduceat(by_channel, ends)
        if not part_reach.all() or not v.all():
            return None
        before = logarithms(np.ones(len(reach)), reach, weights)
        best, most = None, LEAST_GAIN
        for mix in MIXES:
            steps = np.rint(np.log2(part_reach**mix / v ** (1 - mix)))
            scales = 2.0 ** (steps - steps[sizes.argmax()])
            gain = before - logarithms(np.repeat(scales, sizes), reach, weights)
            if float(gain.mean()) > most:
                best, most = scales, float(gain.mean())
        return best


def logarithms(s: Array, reach: Array, weights: list[Array]) -> Array:
    """Of the noise of every output of the readers, in bits."""
    every = np.concatenate([each.reshape(-1) for each in output_noise(s, reach, weights)])
    return np.asarray(np.log2(np.maximum(every, np.finfo(np.float64).tiny)) / 2)


class Rewrite:
    """Writes the ops of a plan on parts."""

    def __init__(self, plan: ConcatPlan, record: Record) -> None:
        self.plan, self.record = plan, record
        self.pieces: dict[str, tuple[Value, ...]] = {}
        self.scaled: dict[str, Value] = {}

    def change(self, op: Op, builder: Builder) -> Op:
        plan, name = self.plan, op.names[0]
        writer = PartWriter(builder, self.pieces, plan.parts_by_name)
        if isinstance(op, Layer) and op.x.name in plan.scales and op.x.name in self.pieces:
            return self._layer(op, builder)
        if name in plan.moves and self._is_ready(op):
            self.record.rewrites += 1
            return writer.rewrite(op, plan.parts_by_name[name])
        if isinstance(op, Concat) and plan.joins(op) and name in plan.parts_by_name:
            flat = [v for x in op.xs for v in self._pieces(x, op.axis)]
            if len(flat) == len(plan.parts_by_name[name].sizes):
                self.pieces[name] = tuple(flat)
        return op

    def _is_ready(self, op: Op) -> bool:
        """Whether the parts of an operand are there; of all, where these are joined."""
        are_split = [v.name in self.pieces for v in op.operands]
        return all(are_split) if isinstance(op, Concat) else any(are_split)

    def _pieces(self, x: Value, axis: int) -> tuple[Value, ...]:
        is_along = (
            x.name in self.plan.parts_by_name and self.plan.parts_by_name[x.name].axis == axis
        )
        return self.pieces.get(x.name, (x,)) if is_along else (x,)

    def _layer(self, op: Layer, builder: Builder) -> Op:
        """The layer on parts divided by their scales."""
        name, parts = op.x.name, self.plan.parts_by_name[op.x.name]
        scales = self.plan.scales[name]
        if name not in self.scaled:
            xs = [
                x if s == 1 else self._divided(x, float(s), builder)
                for x, s in zip(self.pieces[name], scales, strict=True)
            ]
            self.scaled[name] = builder.add(Concat(tuple(xs), parts.axis), f"{name}_scaled")
        w = constant(self.plan.graph, op.w)
        assert w is not None
        wide = multiplied(w, op, np.repeat(scales, parts.sizes)).astype(w.dtype)
        self.record.rewrites += 1
        weights = builder.add(Constant.of(wide), f"{op.w.name}_scaled")
        return replace(op, x=self.scaled[name], w=weights, loc=op.loc.touched(MoveConcats.name))

    def _divided(self, x: Value, scale: float, builder: Builder) -> Value:
        factor = builder.add(Constant.of(np.float32(1 / scale)), f"{x.name}_factor")
        return builder.add(Mul(x, factor), f"{x.name}_scaled")
