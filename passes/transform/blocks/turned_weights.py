"""Linear ops whose weights, and those that read them, are changed together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Attention, Constant, Linear
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Miss


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

    def rewrite(op: Op, builder: Builder) -> Op:
        name = op.names[0]
        if not isinstance(op, Linear) or not (name in rows or name in columns):
            return op
        old = graph.producers[name]
        assert isinstance(old, Linear)

        def constant(v: Value, *turns: Callable[[Array], Array] | None) -> Value:
            elements = constant_of(graph, v)
            assert elements is not None
            wide = elements.astype(np.float64)
            for turn in turns:
                wide = wide if turn is None else turn(wide)
            new = replace(Constant.of(wide.astype(np.float32)), loc=op.loc.touched(by))
            return builder.add(new, f"{v.name}_turned")

        w = constant(old.w, rows.get(name), columns.get(name))
        is_turned = old.bias is not None and name in rows
        bias = constant(old.bias, rows[name]) if is_turned and old.bias is not None else op.bias
        return replace(op, w=w, bias=bias)

    return graph.mapped(rewrite)
