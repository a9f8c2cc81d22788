"""Remove ops that no output needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qir.ir.graph import Graph
from qir.passes.infra.manager import KEEPS_BITS, Claim, Pass, Record, register


@register
@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """ops that no output reads, directly or not -> nothing

    Keeps: every bit.
    """

    name: ClassVar[str] = "remove-dead-code"
    claim: ClassVar[Claim] = KEEPS_BITS

    def run(self, graph: Graph, record: Record) -> Graph:
        after = graph.without_dead_code()
        record.rewrites = len(graph.ops) - len(after.ops)
        return after
