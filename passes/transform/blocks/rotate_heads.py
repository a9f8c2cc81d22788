"""Heads of attention rotated by Hadamard matrices, so that no channel of a block is an outlier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Hadamard, Linear
from qir.ir.ops.sequence import matrices as hadamard
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.attention_chains import Chain, chain_to


@register
@dataclass(frozen=True)
class RotateKeys(Pass):
    """attention(q, k, v) -> attention(hadamard(q), hadamard(k), v)

    Each head is rotated behind its rotary embedding, at run time; scores stay as they are.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4 (R3).
    """

    name: ClassVar[str] = "rotate-keys"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        if not any(isinstance(op, Attention) for op in graph.ops):
            record.misses.append(Miss("no attention"))

        def rotated(op: Op, builder: Builder) -> Op:
            if not isinstance(op, Attention):
                return op
            size = op.q.type.shape[-1] // op.heads
            if hadamard.factors(size) is None:
                record.misses.append(Miss(f"heads of {size} have no Hadamard matrix", op.names[0]))
                return op
            made = []
            for x in (op.q, op.k):
                rows = Hadamard(x, size, loc=op.loc.touched(self.name))
                made.append(builder.add(rows, f"{x.name}_rotated"))
            record.rewrites += 1
            return replace(op, q=made[0], k=made[1])

        return graph.mapped(rotated)


@register
@dataclass(frozen=True)
class RotateValues(Pass):
    """attention(q, k, v) of v = x @ wv.T, read by y = a @ wo.T -> the same with the heads of wv and
    of wo rotated

    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4 (R2).
    """

    name: ClassVar[str] = "rotate-values"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        rows: dict[str, Callable[[Array], Array]] = {}
        columns: dict[str, Callable[[Array], Array]] = {}
        for op in graph.ops:
            if isinstance(op, Attention):
                miss = self._plan(graph, op, rows, columns, record)
                if miss is not None:
                    record.misses.append(Miss(miss.why, miss.at or op.names[0]))
        return with_turned_weights(graph, rows, columns, self.name) if record.rewrites else graph

    def _plan(
        self, graph: Graph, op: Attention, rows: dict[str, Callable[[Array], Array]],
        columns: dict[str, Callable[[Array], Array]], record: Record,
    ) -> Miss | None:  # fmt: skip
        size = op.v.type.shape[-1] // op.kv_heads
        chain, readers = chain_to(graph, op.v), value_readers(graph, op)
        if isinstance(chain, Miss):
            return chain
        if isinstance(readers, Miss):
            return readers
        if hadamard.factors(size) is None:
            return Miss(f"heads of {size} have no Hadamard matrix")
        name, span = chain.layer.names[0], slice(chain.start, chain.stop)
        if name in rows or any(reader in columns for reader in readers):
            return Miss("its layers are rotated for another attention")
        by = hadamard.signs(size) / np.sqrt(size)

        def turned(w: Array) -> Array:
            """Rows of heads, each head times the matrix."""
            new = w.copy()
            heads = w[span].reshape(-1, size, *w.shape[1:])
            new[span] = np.einsum("ds,hd...->hs...", by, heads).reshape(w[span].shape)
            return new

        def read(w: Array) -> Array:
            return np.asarray((w.reshape(len(w), -1, size) @ by).reshape(w.shape))

        rows[name] = turned
        columns.update(dict.fromkeys(readers, read))
        record.rewrites += 1
        record.divided.update(_divided(chain, by))
        record.divided[op.names[0]] = np.kron(np.eye(op.heads), by.T)
        return None


def _divided(chain: Chain, by: Array) -> dict[str, Array]:
    """What gives back the values of the chain."""
    width, count = chain.layer.w.type.shape[0], (chain.stop - chain.start) // len(by)
    whole = np.eye(width)
    whole[chain.start : chain.stop, chain.start : chain.stop] = np.kron(np.eye(count), by.T)
    part = np.kron(np.eye(count), by.T)
    return {chain.layer.names[0]: whole, **dict.fromkeys(chain.names, part)}


def value_readers(graph: Graph, op: Attention) -> tuple[str, ...] | Miss:
    """The linear ops of float constants that alone read the result of attention."""
    if op.names[0] in {v.name for v in graph.outputs}:
        return Miss("an output of the graph")
    readers = graph.users.get(op.names[0], ())
    for reader in readers:
        w = constant_of(graph, reader.w) if isinstance(reader, Linear) else None
        if w is None or w.dtype.kind != "f":
            return Miss(f"{reader.mnemonic} reads it, a linear op of constants is needed")
    return tuple(reader.names[0] for reader in readers)


def with_turned_weights(
    graph: Graph, rows: dict[str, Callable[[Array], Array]],
    columns: dict[str, Callable[[Array], Array]], by: str,
) -> Graph:  # fmt: skip
    """The graph with functions of the weights (O, I), and for `rows` of the bias (O,), of linear
    ops by name.
    """

    def changed(op: Op, builder: Builder) -> Op:
        name = op.names[0]
        if not isinstance(op, Linear) or not (name in rows or name in columns):
            return op
        old = graph.producers[name]
        assert isinstance(old, Linear)

        def made(v: Value, *turns: Callable[[Array], Array] | None) -> Value:
            elements = constant_of(graph, v)
            assert elements is not None
            wide = elements.astype(np.float64)
            for turn in turns:
                wide = wide if turn is None else turn(wide)
            new = replace(Constant.of(wide.astype(np.float32)), loc=op.loc.touched(by))
            return builder.add(new, f"{v.name}_turned")

        w = made(old.w, rows.get(name), columns.get(name))
        is_turned = old.bias is not None and name in rows
        bias = made(old.bias, rows[name]) if is_turned and old.bias is not None else op.bias
        return replace(op, w=w, bias=bias)

    return graph.mapped(changed)
