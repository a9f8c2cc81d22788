"""Rows with scales at run time: round_rows in front of what multiplies activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Attention,
    Constant,
    Hadamard,
    Linear,
    RmsNorm,
    Rope,
    RoundRowBlocks,
    RoundRows,
    Take,
)
from qir.ir.ops.sequence.row_blocks import MOST_SPREAD
from qir.ir.rows import code_top
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import I32
from qir.passes.bits.choice import Bits
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register
from qir.passes.integer.rules import BYTE

ROWS = (RoundRows, RoundRowBlocks)
SEQUENCE = (Attention, Hadamard, RmsNorm, Rope, *ROWS)
EIGHT = Bits(8, 8)
NARROW = 6  # bits of codes whose blocks fit 8 bits, each shifted by as many as are left
MULTIPLIERS = 255  # the greatest of a group of weights


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


def row_passes(
    graph: Graph,
    scales: Scales = Scales.AUTO,
    bits: Bits = EIGHT,
    layers: Mapping[str, Bits] | None = None,
) -> tuple[Pass, ...]:
    """The pass that places rows with scales of their own; none where the graph has none.

    `bits` hold for all layers but those of which `layers` says others.
    """
    is_asked = scales is Scales.TOKEN or any(isinstance(op, Attention) for op in graph.ops)
    return (PlaceRows(scales.value, str(bits), layers or {}),) if is_asked else ()


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
    queries alone. Linear ops whose `bits`, or those of `layers`, say fewer than 8 or a block read
    round_row_blocks; the spread of exponents is as wide as sums of i32 allow. A head that is tied
    to an embedding keeps 8 bits unless `layers` names it.
    Changes: rows are rounded to 8 bits, or to as few as asked for.
    Source: I-LLM, arXiv:2405.17849, section 3.2.
    """

    name: ClassVar[str] = "place-rows"
    claim: ClassVar[Claim] = changes("rows are rounded to few bits")
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    scales: str = Scales.AUTO.value
    bits: str = str(EIGHT)
    layers: Mapping[str, Bits] = field(default_factory=dict, hash=False)

    def run(self, graph: Graph, record: Record) -> Graph:
        scales = Scales(self.scales)
        has_attention = any(isinstance(op, Attention) for op in graph.ops)
        of_layers = scales is Scales.TOKEN or (scales is Scales.AUTO and has_attention)
        if not (of_layers or has_attention):
            record.misses.append(Miss("no attention"))
            return graph
        rows: dict[Op, Value] = {}
        usual = Bits.parse(self.bits)

        def rounded(x: Value, rounding: Op, builder: Builder, op: Op) -> Value:
            if isinstance(builder.producer(x), ROWS):
                return x
            if rounding not in rows:
                rows_op = replace(rounding, loc=op.loc.touched(self.name))
                rows[rounding] = builder.add(rows_op, f"{x.name}_rows")
                record.rewrites += 1
            return rows[rounding]

        def rewrite(op: Op, builder: Builder) -> Op:
            if isinstance(op, Attention):
                of_heads = RoundRows(op.q, op.q.type.shape[-1] // op.heads)
                return replace(op, q=rounded(op.q, of_heads, builder, op))
            if not (of_layers and isinstance(op, Linear)) or not op.x.type.is_float:
                return op
            if not isinstance(builder.producer(op.w), Constant):
                return op
            readers = graph.users[graph.producers[op.names[0]].operands[1].name]
            is_tied = any(isinstance(reader, Take) for reader in readers)
            bits = self.layers.get(op.names[0], EIGHT if is_tied else usual)
            return replace(op, x=rounded(op.x, rows_in(op.x, bits, record), builder, op))

        return graph.mapped(rewrite)


def rows_in(x: Value, bits: Bits, record: Record) -> Op:
    """x rounded as activations of these bits are, for a linear op."""
    width, block = x.type.shape[-1], bits.block
    if block and width % block:
        record.misses.append(Miss(f"rows of {width}, blocks of {block} do not divide them", x.name))
        block = 0
    if not 2 <= bits.activation <= BYTE:
        raise PassError(f"place-rows: activations of {bits}, 2 to {BYTE} bits in rows are needed")
    if bits.activation == BYTE and not block:
        return RoundRows(x, width)
    spread = spread_of(bits, width) if block else 0
    return RoundRowBlocks(x, block or width, bits.activation, spread)


def spread_of(bits: Bits, width: int) -> int:
    """By how many bits the exponents of blocks may differ: as sums of i32 allow, whatever the
    weights; codes of few bits stay within 8.
    """
    most = BYTE - bits.activation if bits.activation <= NARROW else MOST_SPREAD
    reach = (1 << bits.weight - 1) * (MULTIPLIERS if bits.group else 1)
    room = I32.max // (width * reach * code_top(bits.activation))
    return max(0, min(most, room.bit_length() - 1))
