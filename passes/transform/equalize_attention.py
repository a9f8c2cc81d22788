"""Keys and values of attention changed so that one scale fits the channels of all heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Attention, Constant, Linear, Mul
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.calibrate.ranges import cut, rows_of
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.attention_chains import Chain, chain_to, pairs_of
from qir.passes.transform.channel_ranges import Reach, channel_reach
from qir.passes.transform.equalize_channels import choose_scales, rescaled, widened

SEEN = 2048  # elements of a channel, of a sample that has as many
LEAST = 1 / 16  # of what is left behind a rotation: its reciprocals are stored in 16 bits
UNLIKE = 1 / 2  # of the pair's reach: a channel that has more of it is left as it is


@register
@dataclass(frozen=True)
class EqualizeAttention(Pass):
    """attention(q, k, v) of linear ops -> the same with k / s, q * s, v / t, and o(y) of the result
    with columns * t

    s of a key's channel is what it reaches: all keys reach 1, and have one scale, while queries
    find one for each token and head at run time. It is folded into the weights; behind a rotation,
    only as far as both channels of a rotary pair share it, and where one of them reaches much less
    (slow pairs hardly turn), the rest is a product behind the rotation. t as of equalize-channels.
    Keeps: reals within 1e-4.
    Source: scales of keys folded into queries as in Xiao et al. 2023, arXiv:2211.10438, section 4;
            rotary pairs: this project.
    """

    name: ClassVar[str] = "equalize-attention"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        heads = [op for op in graph.ops if isinstance(op, Attention)]
        if not heads or not self.sample:
            record.misses.append(Miss("no attention" if self.sample else "no sample is given"))
            return graph
        changes = Changes(record)
        names = {v.name for op in heads for v in (op.k, op.v)}
        runs = -(-SEEN // min(prod(op.k.type.shape[:-1]) for op in heads))
        sample = cut(graph, self.sample, 0, rows_of(graph.inputs[0]) * runs)
        reach = channel_reach(graph, sample, names)
        for op in heads:
            for way in (scale_keys, scale_values):
                if (miss := way(graph, op, reach, changes)) is None:
                    record.rewrites += 1
                else:
                    record.misses.append(Miss(miss.why, miss.at or op.names[0]))
        return changes.apply(graph, self.name) if record.rewrites else graph


@dataclass
class Changes:
    """What the results of linear ops are divided by, (O,), and their operands multiplied by, (I,);
    `behind`: of an attention, what queries and keys are multiplied by as it reads them.
    """

    record: Record
    rows: dict[str, Array] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    behind: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    def divide(self, chain: Chain, by: Array) -> None:
        """The channels of a chain."""
        name = chain.layer.names[0]
        rows = self.rows.setdefault(name, np.ones(chain.layer.w.type.shape[0]))
        rows[chain.start : chain.stop] *= by
        self.record.divided.update(dict.fromkeys(chain.names, by))
        self.record.divided[name] = rows

    def apply(self, graph: Graph, by: str) -> Graph:
        """The graph with new weights and biases, and products in front of attention."""

        def multiplied(op: Op, builder: Builder) -> Op:
            factors = self.behind.get(op.names[0])
            if factors is None or not isinstance(op, Attention):
                return op
            operands = []
            for x, factor in zip((op.q, op.k), factors, strict=True):
                even = builder.add(Constant.of(factor.astype(np.float32)), f"{x.name}_factor")
                product = Mul(x, even, loc=op.loc.touched(by))
                operands.append(builder.add(product, f"{x.name}_even"))
            return replace(op, q=operands[0], k=operands[1], loc=op.loc.touched(by))

        return rescaled(graph, self.rows, self.columns, by).mapped(multiplied)


def scale_keys(
    graph: Graph, op: Attention, halves: Mapping[str, Reach], changes: Changes
) -> Miss | None:
    """Divide keys by s, and multiply queries by it: the part that the channels of a rotary pair
    share in the weights, the rest behind the rotation.
    """
    queries, keys = (chain_to(graph, v) for v in (op.q, op.k))
    for chain in (queries, keys):
        if isinstance(chain, Miss):
            return chain
    assert isinstance(queries, Chain) and isinstance(keys, Chain)
    reach = halves.get(op.k.name)
    if reach is None or not reach.of_all.any():
        return Miss("its keys are 0 on the sample", op.k.name)
    each = widened(reach.of_all).reshape(op.kv_heads, -1)
    shared = each.copy()
    for pair in pairs_of(graph, op.k, each.shape[1]):
        shared[:, pair] = each[:, pair].max(1, keepdims=True)
    rest = np.maximum(each / shared, LEAST)
    changes.divide(keys, shared.reshape(-1))
    changes.divide(queries, 1 / by_head(shared, op))
    if rest.min() < UNLIKE:
        changes.behind[op.names[0]] = by_head(rest, op), 1 / rest.reshape(-1)
    return None


def by_head(keys: Array, op: Attention) -> Array:
    """(kv_heads, C) -> (heads * C,): the numbers of the key that each query head reads."""
    return np.repeat(keys, op.heads // op.kv_heads, 0).reshape(-1)


def scale_values(
    graph: Graph, op: Attention, halves: Mapping[str, Reach], changes: Changes
) -> Miss | None:
    """Divide values by t, and multiply columns of what reads the result by it."""
    chain, reach = chain_to(graph, op.v), halves.get(op.v.name)
    if isinstance(chain, Miss):
        return chain
    if reach is None or not reach.of_all.any():
        return Miss("its values are 0 on the sample", op.v.name)
    if op.names[0] in {v.name for v in graph.outputs}:
        return Miss("an output of the graph")
    readers, weights = graph.users.get(op.names[0], ()), []
    for reader in readers:
        w = constant_of(graph, reader.w) if isinstance(reader, Linear) else None
        if w is None or w.dtype.kind != "f":
            return Miss(f"{reader.mnemonic} reads it, a linear op of constants is needed")
        shared = w.astype(np.float64).T.reshape(op.kv_heads, op.heads // op.kv_heads, -1, len(w))
        weights += [part.reshape(1, -1, len(w), 1) for part in shared.transpose(1, 0, 2, 3)]
    t = choose_scales(reach, weights)
    spread = by_head(t.reshape(op.kv_heads, -1), op)
    changes.divide(chain, t)
    changes.columns.update(dict.fromkeys((r.names[0] for r in readers), spread))
    changes.record.divided[op.names[0]] = spread
    return None
