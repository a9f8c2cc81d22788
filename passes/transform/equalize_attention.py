"""Keys and values of attention changed so that one scale fits the channels of all heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op
from qir.ir.ops import Attention, Constant, Linear
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.attention_chains import Chain, chain_to, pairs_of
from qir.passes.transform.channel_ranges import Reach, channel_reach
from qir.passes.transform.equalize_channels import NARROWEST, choose_scales
from qir.passes.transform.pair_ranges import ANGLES, pair_reach


@register
@dataclass(frozen=True)
class EqualizeAttention(Pass):
    """attention(q, k, v) of linear ops -> the same with k @ T, q @ inverse(T).T, v / t, and o(y) of
    the result with columns * t

    T of a key's head: each rotary pair is turned by the angle that gives both of its channels the
    least reach, which rope commutes with, and divided by that reach; without rope a channel is
    divided by its own. So scores q @ k.T stay, and all keys reach 1: they have one scale, while
    queries find one for each token and head at run time. t as of equalize-channels.
    Keeps: reals within 1e-4.
    Source: scales of keys folded into queries as in Xiao et al. 2023, arXiv:2211.10438, section 4;
            angles of pairs: this project.
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
        values = channel_reach(graph, self.sample, {op.v.name for op in heads})
        pairs = pair_reach(graph, self.sample, heads)
        for op in heads:
            misses = (
                turn_keys(graph, op, pairs, changes), scale_values(graph, op, values, changes)
            )  # fmt: skip
            for miss in misses:
                if miss is None:
                    record.rewrites += 1
                else:
                    record.misses.append(Miss(miss.why, miss.at or op.names[0]))
        return changes.made(graph, self.name) if record.rewrites else graph


@dataclass
class Changes:
    """What the results of linear ops are multiplied by, and their operands: rows of weights times
    a matrix, (start, stop, (C, C)) of each part; columns times numbers, (I,).
    """

    record: Record
    rows: dict[str, list[tuple[int, int, Array]]] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)

    def multiply(self, chain: Chain, by: Array) -> None:
        """y -> y @ by on the channels of a chain."""
        name, size = chain.layer.names[0], chain.layer.w.type.shape[0]
        self.rows.setdefault(name, []).append((chain.start, chain.stop, by))
        back = np.linalg.inv(by)
        self.record.divided.update(dict.fromkeys(chain.names, back))
        whole = self.record.divided.setdefault(name, np.eye(size))
        whole[chain.start : chain.stop, chain.start : chain.stop] = back

    def made(self, graph: Graph, by: str) -> Graph:
        """The graph with new weights and biases."""

        def changed(op: Op, builder: Builder) -> Op:
            name = op.names[0]
            if not isinstance(op, Linear) or not (name in self.rows or name in self.columns):
                return op
            parts, new = self.rows.get(name, []), {}
            for what, v in (("w", op.w), ("bias", op.bias)):
                if v is None:
                    continue
                source = builder.producer(v)
                assert isinstance(source, Constant)
                wide = source.value.array.astype(np.float64)
                if what == "w":
                    wide = wide * self.columns.get(name, 1.0)
                for start, stop, matrix in parts:
                    wide[start:stop] = matrix.T @ wide[start:stop]
                elements = Constant.of(wide.astype(source.value.array.dtype))
                new[what] = builder.add(elements, f"{v.name}_eq")
            return replace(op, w=new["w"], bias=new.get("bias"), loc=op.loc.touched(by))

        return graph.mapped(changed)


def turn_keys(
    graph: Graph, op: Attention, reach: Mapping[str, Array], changes: Changes
) -> Miss | None:
    """Multiply keys by T and queries by inverse(T).T, as the pass says."""
    queries, keys = (chain_to(graph, v) for v in (op.q, op.k))
    for chain in (queries, keys):
        if isinstance(chain, Miss):
            return chain
    assert isinstance(queries, Chain) and isinstance(keys, Chain)
    k, size = reach[op.k.name], op.k.type.shape[-1] // op.kv_heads  # (heads, pairs, ANGLES)
    if not k.any():
        return Miss("its keys are 0 on the sample", op.k.name)
    turned = np.zeros((op.kv_heads, size, size))
    pairs = pairs_of(graph, op.k, size)
    for head in range(op.kv_heads):
        wide = np.maximum(k[head], np.roll(k[head], ANGLES // 2, -1))  # of both channels of a pair
        best = wide.argmin(1) * np.array([len(p) - 1 for p in pairs])
        at = np.arange(len(pairs)), best
        s = np.maximum(wide[at], wide.max() * NARROWEST)
        for p, angle, by in zip(pairs, best * np.pi / ANGLES, s, strict=True):
            c, d = np.cos(angle), np.sin(angle)
            turn = np.array([[c, -d], [d, c]]) if len(p) == 2 else np.ones((1, 1))
            turned[head][np.ix_(p, p)] = turn / by
    repeat = op.heads // op.kv_heads
    inverse = np.linalg.inv(turned).transpose(0, 2, 1)
    changes.multiply(keys, block_diagonal(turned))
    changes.multiply(queries, block_diagonal(np.repeat(inverse, repeat, 0)))
    return None


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
    spread = np.repeat(t.reshape(op.kv_heads, -1), op.heads // op.kv_heads, 0).reshape(-1)
    changes.multiply(chain, np.diag(1 / t))
    changes.columns.update(dict.fromkeys((r.names[0] for r in readers), spread))
    changes.record.divided[op.names[0]] = spread
    return None


def block_diagonal(blocks: Array) -> Array:
    """(n, C, C) -> (n * C, n * C)"""
    count, size, _ = blocks.shape
    whole = np.zeros((count, size, count, size))
    whole[np.arange(count), :, np.arange(count)] = blocks
    return whole.reshape(count * size, count * size)
