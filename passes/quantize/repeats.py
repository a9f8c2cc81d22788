"""Layers that share their weights, as the steps of an unrolled recurrence do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops.kinds import Layer
from qir.passes.calibrate.ranges import Ranges

NEAR = 1.25  # a shared range costs its narrowest member log2 of this in bits, at most
LEVELS = 256
DEPTH = 8  # ops between a value and its layers: what lies beyond is not compared


def with_shared_ranges(graph: Graph, ranges: Ranges) -> Ranges:
    """Ranges in which like values of repeated layers have one range, where theirs are within NEAR.

    Equal ranges make equal scales, and with these one set of multipliers, biases and tables serves
    every use of the weights. Like values are the inputs of layers with the same weights, their
    results, and results of the same ops on like values.
    Source: this project.
    """
    observations = dict(ranges.observations)
    for names in _like_values(graph):
        for cluster in _clusters([n for n in names if n in ranges.observations], ranges):
            observations.update(dict.fromkeys(cluster, ranges.seen_of(cluster)))
    return replace(ranges, observations=observations)


def _clusters(names: Sequence[str], ranges: Ranges) -> Iterator[list[str]]:
    """Values whose ranges reach about as far, widest first."""
    reach = {n: max(map(abs, ranges.of([n], LEVELS))) for n in names}
    cluster: list[str] = []
    for name in sorted(names, key=lambda n: (-reach[n], n)):
        if cluster and reach[name] * NEAR < reach[cluster[0]]:
            yield cluster
            cluster = []
        cluster.append(name)
    yield cluster


def _like_values(graph: Graph) -> Iterator[list[str]]:
    """Values that have the same part in several uses of the same weights."""
    uses: dict[str, list[Layer]] = defaultdict(list)
    for op in graph.ops:
        if isinstance(op, Layer):
            uses[op.w.name].append(op)
    repeated = {w for w, layers in uses.items() if len(layers) > 1}
    if not repeated:
        return
    for w in sorted(repeated):
        yield list(dict.fromkeys(layer.x.name for layer in uses[w]))
    like: dict[object, list[str]] = defaultdict(list)
    for op in graph.ops:
        part = _part(graph, op, repeated, DEPTH)
        if part is not None and len(op.names) == 1:
            like[part].append(op.names[0])
    yield from (names for names in like.values() if len(names) > 1)


def _part(graph: Graph, op: Op, repeated: set[str], depth: int) -> tuple[object, ...] | None:
    """What an op computes of results of repeated layers; None if it reads none of them."""
    if isinstance(op, Layer):
        return (type(op), op.w.name, *_attributes(op)) if op.w.name in repeated else None
    if depth == 0:
        return None
    parts: list[object] = []
    for v in op.operands:
        maker = graph.producers.get(v.name)
        part = None if maker is None else _part(graph, maker, repeated, depth - 1)
        is_constant = maker is not None and not maker.operands
        parts.append(v.name if is_constant else part)
    if not any(isinstance(part, tuple) for part in parts):
        return None
    return (type(op), *_attributes(op), *parts)


def _attributes(op: Op) -> Iterator[str]:
    """What distinguishes ops of one class, operands aside; a layer's bias is one of them."""
    for f in fields(op):
        value = getattr(op, f.name)
        is_operand = isinstance(value, Value) or f.name in ("names", "loc")
        if f.name == "bias" or not is_operand:
            yield f"{f.name}={value}"
