"""Gathers along one index axis, the only ones that kernels know."""

from __future__ import annotations

from dataclasses import replace

from qir.ir.data import Data
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Gather, Reshape


def with_flat_gathers(graph: Graph) -> Graph:
    """gather(x, index (...)) -> reshape(gather(x, index (n,))), which lies wherever a result may:
    inside a concat, or in a frame for the convolution that reads it.

    Keeps: every bit.
    """
    return graph.mapped(_flat)


def _flat(op: Op, builder: Builder) -> Op | tuple[Value, ...]:
    if not isinstance(op, Gather) or op.index.array.ndim == 1:
        return op
    flat = replace(op, index=Data(op.index.array.reshape(-1)), names=())
    rows = builder.add(flat, f"{op.names[0]}_rows")
    return Reshape(rows, op.result.type.shape, loc=op.loc)
