"""Layers of a graph: convolutions and linear ops, their weights and biases."""

from __future__ import annotations

from collections.abc import Iterator

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Constant, Slice
from qir.ir.ops.kinds import Layer
from qir.ir.types import Array
from qir.passes.infra.manager import Miss


def layers_of(graph: Graph) -> Iterator[Layer]:
    """All layers, in order; a layer is named by its result, names[0]."""
    return (op for op in graph.ops if isinstance(op, Layer))


def float_layers(graph: Graph) -> dict[str, Layer]:
    """The layers whose weights are float constants, by name."""
    layers = (op for op in layers_of(graph) if op.w.type.is_float)
    return {op.names[0]: op for op in layers if weights_of(graph, op) is not None}


def check_names(graph: Graph, reference: Graph, by: str) -> list[Miss]:
    """Hold a graph to the contract by which values of two graphs are one: they have one name, as
    every pass keeps it (Graph.mapped). A Miss for each layer that the reference lacks.

    Errors: PassError where it has none of them, so that a pass `by` that compares the two would do
            nothing without a word.
    """
    layers = list(layers_of(graph))
    missing = [op for op in layers if not is_same(op, reference.producers.get(op.names[0]))]
    if layers and len(missing) == len(layers):
        raise PassError(
            f"pass {by}: none of {len(layers)} layers of graph @{graph.name} is in its reference"
            f" @{reference.name}, the float graph whose values have the same names is needed"
        )
    return [Miss("the reference has no such layer", op.names[0]) for op in missing]


def is_same(op: Layer, other: Op | None) -> bool:
    """Whether a layer of another graph is this one: it has one name, kind and shape of result."""
    same_kind = type(other) is type(op)
    return same_kind and other is not None and other.result.type.shape == op.result.type.shape


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


def is_of_channels(op: Op) -> bool:
    """Whether it slices some channels in order, and all of the other axes."""
    if not isinstance(op, Slice):
        return False
    shape = op.x.type.shape[:-1]
    is_rest = op.start[:-1] == (0,) * len(shape) and op.stop[:-1] == shape
    return is_rest and set(op.step) == {1}
