"""Keys and values of attention in fewer bits, as a cache holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from qir.ir.errors import PassError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import AttentionFixed, PackRows, UnpackRows
from qir.ir.ops.sequence import blocks
from qir.ir.types import Bfp, Packing, Span
from qir.passes.infra.manager import Claim, Miss, Pass, Record, changes, register

EXPONENT_BITS = 8
WHOLE = 8  # bits of keys and values that are not packed
KINDS = ("span", "bfp")


@register
@dataclass(frozen=True)
class PackCaches(Pass):
    """attention_fixed(q, k, v) -> attention_fixed(q, unpack_rows(pack_rows(k)), ...)

    `keys` and `values`: span or bfp with the bits of a code, as in span4, or empty where they stay;
    blocks of `block` channels, at most a head.
    Changes: keys and values are rounded to so many bits a block.
    Source: arXiv:2402.02750 and arXiv:2403.20137; see the op pack_rows.
    """

    name: ClassVar[str] = "pack-caches"
    claim: ClassVar[Claim] = changes("keys and values are rounded to few bits in blocks")
    stages: ClassVar[tuple[str, ...]] = ("integer",)

    keys: str = "span4"
    values: str = "span4"
    block: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in (self.keys, self.values):
            kind_and_bits(kind)

    def run(self, graph: Graph, record: Record) -> Graph:
        heads = [op for op in graph.ops if isinstance(op, AttentionFixed)]
        if not heads:
            record.misses.append(Miss("no attention"))
            return graph

        def packed(x: Value, kind: str, op: AttentionFixed, builder: Builder) -> Value:
            packing = packing_of(kind, self.block, x.type.shape[-1] // op.kv_heads)
            if packing is None or isinstance(builder.producer(x), UnpackRows):
                return x
            if isinstance(packing, Miss):
                record.misses.append(Miss(packing.why, x.name))
                return x
            loc = op.loc.touched(self.name)
            rows = builder.add(PackRows(x, packing, loc=loc), f"{x.name}_packed")
            unpack = UnpackRows(rows, None, packing, x.type.shape[-1], 0, x.type.quant, loc=loc)
            record.rewrites += 1
            return builder.add(unpack, f"{x.name}_unpacked")

        def pack(op: Op, builder: Builder) -> Op:
            if not isinstance(op, AttentionFixed):
                return op
            k = packed(op.k, self.keys, op, builder)
            return replace(op, k=k, v=packed(op.v, self.values, op, builder))

        return graph.mapped(pack)


def kind_and_bits(kind: str) -> tuple[str, int] | None:
    """("span", 4) of span4; None of "". Errors: PassError for what names no format."""
    name, bits = kind.rstrip("0123456789"), kind[len(kind.rstrip("0123456789")) :]
    widths = blocks.PLANES if name == "bfp" else [b for b in blocks.PLANES if b < WHOLE]
    if not kind:
        return None
    if name not in KINDS or not bits or int(bits) not in widths:
        raise PassError(
            f"pass pack-caches: {kind!r} given, span4, span6, bfp4, bfp6 or bfp8 is needed"
        )
    return name, int(bits)


def packing_of(kind: str, block: int, head: int) -> Packing | Miss | None:
    """The format of a head's channels in blocks of at most `block`; None where they stay."""
    parts = kind_and_bits(kind)
    if parts is None:
        return None
    name, bits = parts
    size = min(block, head)
    unit = 8 // min(blocks.PLANES[bits])
    if size < 1 or head % size or size % unit:
        return Miss(f"heads of {head} channels, blocks of {size}: a divisor and {unit} * n needed")
    return Span(bits, size, 2) if name == "span" else Bfp(bits, EXPONENT_BITS, size, 2)
