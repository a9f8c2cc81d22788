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
        seen: dict[Hashable, tuple[Value, ...]] = {}

        def merged(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
            first = seen.setdefault(meaning(op), op.results)
            if first is op.results:
                return op
            record.rewrites += 1
            return first

        return graph.mapped(merged)


def meaning(op: Op) -> Hashable:
    """All that says what an op computes: its class, operands and attributes."""
    return (type(op), *(getattr(op, f.name) for f in op_fields(type(op))))
