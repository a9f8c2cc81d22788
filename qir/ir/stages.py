"""What holds of a graph at each stage, as rules of verify (docs/explanation/canonical_form.md)."""

from __future__ import annotations

from collections.abc import Iterator

from qir.ir.graph import Graph
from qir.ir.op import Op, Value, meaning
from qir.ir.ops import BatchNorm, Constant, Dequantize, Maximum, Minimum, RoundRowBlocks, RoundRows
from qir.ir.ops.kinds import Contraction, Selection

FLOAT_STAGES = ("imported", "canonical", "transformed")


def canonical_stage(graph: Graph) -> Iterator[str]:
    """At the canonical stage no op is dead, none computes constants from constants, none is there
    twice, and no batch normalization by constants is left.
    """
    if graph.stage != "canonical":
        return
    live = {name for op in graph.without_dead_code().ops for name in op.names}
    firsts: dict[object, Op] = {}
    for op in graph.ops:
        if not live.intersection(op.names):
            yield f"{op}: no output needs it (remove-dead-code)"
        sources = [graph.producers.get(v.name) for v in op.operands]
        constants = [isinstance(source, Constant) for source in sources]
        is_real = op.has_floats() and op.result.type.is_float and not isinstance(op, Dequantize)
        if sources and all(constants) and is_real:
            yield f"{op}: all its operands are constants (fold-constants)"
        if isinstance(op, BatchNorm) and all(constants[1:]) and has_deviation(graph, op):
            yield f"{op}: its parameters are constants (fold-batch-norm)"
        if (first := firsts.setdefault(meaning(op), op)) is not op:
            yield f"{op}: equal to {first} (merge-equal-ops)"


def has_deviation(graph: Graph, op: BatchNorm) -> bool:
    """Whether variance + epsilon is over 0 everywhere, so that the op has a scale."""
    source = graph.producers[op.variance.name]
    assert isinstance(source, Constant)
    return bool((source.value.array + op.epsilon > 0).all())


def simulated_stage(graph: Graph) -> Iterator[str]:
    """At the simulated stage the operands of every contraction are dequantized, as elements of
    them still are, and the greater or lesser of two, or rounded by rows; so their sums are sums
    of integers.
    """
    if graph.stage != "simulated":
        return
    for op in graph.ops:
        if not isinstance(op, Contraction):
            continue
        for v in op.operands[:2]:
            if v.type.is_float and (source := not_dequantized(graph, v)):
                yield f"{op}: operand {v} comes from {source}, a dequantize is needed"


def not_dequantized(graph: Graph, value: Value) -> str:
    """The first source of `value`, through selections, maxima and minima, that is no dequantize and
    no rounded rows; empty if all are. Extrema read constants in the quantization of their results.
    """
    todo, visited = [value], {value.name}
    while todo:
        v = todo.pop()
        op = graph.producers.get(v.name)
        if op is None:
            return f"input {v}"
        if isinstance(op, (Selection, Maximum, Minimum)):
            sources = [w for w in op.operands if w.name not in visited]
            if not isinstance(op, Selection):
                sources = [w for w in sources if not is_constant(graph, w)]
            todo += sources
            visited.update(w.name for w in sources)
        elif not isinstance(op, (Dequantize, RoundRows, RoundRowBlocks)):
            return str(op)
    return ""


def is_constant(graph: Graph, value: Value) -> bool:
    return isinstance(graph.producers.get(value.name), Constant)


def integer_stage(graph: Graph) -> Iterator[str]:
    """At the integer stage no op works on floats, and no value or constant is one: the integer-only
    proof.
    """
    if graph.stage != "integer":
        return
    for value in graph.inputs:
        if value.type.is_float:
            yield f"input {value}: {value.type}, a quantized or integer tensor is needed"
    for op in graph.ops:
        if not op.has_integers():
            yield f"{op}: an op on floats, integer ops are needed"
        for value in op.results:
            if value.type.is_float:
                yield f"{op}: result {value.type}, a quantized or integer tensor is needed"
