"""Sub-layers left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.transform.depth.sublayers import sublayers_of


@register
@dataclass(frozen=True)
class SkipLayers(Pass):
    """y = add(x, f(x)) -> x, for each sub-layer whose sum is named in `remove`; its ops go

    Changes: the network computes without these sub-layers.
    Source: FinerCut, arXiv:2405.18218; which ones: `Search`.
    """

    name: ClassVar[str] = "skip-layers"
    claim: ClassVar[Claim] = changes("the network computes without these sub-layers")
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    remove: tuple[str, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        if not self.remove:
            record.misses.append(Miss("no sub-layers are named"))
            return graph
        streams = {one.name: one.stream.name for one in sublayers_of(graph, f"pass {self.name}")}
        if unknown := [name for name in self.remove if name not in streams]:
            raise PassError(
                f"pass {self.name}: %{unknown[0]} is no sum of a sub-layer, one of"
                f" {', '.join(streams)} is needed"
            )
        record.rewrites = len(set(self.remove))

        def rewrite(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
            if op.names[0] not in self.remove:
                return op
            old = graph.producers[op.names[0]]
            pairs = zip(old.operands, op.operands, strict=True)
            return tuple(new for before, new in pairs if before.name == streams[op.names[0]])[:1]

        return graph.mapped(rewrite)
