"""Rows with scales at run time: round_rows in front of what multiplies activations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Hadamard, Linear, RmsNorm, Rope, RoundRows
from qir.ir.stages import FLOAT_STAGES
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register

SEQUENCE = (Attention, Hadamard, RmsNorm, Rope, RoundRows)


class Scales(Enum):
    """Where the scale of a linear op's input comes from: each token at run time, or calibration."""

    AUTO = "auto"  # token where the graph has attention
    TOKEN = "token"
    STATIC = "static"


def is_wide(graph: Graph) -> bool:
    """Whether activations between products have more than 8 bits: the graph has ops of
    sequences.
    """
    return any(isinstance(op, SEQUENCE) for op in graph.ops)


def row_passes(graph: Graph, scales: Scales = Scales.AUTO) -> tuple[Pass, ...]:
    """The pass that places rows with scales of their own; none where the graph has none."""
    is_asked = scales is Scales.TOKEN or any(isinstance(op, Attention) for op in graph.ops)
    return (PlaceRows(scales.value),) if is_asked else ()


def are_layers_by_rows(graph: Graph, scales: Scales) -> bool:
    """Whether the inputs of linear ops get their scales at run time, not from calibration."""
    return scales is not Scales.STATIC and bool(row_passes(graph, scales))


def with_rows(graph: Graph, scales: Scales = Scales.AUTO) -> Graph:
    """The graph with rows placed, as the planner takes it."""
    for one in row_passes(graph, scales):
        graph = one.run(graph, Record(one.name, one.claim))
    return graph


@register
@dataclass(frozen=True)
class PlaceRows(Pass):
    """linear(x, w) -> linear(round_rows(x), w); attention(q, ...) -> attention(round_rows(q), ...)

    Of linear ops a scale for each row, of queries one for each head. `scales`: auto places both
    where the graph has attention and nothing elsewhere, token both everywhere, static those of
    queries alone.
    Changes: rows are rounded to 8 bits.
    Source: I-LLM, arXiv:2405.17849, section 3.2.
    """

    name: ClassVar[str] = "place-rows"
    claim: ClassVar[Claim] = changes("rows are rounded to 8 bits")
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    scales: str = Scales.AUTO.value

    def run(self, graph: Graph, record: Record) -> Graph:
        how = Scales(self.scales)
        has_attention = any(isinstance(op, Attention) for op in graph.ops)
        of_layers = how is Scales.TOKEN or (how is Scales.AUTO and has_attention)
        if not (of_layers or has_attention):
            record.misses.append(Miss("no attention"))
            return graph
        rows: dict[tuple[str, int], Value] = {}

        def rounded(x: Value, block: int, builder: Builder, op: Op) -> Value:
            if isinstance(builder.producer(x), RoundRows):
                return x
            if (x.name, block) not in rows:
                made = RoundRows(x, block, loc=op.loc.touched(self.name))
                rows[x.name, block] = builder.add(made, f"{x.name}_rows")
                record.rewrites += 1
            return rows[x.name, block]

        def placed(op: Op, builder: Builder) -> Op:
            if isinstance(op, Attention):
                return replace(op, q=rounded(op.q, op.q.type.shape[-1] // op.heads, builder, op))
            if not (of_layers and isinstance(op, Linear)) or not op.x.type.is_float:
                return op
            if not isinstance(builder.producer(op.w), Constant):
                return op
            return replace(op, x=rounded(op.x, op.x.type.shape[-1], builder, op))

        return graph.mapped(placed)
