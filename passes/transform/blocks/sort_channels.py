"""Channels sorted by size, so that blocks of them which share a scale hold like magnitudes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Linear, Rope
from qir.ir.ops.elementwise import Binary
from qir.ir.ops.kinds import Elementwise
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.attention_chains import Chain, chain_to
from qir.passes.transform.blocks.turned_weights import value_readers, with_turned_weights

WIDEST = 1024  # channels of a value of which a record says how they were sorted


@dataclass
class Orders:
    """Old places of the channels of linear ops' results (`rows`) and operands (`columns`), by the
    ops' names, and of the pairs of rotary embeddings (`pairs`).
    """

    record: Record
    rows: dict[str, Array] = field(default_factory=dict)
    columns: dict[str, Array] = field(default_factory=dict)
    pairs: dict[str, Array] = field(default_factory=dict)

    def sort(self, chain: Chain, order: Array) -> None:
        """The channels of a chain."""
        name = chain.layer.names[0]
        rows = self.rows.setdefault(name, np.arange(chain.layer.w.type.shape[0]))
        part = rows[chain.start : chain.stop]
        rows[chain.start : chain.stop] = part[order]
        self.say(name, rows)
        for other in chain.names:
            self.say(other, order)

    def say(self, name: str, order: Array) -> None:
        """Record how a value is given back: the matrix that puts channels where they were."""
        if len(order) <= WIDEST:
            self.record.divided[name] = np.eye(len(order))[order]

    def apply(self, graph: Graph, by: str) -> Graph:
        """The graph with all of them sorted."""
        result = with_turned_weights(
            graph,
            {name: partial(np.take, indices=at, axis=0) for name, at in self.rows.items()},
            {name: partial(np.take, indices=at, axis=1) for name, at in self.columns.items()},
            by,
        )
        tables: dict[tuple[str, bytes], Value] = {}

        def table(v: Value, order: Array, builder: Builder) -> Value:
            key = v.name, order.tobytes()
            if key not in tables:
                angles = constant_of(graph, v)
                assert angles is not None
                tables[key] = builder.add(Constant.of(angles[:, order]), f"{v.name}_sorted")
            return tables[key]

        def rewrite(op: Op, builder: Builder) -> Op:
            order = self.pairs.get(op.names[0])
            if order is None or not isinstance(op, Rope):
                return op
            cos, sin = (table(v, order, builder) for v in (op.cos, op.sin))
            loc = op.loc.touched(by)
            return replace(op, cos=cos, sin=sin, interleaved=True, loc=loc)

        return result.mapped(rewrite) if self.pairs else result


@register
@dataclass(frozen=True)
class SortHeads(Pass):
    """attention(q, k, v) of linear ops -> the same with the channels of each head sorted by the
    norms of the rows of wk (with them those of wq), and of wv (with them the columns of wo)

    Keys without a rotary embedding, and values, have an order for each key/value head. Behind a
    rotary embedding pairs are kept together, side by side, and all heads have one order, since they
    share the tables of angles, which are sorted alike.
    Keeps: reals within 1e-4.
    Source: K-sort of Trukhanov & Soloveychik, arXiv:2403.20137; pairs and groups: this project.
    """

    name: ClassVar[str] = "sort-heads"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        orders = Orders(record)
        heads = [op for op in graph.ops if isinstance(op, Attention)]
        if not heads:
            record.misses.append(Miss("no attention"))
            return graph
        for op in heads:
            for way in (sort_keys, sort_values):
                if (miss := way(graph, op, orders)) is None:
                    record.rewrites += 1
                else:
                    record.misses.append(Miss(miss.why, miss.at or op.names[0]))
        return orders.apply(graph, self.name) if record.rewrites else graph


def norms(graph: Graph, chain: Chain, heads: int) -> Array:
    """Those of the rows of weights, (heads, D)."""
    w = constant_of(graph, chain.layer.w)
    assert w is not None
    rows = w[chain.start : chain.stop].astype(np.float64)
    return np.asarray(np.linalg.norm(rows.reshape(len(rows), -1), axis=1).reshape(heads, -1))


def sort_keys(graph: Graph, op: Attention, orders: Orders) -> Miss | None:
    """The channels of keys by their norms, and those of queries alike."""
    queries, keys = (chain_to(graph, v) for v in (op.q, op.k))
    for chain in (queries, keys):
        if isinstance(chain, Miss):
            return chain
    assert isinstance(queries, Chain) and isinstance(keys, Chain)
    ropes = [
        [rope for n in chain.names if isinstance(rope := graph.producers[n], Rope)]
        for chain in (queries, keys)
    ]
    size = norms(graph, keys, op.kv_heads)
    if not any(ropes):
        each = np.argsort(-size, axis=1, kind="stable")
    else:
        order = by_pairs(graph, size, ropes, orders)
        if isinstance(order, Miss):
            return order
        each = np.broadcast_to(order, size.shape)
    shared = np.repeat(each, op.heads // op.kv_heads, 0)
    orders.sort(keys, flat(each))
    orders.sort(queries, flat(shared))
    return None


def by_pairs(
    graph: Graph, size: Array, ropes: list[list[Rope]], orders: Orders
) -> Array | Miss:  # fmt: skip
    """One order (D,) of all heads: pairs by their norms over all heads, each side by side; the
    channels behind the pairs stay last.
    """
    if any(len(each) != 1 for each in ropes):
        return Miss("queries and keys are not rotated alike")
    (q,), (k,) = ropes
    tables = [constant_of(graph, v) for rope in (q, k) for v in (rope.cos, rope.sin)]
    shape = q.cos.type.shape
    if any(t is None for t in tables) or k.cos.type.shape != shape or q.size != k.size:
        return Miss("its angles are no constants, or not those of both")
    if q.interleaved != k.interleaved or q.names[0] in orders.pairs or k.names[0] in orders.pairs:
        return Miss("its rotations are those of another attention")
    count = shape[1]
    first = 2 * np.arange(count) if k.interleaved else np.arange(count)
    mates = np.stack([first, first + (1 if k.interleaved else count)], 1)
    weight = np.square(size).sum(0)[mates].sum(1)
    by = np.argsort(-weight, kind="stable")
    orders.pairs[q.names[0]] = orders.pairs[k.names[0]] = by
    return np.concatenate([mates[by].reshape(-1), np.arange(2 * count, size.shape[1])])


def flat(each: Array) -> Array:
    """Orders of heads (heads, D) as one of all channels."""
    heads, width = each.shape
    return np.asarray((each + width * np.arange(heads)[:, None]).reshape(-1))


def sort_values(graph: Graph, op: Attention, orders: Orders) -> Miss | None:
    """The channels of values by their norms, and the columns of what reads the result alike."""
    chain, readers = chain_to(graph, op.v), value_readers(graph, op)
    if isinstance(chain, Miss):
        return chain
    if isinstance(readers, Miss):
        return readers
    each = np.argsort(-norms(graph, chain, op.kv_heads), axis=1, kind="stable")
    orders.sort(chain, flat(each))
    shared = flat(np.repeat(each, op.heads // op.kv_heads, 0))
    for reader in readers:
        orders.columns[reader] = shared
    orders.say(op.names[0], shared)
    return None


@register
@dataclass(frozen=True)
class SortChannels(Pass):
    """y = f(x @ w1.T) @ w2.T, f elementwise -> the same with the rows of w1 and the columns of w2
    sorted by the norms of the columns of w2

    Of f every value is read by f alone, and its other operands are linear ops of the same kind, as
    of a gated MLP, or constants for all channels. Groups of input channels of w2 that share a scale
    then hold like magnitudes.
    Keeps: reals within 1e-4.
    Source: as sort-heads; for any pair of layers: this project.
    """

    name: ClassVar[str] = "sort-channels"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        orders = Orders(record)
        for op in graph.ops:
            if not isinstance(op, Linear) or constant_of(graph, op.w) is None:
                continue
            makers = makers_of(graph, op)
            if isinstance(makers, Miss):
                record.misses.append(Miss(makers.why, makers.at or op.names[0]))
                continue
            w = constant_of(graph, op.w)
            assert w is not None
            by = np.argsort(-np.linalg.norm(w.astype(np.float64), axis=0), kind="stable")
            orders.columns[op.names[0]] = by
            for name, is_layer in makers.items():
                orders.say(name, by)
                if is_layer:
                    orders.rows[name] = by
            record.rewrites += 1
        return orders.apply(graph, self.name) if record.rewrites else graph


def makers_of(graph: Graph, op: Linear) -> Mapping[str, bool] | Miss:
    """The values between the linear ops that make the channels of x and op, by name, and whether
    each is the result of such a linear op.
    """
    makers: dict[str, bool] = {}
    todo, outputs = [op.x], {v.name for v in graph.outputs}
    while todo:
        v = todo.pop()
        if v.name in makers:
            continue
        maker = graph.producers.get(v.name)
        if v.name in outputs:
            return Miss("an output of the graph", v.name)
        makers[v.name] = isinstance(maker, Linear)
        if isinstance(maker, Linear):
            parts = (maker.w, *((maker.bias,) if maker.bias is not None else ()))
            if any(constant_of(graph, p) is None or not p.type.is_float for p in parts):
                return Miss("its weights are not float constants", v.name)
            continue
        if not isinstance(maker, Elementwise):
            return Miss("no elementwise function of linear ops makes its operand", v.name)
        operands = list(channel_operands(graph, maker))
        if not operands or any(o.type.shape != v.type.shape for o in operands):
            return Miss("something of another shape is in it", v.name)
        todo += operands
    readers = {r.names[0] for name in makers for r in graph.users.get(name, ())}
    strangers = readers - set(makers) - {op.names[0]}
    return Miss("something else reads it too", min(strangers)) if strangers else makers


def channel_operands(graph: Graph, op: Op) -> Iterator[Value]:
    """The operands that have channels: all but constants of one number."""
    for v in op.operands:
        array = constant_of(graph, v) if isinstance(op, Binary) else None
        if array is None or array.size != 1:
            yield v
