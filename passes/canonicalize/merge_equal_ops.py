"""Merge equal ops on equal operands (common subexpressions)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value, meaning
from qir.passes.infra.manager import KEEPS_BITS, Claim, Pass, Record, register


@register
@dataclass(frozen=True)
class MergeEqualOps(Pass):
    """a = f(x); b = f(x); g(a, b)  ->  a = f(x); g(a, a), constants alike; equal bit for bit

    Keeps: every bit.
    """

    name: ClassVar[str] = "merge-equal-ops"
    claim: ClassVar[Claim] = KEEPS_BITS

    def run(self, graph: Graph, record: Record) -> Graph:
        firsts: dict[Hashable, tuple[Value, ...]] = {}

        def merge(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
            first = firsts.setdefault(meaning(op), op.results)
            if first is op.results:
                return op
            record.rewrites += 1
            return first

        return graph.mapped(merge)


def computes_the_same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are equal but for names, places and the order of ops."""
    if [v.type for v in a.inputs] != [v.type for v in b.inputs]:
        return False
    numbers: dict[Hashable, int] = {}
    return numbered(a, numbers) == numbered(b, numbers)


def numbered(graph: Graph, numbers: dict[Hashable, int]) -> list[Value]:
    """The outputs, named by a number for each computation: one for all ops of one meaning."""
    values = {v.name: Value(str(i), v.type) for i, v in enumerate(graph.inputs)}
    for op in graph.ops:
        number = numbers.setdefault(meaning(op.rebind(lambda v: values[v.name])), len(numbers))
        values.update((v.name, Value(f"{number}.{i}", v.type)) for i, v in enumerate(op.results))
    return [values[v.name] for v in graph.outputs]
