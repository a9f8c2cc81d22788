"""Values of attention rotated, each head in itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Linear
from qir.ir.ops.sequence.matrices import factors, signs
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.outliers.tie_classes import TieClass, of_values


@register
@dataclass(frozen=True)
class RotateValues(Pass):
    """attention(q, k, v) of linear ops, read by o -> the same with v @ H, and columns of o times H

    H is a Hadamard matrix over the root of a head's size, one for each key-value head: each channel
    of the head is then a mean of all of them. It is folded into both layers.
    Keeps: reals within 1e-4.
    Source: QuaRot, arXiv:2404.00456, section 4, stage 1b; SpinQuant, arXiv:2405.16406 (R2).
    """

    name: ClassVar[str] = "rotate-values"
    claim: ClassVar[Claim] = keeps_reals(1e-4)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    def run(self, graph: Graph, record: Record) -> Graph:
        rows: dict[str, Array] = {}
        columns: dict[str, Array] = {}
        for op in graph.ops:
            if not isinstance(op, Attention):
                continue
            one = of_values(graph, op)
            size = op.v.type.shape[-1] // op.kv_heads
            if isinstance(one, TieClass) and factors(size) is None:
                one = Miss(f"heads of {size} channels have no Hadamard matrix", op.v.name)
            if isinstance(one, Miss):
                record.misses.append(one)
                continue
            h = signs(size) / np.sqrt(size)
            rows[one.source.names[0]] = h
            columns.update({reader.names[0]: h for reader in one.consumers})
            for name in one.names:
                count = op.heads if name == op.names[0] else op.kv_heads
                record.divided[name] = np.kron(np.eye(count), h)
            record.rewrites += 1

        return turned(graph, rows, columns, self.name) if record.rewrites else graph


def turned(graph: Graph, rows: Mapping[str, Array], columns: Mapping[str, Array], by: str) -> Graph:
    """The graph with blocks of outputs (`rows`) and inputs of linear ops times symmetric matrices,
    by the names of their results.
    """

    def rotated(op: Op, builder: Builder) -> Op:
        name, old = op.names[0], graph.producers[op.names[0]]
        if not isinstance(op, Linear) or not (name in rows or name in columns):
            return op
        assert isinstance(old, Linear)

        def constant(v: Value, elements: Array) -> Value:
            return builder.add(Constant.of(elements.astype(np.float32)), f"{v.name}_rotated")

        w, bias = constant_of(graph, old.w), constant_of(graph, old.bias)
        assert w is not None
        if name in columns:
            w = by_blocks(w, columns[name])
        if name in rows:
            w = by_blocks(w.T, rows[name]).T
        new = replace(op, w=constant(old.w, w), loc=op.loc.touched(by))
        if bias is None or old.bias is None or name not in rows:
            return new
        return replace(new, bias=constant(old.bias, by_blocks(bias, rows[name])))

    return graph.mapped(rotated)


def by_blocks(x: Array, h: Array) -> Array:
    """Blocks of the last axis times h."""
    return np.asarray(
        (x.reshape(*x.shape[:-1], -1, len(h)).astype(np.float64) @ h).reshape(x.shape)
    )
