"""Heads of attention rotated by Hadamard matrices, so that no channel of a block is an outlier."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Hadamard, Mul
from qir.ir.ops.sequence import matrices
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.calibrate.ranges import rows_of, run_chunk, run_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.attention_chains import Chain, chain_to
from qir.passes.transform.blocks.turned_weights import value_readers, with_turned_weights

ROWS = 16  # of the sample, from which sizes are taken


@register
@dataclass(frozen=True)
class RotateKeys(Pass):
    """attention(q, k, v) -> attention(hadamard(q * s), hadamard(k / s), v)

    Each head is rotated behind its rotary embedding, at run time; scores stay as they are. With a
    sample s is what makes the error of scores least when all channels of a rotated key err alike:
    s**2 of a channel is the size (root of the mean square) of keys over that of queries, times a
    number for each head that brings all rotated keys to one size. Without a sample s is 1.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4 (R3); the sizes before it: this project.
    """

    name: ClassVar[str] = "rotate-keys"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    sample: tuple[Array, ...] = ()

    def run(self, graph: Graph, record: Record) -> Graph:
        heads = [op for op in graph.ops if isinstance(op, Attention)]
        if not heads:
            record.misses.append(Miss("no attention"))
            return graph
        names = {v.name for op in heads for v in (op.q, op.k)}
        sizes = channel_sizes(graph, self.sample, names) if self.sample else {}

        def scaled(x: Value, by: Array, builder: Builder, op: Op) -> Value:
            """x * by; a product with a constant before it is of both."""
            maker = builder.producer(x)
            if isinstance(maker, Mul) and maker.a.type == x.type:
                inner = builder.producer(maker.b)
                if isinstance(inner, Constant) and maker.b.type.shape == by.shape:
                    x, by = maker.a, by * inner.value.array
            even = builder.add(Constant.of(by.astype(np.float32)), f"{x.name}_evener")
            return builder.add(Mul(x, even, loc=op.loc.touched(self.name)), f"{x.name}_balanced")

        def rewrite(op: Op, builder: Builder) -> Op:
            if not isinstance(op, Attention):
                return op
            size = op.q.type.shape[-1] // op.heads
            if matrices.factors(size) is None:
                record.misses.append(Miss(f"heads of {size} have no Hadamard matrix", op.names[0]))
                return op
            operands = []
            by = balance(op, sizes)
            for x, scales in zip((op.q, op.k), by, strict=True):
                even = x if scales is None else scaled(x, scales, builder, op)
                rows = Hadamard(even, size, loc=op.loc.touched(self.name))
                operands.append(builder.add(rows, f"{x.name}_rotated"))
            record.rewrites += 1
            return replace(op, q=operands[0], k=operands[1])

        return graph.mapped(rewrite)


LEAST = 1e-3  # of the largest size of a head: channels that hold less are scaled as if they had it
FAR = 8.0  # times the mean of a head that s may be: products with it are stored in 16 bits


def balance(op: Attention, sizes: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    """(s of queries, (heads * D,), 1 / s of keys, (kv_heads * D,)); none without sizes."""
    if op.q.name not in sizes or op.k.name not in sizes:
        return None, None
    q = np.square(sizes[op.q.name]).reshape(op.kv_heads, op.heads // op.kv_heads, -1).mean(1)
    k = np.square(sizes[op.k.name]).reshape(op.kv_heads, -1)
    if not (q.max(1).all() and k.max(1).all()):
        return None, None
    q, k = (np.sqrt(np.maximum(x, LEAST**2 * x.max(1, keepdims=True))) for x in (q, k))
    s = np.sqrt(k / q)
    mean = np.exp(np.log(s).mean(1, keepdims=True))
    s = np.clip(s, mean / FAR, mean * FAR)
    s *= np.sqrt(np.square(k / s).mean(1, keepdims=True))
    return np.repeat(s, op.heads // op.kv_heads, 0).reshape(-1), 1 / s.reshape(-1)


def channel_sizes(
    graph: Graph, sample: tuple[Array, ...], names: Container[str]
) -> Mapping[str, Array]:
    """The root of the mean square of each channel, (C,), of the values called `names`."""
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}

    def watch(value: Value, x: Any) -> None:
        if value.name in names:
            rows = x.detach().double().square().reshape(-1, x.shape[-1])
            sums[value.name] = sums.get(value.name, 0.0) + rows.sum(0).numpy()
            counts[value.name] = counts.get(value.name, 0) + len(rows)

    for i in range(min(ROWS, len(sample[0]) // rows_of(graph.inputs[0]))):
        run_chunk(graph, run_of(graph, sample, i), watch)
    return {n: np.sqrt(total / counts[n]) for n, total in sums.items()}


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
        if matrices.factors(size) is None:
            return Miss(f"heads of {size} have no Hadamard matrix")
        name, span = chain.layer.names[0], slice(chain.start, chain.stop)
        if name in rows or any(reader in columns for reader in readers):
            return Miss("its layers are rotated for another attention")
        by = matrices.signs(size) / np.sqrt(size)

        def rotate_rows(w: Array) -> Array:
            """Rows of heads, each head times the matrix."""
            new = w.copy()
            heads = w[span].reshape(-1, size, *w.shape[1:])
            new[span] = np.einsum("ds,hd...->hs...", by, heads).reshape(w[span].shape)
            return new

        def rotate_columns(w: Array) -> Array:
            return np.asarray((w.reshape(len(w), -1, size) @ by).reshape(w.shape))

        rows[name] = rotate_rows
        columns.update(dict.fromkeys(readers, rotate_columns))
        record.rewrites += 1
        record.divided.update(_divided(chain, by))
        record.divided[op.names[0]] = np.kron(np.eye(op.heads), by.T)
        return None


def _divided(chain: Chain, by: Array) -> dict[str, Array]:
    """What gives back the values of the chain."""
    width, count = chain.layer.w.type.shape[0], (chain.stop - chain.start) // len(by)
    matrix = np.eye(width)
    matrix[chain.start : chain.stop, chain.start : chain.stop] = np.kron(np.eye(count), by.T)
    part = np.kron(np.eye(count), by.T)
    return {chain.layer.names[0]: matrix, **dict.fromkeys(chain.names, part)}
