"""Layers that run side by side: members of a group read one input, and their deltas are summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Add
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.infra.options import option
from qir.passes.transform.depth.sublayers import HINT, Layers, Sublayer, layers, sublayers_of
from qir.passes.transform.depth.widen import Added, Wide

ALL = -1
"""The bypass with which every MLP of a group reads the attention of all members."""


@register
@dataclass(frozen=True)
class GroupLayers(Pass):
    """x1 = x + a1(x); x2 = x1 + m1(x1); x3 = x2 + a2(x2); ... -> y = x + sum of a_j(x) + sum of
    m_j(h_j), for each group of adjacent layers of attention a_j and MLP m_j

        h_j = x + a_j(x) + the sum of a_i(x) of the `bypass` members before j

    groups: the layers of each group, by their numbers from 0.
    bypass: 0: an MLP reads the attention of its own layer alone; -1: that of all members.
    wide:   ops of the members that read one value are one op with the channels of all: q, k, v and
            attention, with bypass -1 the MLP too, and the sum of the deltas is one linear op.
    Changes: layers of a group do not see each other's results, but for bypassed attention.
    Source: CQIL, arXiv:2404.06709, section 3; bypassed attention is in the sum once, as its text
            says. bypass -1: arXiv:2502.02790. Wide ops: this project.
    """

    name: ClassVar[str] = "group-layers"
    claim: ClassVar[Claim] = changes("layers of a group do not see each other's results")
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    groups: tuple[tuple[int, ...], ...] = ()
    bypass: int = option(1, ALL)
    wide: bool = True

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.groups:
            record.misses.append(Miss("no groups are given"))
            return graph
        for members in self._members(graph, layers_of(graph, f"pass {self.name}")):
            graph = Group(graph, members, self, record).run()
            record.rewrites += 1
        return graph

    def _members(self, graph: Graph, every: Layers) -> list[Layers]:
        """The layers of each group. Errors: PassError for numbers that are no groups."""
        flat = [number for group in self.groups for number in group]
        for group in self.groups:
            if len(group) < 2 or list(group) != list(range(group[0], group[0] + len(group))):
                raise PassError(
                    f"pass {self.name}: group {list(group)}, two or more adjacent layers are needed"
                )
        if len(flat) != len(set(flat)) or not all(0 <= n < len(every) for n in flat):
            raise PassError(
                f"pass {self.name}: layers {sorted(flat)}, different ones from 0 to"
                f" {len(every) - 1} are needed"
            )
        groups = [every[group[0] : group[-1] + 1] for group in self.groups]
        for members in groups:
            for (_, before), (after, _) in pairwise(members):
                readers = {op.names[0] for op in graph.users.get(before.name, ())}
                if after.stream != before.sum or not readers <= {*after.ops, after.name}:
                    raise PassError(
                        f"pass {self.name}: %{after.name} is not all that reads %{before.name},"
                        " layers in a row are needed"
                    )
        return groups


def layers_of(graph: Graph, by: str) -> Layers:
    """The layers of a graph. Errors: PassError for a graph without any."""
    result = layers(graph, sublayers_of(graph, by))
    if isinstance(result, Miss):
        at = f", value %{result.at}" if result.at else ""
        raise PassError(f"{by}: graph @{graph.name}{at}: {result.why}", HINT)
    return result


class Group:
    """The rewrite of one group."""

    def __init__(self, graph: Graph, members: Layers, options: GroupLayers, record: Record) -> None:
        self.graph, self.members, self.options, self.record = graph, members, options, record
        self.additions = Added(graph, options.name)
        self.reads: dict[str, Value] = {}  # by op, what it reads in place of the stream

    def run(self) -> Graph:
        attention, mlp = zip(*self.members, strict=True)
        x = attention[0].stream
        deltas = self._together(attention, [x] * len(attention))
        inputs, y = self._inputs(x, deltas)
        for delta in self._together(mlp, inputs):
            y = self._sum(y, delta)
        return self._finished(y)

    def _inputs(self, x: Value, deltas: Sequence[Value]) -> tuple[list[Value], Value]:
        """What the MLP of each member reads, and x with all of the deltas."""
        sums = [x]
        for delta in deltas:
            sums.append(self._sum(sums[-1], delta))
        if self.options.bypass == ALL:
            return [sums[-1]] * len(self.members), sums[-1]
        inputs = []
        for j in range(len(deltas)):
            first = max(0, j - self.options.bypass)
            h = x if first else sums[j + 1]
            for delta in deltas[first : j + 1] if first else ():
                h = self._sum(h, delta)
            inputs.append(h)
        return inputs, sums[-1]

    def _together(self, parts: Sequence[Sublayer], reads: Sequence[Value]) -> Sequence[Value]:
        """The deltas of sub-layers that read these values; their sum alone, where that is one
        op.
        """
        if self.options.wide and len(set(reads)) == 1:
            wide = Wide(self.graph, parts, reads[0], self.additions)
            deltas = wide.run(self.options.bypass == ALL)
            if not isinstance(deltas, Miss):
                return deltas
            self.record.misses.append(Miss(deltas.why, deltas.at or parts[0].name))
        for part, source in zip(parts, reads, strict=True):
            self.reads.update(dict.fromkeys(part.ops, source))
        return [part.delta for part in parts]

    def _sum(self, a: Value, b: Value) -> Value:
        loc = self.graph.producers[self.members[-1][1].name].loc
        return self.additions.add(Add(a, b, loc=loc), f"{self.members[0][0].name}_sum")

    def _finished(self, y: Value) -> Graph:
        """The graph with y in place of the last sum, its ops in an order that they can run in."""
        old = {name: part for layer in self.members for part in layer for name in part.ops}
        last = self.members[-1][1].name
        removals = {part.name for layer in self.members for part in layer}
        removals.update(name for op in self.additions.ops for name in op.names)

        def rebound(op: Op) -> Op:
            new = self.reads.get(op.names[0])
            if new is None:
                return op
            source = old[op.names[0]].source.name
            return replace(op.rebind(lambda v: new if v.name == source else v), names=op.names)

        rest = [rebound(op) for op in self.graph.ops if op.names[0] not in removals]
        new = [op.named((last,)) if op.names == (y.name,) else op for op in self.additions.ops]
        return replace(self.graph, ops=ordered([*rest, *new])).without_dead_code()


def ordered(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The ops, each behind those it reads, otherwise in their order."""
    makers = {name: op for op in ops for name in op.names}
    order: dict[str, Op] = {}
    for op in ops:
        todo = [op]
        while todo:
            top = todo[-1]
            waits = [makers[v.name] for v in top.operands if v.name in makers
                     and makers[v.name].names[0] not in order]  # fmt: skip
            if waits:
                todo += waits[:1]
                continue
            order.setdefault(todo.pop().names[0], top)
    return tuple(order.values())
