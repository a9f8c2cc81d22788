"""Equal ops on equal operands are computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value, op_fields
from qir.passes.infra.manager import KEEPS_BITS, Claim, Pass, Record, register


@register
@dataclass(frozen=True)
class MergeEqualOps(Pass):
    """a = f(x); b = f(x); g(a, b)  ->  a = f(x); g(a, a), constants alike

    Keeps: every bit.
    """

    name: ClassVar[str] = "merge-equal-ops"
    claim: ClassVar[Claim] = KEEPS_BITS

    def run(self, graph: Graph, record: Record) -> Graph:
        builder = Builder(graph.name, graph.stage)
        now: dict[str, Value] = {}
        seen: dict[Hashable, tuple[Value, ...]] = {}
        for value in graph.inputs:
            builder.input(value.name, value.type)
        for old in graph.ops:
            op = old
            if any(v.name in now for v in old.operands):
                op = old.rebind(lambda v: now.get(v.name, v))
            key = meaning(op)
            if key in seen:
                now.update(zip(old.names, seen[key], strict=True))
                record.rewrites += 1
            else:
                seen[key] = builder.add_all(op)
        if not record.rewrites:
            return graph
        return builder.finish([now.get(v.name, v) for v in graph.outputs], graph.output_names)


def meaning(op: Op) -> Hashable:
    """All that says what an op computes: its class, operands and attributes."""
    return (type(op), *(getattr(op, f.name) for f in op_fields(type(op))))
