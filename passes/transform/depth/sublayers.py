"""Sub-layers of residual networks: what is added to the stream, and what computes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from qir.ir.errors import PassError
from qir.ir.graph import Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Add, Attention, Constant, LayerNorm, Linear, RmsNorm
from qir.ir.ops.kinds import Layer
from qir.passes.infra.manager import Miss

ATTENTION, MLP, BLOCK = "attention", "mlp", "block"
"""Kinds: with attention; of linear ops alone; any other, as of a convolutional network."""
HINT = "skip and concurrency take networks with a residual stream whose norms are in the branches"


@dataclass(frozen=True)
class Sublayer:
    """sum = add(stream, delta), where `delta` is computed from `source`, this or an earlier value
    of the stream.

    ops: the names (first results) of the ops that compute it and that nothing else needs, in order;
         constants are not among them.
    loc: where the model has it.
    """

    sum: Value
    stream: Value
    delta: Value
    source: Value
    kind: str
    ops: tuple[str, ...]
    loc: str

    @property
    def name(self) -> str:
        """That of the sum."""
        return self.sum.name


def sublayers(graph: Graph) -> tuple[Sublayer, ...] | Miss:
    """The sub-layers of a float graph in order; a Miss where there are none, or where the stream
    goes on from a norm behind the sum (post-norm) and not from the sum.
    """
    walk = Walk(graph)
    parts = tuple(walk.run())
    for one in parts:
        if (norm := _norm_behind(graph, one, walk.stream)) is not None:
            return Miss(
                "the stream goes on from this norm and not from the sum in front of it", norm
            )
    return parts or Miss("no value is added to what it is computed from")


def sublayers_of(graph: Graph, by: str) -> tuple[Sublayer, ...]:
    """The sub-layers of a graph. Errors: PassError for a Miss."""
    parts = sublayers(graph)
    if isinstance(parts, Miss):
        at = f", value %{parts.at}" if parts.at else ""
        raise PassError(f"{by}: graph @{graph.name}{at}: {parts.why}", HINT)
    return parts


Layers = tuple[tuple[Sublayer, Sublayer], ...]


def layers(graph: Graph, parts: Sequence[Sublayer]) -> Layers | Miss:
    """The layers among sub-layers: one of attention and the MLP that goes on from its sum, which
    nothing else reads.
    """
    outputs = {v.name for v in graph.outputs}
    pairs = list[tuple[Sublayer, Sublayer]]()
    miss = Miss("no attention with an MLP behind it")
    for a, b in pairwise(parts):
        if (a.kind, b.kind) != (ATTENTION, MLP):
            continue
        readers = {op.names[0] for op in graph.users.get(a.name, ())}
        if a.source != a.stream or b.source != b.stream or b.stream != a.sum:
            miss = Miss("its MLP does not go on from the sum of its attention", a.name)
        elif a.name in outputs or not readers <= {*b.ops, b.name}:
            miss = Miss("something else than its MLP reads its attention's sum", a.name)
        else:
            pairs.append((a, b))
    return tuple(pairs) or miss


class Walk:
    """One walk over the sums of a graph; `stream` holds the values of the stream."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stream: dict[str, Value] = {}
        self.places = {name: i for i, op in enumerate(graph.ops) for name in op.names}
        self.bits: dict[str, int] = {}  # a bit for each operand of a sum
        for op in graph.ops:
            for v in op.operands if isinstance(op, Add) else ():
                self.bits.setdefault(v.name, 1 << len(self.bits))
        self.sources = self._sources()

    def _sources(self) -> Mapping[str, int]:
        """The operands of sums that each value is computed from, itself included, as bits."""
        sources = {v.name: self.bits.get(v.name, 0) for v in self.graph.inputs}
        for op in self.graph.ops:
            total = 0
            for v in op.operands:
                total |= sources[v.name]
            sources.update((name, total | self.bits.get(name, 0)) for name in op.names)
        return sources

    def run(self) -> Iterator[Sublayer]:
        for op in self.graph.ops:
            if isinstance(op, Add) and op.result.type.is_float:
                for x, delta in (op.operands, op.operands[::-1]):
                    if (source := self._source(x, delta)) is not None:
                        self.stream.update({v.name: v for v in (x, op.result)})
                        yield self._sublayer(op, x, delta, source)
                        break

    def _source(self, x: Value, delta: Value) -> Value | None:
        """The last value of the stream that `delta` is computed from, where x is of the stream."""
        if x.type != delta.type or delta.name in self.stream or delta.name == x.name:
            return None
        sources = self.sources[delta.name]
        if sources & self.bits[x.name]:
            return x
        if x.name not in self.stream:
            return None
        return next(
            (v for v in reversed(self.stream.values()) if sources & self.bits.get(v.name, 0)), None
        )

    def _sublayer(self, op: Add, x: Value, delta: Value, source: Value) -> Sublayer:
        ops = self._between(source, delta, op.names[0])
        makers = [self.graph.producers[name] for name in ops]
        of_weights = [o for o in makers if isinstance(o, Layer)]
        kind = BLOCK
        if any(isinstance(o, Attention) for o in makers):
            kind = ATTENTION
        elif of_weights and all(isinstance(o, Linear) for o in of_weights):
            kind = MLP
        loc = makers[-1].loc.source if makers else op.loc.source
        return Sublayer(op.result, x, delta, source, kind, ops, loc)

    def _between(self, source: Value, delta: Value, end: str) -> tuple[str, ...]:
        """The ops back from `delta` that nothing but it needs."""
        producers, users = self.graph.producers, self.graph.users
        outputs = {v.name for v in self.graph.outputs}
        inside, todo = {end}, list[tuple[int, str]]()

        def look(v: Value) -> None:
            if v.name != source.name and v.name in self.places:
                heappush(todo, (-self.places[v.name], v.name))

        look(delta)
        while todo:
            op = producers[heappop(todo)[1]]
            is_own = all(u.names[0] in inside for n in op.names for u in users.get(n, ()))
            if op.names[0] in inside or isinstance(op, Constant) or outputs & {*op.names}:
                continue
            if is_own:
                inside.add(op.names[0])
                for v in op.operands:
                    look(v)
        return tuple(sorted(inside - {end}, key=self.places.__getitem__))


def _norm_behind(graph: Graph, one: Sublayer, stream: Mapping[str, Value]) -> str | None:
    """The norm behind a sum that the stream goes on from."""
    readers: Sequence[Op] = graph.users.get(one.name, ())
    if len(readers) == 1 and isinstance(readers[0], (LayerNorm, RmsNorm)):
        norm = readers[0].names[0]
        return norm if norm in stream else None
    return None
