"""Parts of a simulated graph that are rounded by themselves: layers, and blocks of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import networkx as nx

from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Dequantize, Quantize
from qir.ir.ops.kinds import Layer
from qir.ir.ops.unary import Clamp
from qir.passes.infra.layers import layers_of
from qir.passes.quantize.stored_weights import StoredWeights

MOST_LAYERS = 12  # of a block: what is larger is rounded layer by layer
SOURCE, SINK = "%inputs", "%outputs"  # of the view that dominators are looked for in


@dataclass(frozen=True)
class BlockGraph:
    """A part of a simulated graph, as a graph of its own, with the layers in it.

    Its inputs and outputs have the names they have in the whole graph; the outputs are values of
    the float graph too.
    """

    graph: Graph
    layers: tuple[StoredWeights, ...]

    @property
    def name(self) -> str:
        return self.layers[-1].layer


def extract(graph: Graph, inputs: Iterable[str], outputs: Sequence[str]) -> Graph:
    """The subgraph that computes `outputs` from `inputs`."""
    cut = set(inputs)
    live, ops = set(outputs), list[Op]()
    for op in reversed(graph.ops):
        if live.intersection(op.names) and not cut.issuperset(op.names):
            live.update(v.name for v in op.operands)
            ops.append(op)
    values = {v.name: v for v in graph.values}
    ends = tuple(values[name] for name in outputs)
    starts = tuple(v for v in graph.values if v.name in cut)
    return Graph(graph.name, starts, tuple(reversed(ops)), ends, tuple(outputs), graph.stage)


def layer_unit(graph: Graph, reference: Graph, op: Layer, weights: StoredWeights) -> BlockGraph:
    """A single layer: from the integers it reads to its result, or to the relu or clip that alone
    reads it.
    """
    end = op.result
    readers = graph.users.get(end.name, ())
    if graph.use_counts[end.name] == 1 and readers and isinstance(readers[0], Clamp):
        clamp = readers[0].result
        end = clamp if clamp.name in reference.producers else end
    return BlockGraph(extract(graph, [stored(graph, op.x)], [end.name]), (weights,))


def stored(graph: Graph, value: Value) -> str:
    """The name of the integers of a value where it has some, else of the value itself."""
    before = graph.producers.get(value.name)
    return before.x.name if isinstance(before, Dequantize) else value.name


def block_units(
    graph: Graph, reference: Graph, layers: Iterable[StoredWeights]
) -> list[BlockGraph]:
    """A unit for each subgraph between two consecutive stored values that all paths pass: a
    residual block, or a single layer.

    Source: blocks as in BRECQ, Li et al. 2021, arXiv:2102.05426; cut at dominators: this project.
    """
    ops = {op.names[0]: op for op in layers_of(graph)}
    singles = {w.layer: layer_unit(graph, reference, ops[w.layer], w) for w in layers}
    names_of_reference = {v.name for v in reference.values}
    start = [v.name for v in graph.inputs]
    ends = list(dict.fromkeys(_origin(graph, v) for v in graph.outputs))
    cuts = {cut: [_quantized(graph, cut)] for cut in _bottlenecks(graph)}
    units: list[BlockGraph] = []
    for cut, outputs in [*((c, o) for c, o in cuts.items() if o != ends), ("", ends)]:
        part = extract(graph, start, outputs)
        inside = [op.names[0] for op in layers_of(part)]
        singles_inside = [singles[name] for name in inside if name in singles]
        if singles_inside and names_of_reference.issuperset(outputs) and len(inside) <= MOST_LAYERS:
            units.append(BlockGraph(part, tuple(u.layers[0] for u in singles_inside)))
        else:
            units += singles_inside
        start = [cut] if inside else start
    return units


def _bottlenecks(graph: Graph) -> list[str]:
    """The results of quantize on every path from inputs to outputs, in order (dominators)."""
    paths: nx.DiGraph[str] = nx.DiGraph(graph.networkx())
    paths.add_edges_from((SOURCE, v.name) for v in graph.inputs)
    makers = (graph.producers.get(v.name) for v in graph.outputs)
    paths.add_edges_from((op.names[0], SINK) for op in makers if op is not None)
    above = nx.immediate_dominators(paths, SOURCE)
    chain, at = [], SINK
    while (at := above[at]) != SOURCE:
        chain.append(at)
    return [name for name in reversed(chain) if isinstance(graph.producers.get(name), Quantize)]


def _quantized(graph: Graph, name: str) -> str:
    op = graph.producers[name]
    assert isinstance(op, Quantize)
    return op.x.name


def _origin(graph: Graph, value: Value) -> str:
    """The value that an output is, before it is rounded to its pair."""
    op = graph.producers.get(value.name)
    if isinstance(op, Dequantize):
        return _origin(graph, op.x)
    return op.x.name if isinstance(op, Quantize) else value.name


def upstream(graph: Graph, names: Sequence[str]) -> Graph:
    """The part of a graph that computes the values called `names`."""
    return extract(graph, [v.name for v in graph.inputs], names)
