"""Layers of a graph: convolutions and linear ops, their weights and biases."""

from __future__ import annotations

from collections.abc import Iterator

from qir.ir.graph import Graph
from qir.ir.op import Value
from qir.ir.ops import Constant
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array


def layers_of(graph: Graph) -> Iterator[Layer]:
    """All layers, in order; a layer is named by its result, names[0]."""
    return (op for op in graph.ops if isinstance(op, Layer))


def float_layers(graph: Graph) -> dict[str, Layer]:
    """The layers whose weights are float constants, by name."""
    found = (op for op in layers_of(graph) if op.w.type.is_float)
    return {op.names[0]: op for op in found if weights_of(graph, op) is not None}


def weights_of(graph: Graph, layer: Layer) -> Array | None:
    """The elements (O, ..., I) of constant weights, else None."""
    return constant_of(graph, layer.w)


def bias_of(graph: Graph, layer: Layer) -> Array | None:
    """The elements (O,) of a constant bias, else None."""
    return constant_of(graph, layer.bias)


def constant_of(graph: Graph, value: Value | None) -> Array | None:
    """The stored elements of a constant, None for any other value and for none."""
    op = None if value is None else graph.producers.get(value.name)
    return op.value.array if isinstance(op, Constant) else None
