"""The residual stream of a transformer rotated, so that no channel of it is an outlier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Add, Constant, Hadamard, Linear, RmsNorm, Take
from qir.ir.ops.sequence.matrices import factors, signs
from qir.ir.stages import FLOAT_STAGES
from qir.ir.types import Array
from qir.passes.infra.layers import constant_of
from qir.passes.infra.manager import Claim, Miss, Pass, Record, keeps_reals, register
from qir.passes.transform.channel_ranges import Reach

SEED = 17  # of the signs
OUTLIER = 8.0  # times the median of all: what a channel of a stream reaches that has outliers


@register
@dataclass(frozen=True)
class RotateResidual(Pass):
    """x -> x @ Q for every value x of a residual stream that rms norms read: gains of the norms go
    into the linear ops behind them, and Q into all weights that write and read the stream

    rms_norm(x @ Q) = rms_norm(x) @ Q for an orthogonal Q. Q is a Hadamard matrix with signs by a
    fixed seed, or where the width has none that of the greatest power of two in it, times a cosine
    transform of what is left: each channel is then a mean of all of them. The gain of a norm in
    front of a head that is tied to the embedding cannot go into the head's weights, for the rotated
    table is to stay one for both: hadamard((norm(hadamard(x @ Q)) * gain)) reads the stream as it
    was but for signs, and is rotated again. Where the width has no Hadamard matrix, the two become
    two tables, if a channel has outliers: reaches OUTLIER times the median of all.
    Keeps: reals within 1e-3.
    Source: QuaRot, arXiv:2404.00456, section 4, stage 1a; SliceGPT, arXiv:2401.15024.
    """

    name: ClassVar[str] = "rotate-residual"
    claim: ClassVar[Claim] = keeps_reals(1e-3)
    stages: ClassVar[tuple[str, ...]] = FLOAT_STAGES

    halves: Mapping[str, Reach] = field(default_factory=dict)  # max|x| of channels, by value

    def run(self, graph: Graph, record: Record) -> Graph:
        done: set[str] = set()
        found: list[Stream] = []
        for op in graph.ops:
            if not isinstance(op, RmsNorm) or op.x.name in done:
                continue
            stream = stream_of(graph, op.x)
            if isinstance(stream, Miss):
                record.misses.append(stream)
                done.add(op.x.name)
                continue
            done |= stream.values
            is_alone = factors(stream.width) is None and tied_tables(graph, stream)
            if is_alone and not self._has_outliers(stream):
                why = "its channels reach alike, and a tied head would be stored twice"
                record.misses.append(Miss(why, op.x.name))
                continue
            found.append(stream)
        for stream in found:
            graph = rotated(graph, stream, record, self.name)
            record.rewrites += 1
            record.notes.append(f"%{min(stream.values)} and all of its stream")
        return graph

    def _has_outliers(self, stream: Stream) -> bool:
        seen = [self.halves[name].of_all for name in stream.values if name in self.halves]
        return any(float(x.max()) > OUTLIER * float(np.median(x)) for x in seen)


@dataclass
class Stream:
    """One residual stream: the names of its values, and of the ops that write and read it;
    `norms`: the rms norms that read it, `constants`: those added to it.
    """

    width: int
    values: set[str] = field(default_factory=set)
    writers: set[str] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    norms: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)


def stream_of(graph: Graph, value: Value) -> Stream | Miss:
    """The stream of a value: everything that sums tie to it; a Miss where an op writes or reads it
    in a way that a rotation does not pass.
    """
    stream, todo = Stream(value.type.shape[-1]), [value]
    outputs = {v.name for v in graph.outputs}
    while todo:
        v = todo.pop()
        if v.name in stream.values or v.name in stream.constants:
            continue
        maker = graph.producers.get(v.name)
        if v.name in outputs or v.type.shape[-1:] != (stream.width,):
            return Miss("an output of the graph, or of another width", v.name)
        if isinstance(maker, Constant):
            stream.constants.add(v.name)
            continue
        stream.values.add(v.name)
        match maker:
            case Add():
                todo += maker.operands
            case Linear() | Take() if is_writer(graph, maker):
                stream.writers.add(v.name)
            case _:
                return Miss(f"{maker or 'an input'} writes the stream", v.name)
        for reader in graph.users.get(v.name, ()):
            match reader:
                case Add():
                    todo += reader.results
                case RmsNorm() if all(is_reader(graph, r) for r in norm_readers(graph, reader)):
                    stream.norms.add(reader.names[0])
                    stream.readers.update(r.names[0] for r in norm_readers(graph, reader) if r)
                case Linear() if is_reader(graph, reader):
                    stream.readers.add(reader.names[0])
                case _:
                    return Miss(f"{reader} reads the stream", v.name)
    return stream if stream.norms else Miss("no norm reads it", value.name)


def tied_tables(graph: Graph, stream: Stream) -> set[str]:
    """The tables that write the stream and are the weights of a layer that reads it."""
    makers = (graph.producers[name] for name in stream.writers)
    layers = (graph.producers[name] for name in stream.readers)
    tables = {op.table.name for op in makers if isinstance(op, Take)}
    return tables & {op.w.name for op in layers if isinstance(op, Linear)}


def norm_readers(graph: Graph, norm: RmsNorm) -> Iterator[Op | None]:
    """The ops that read a norm; None for an output of the graph."""
    yield from graph.users.get(norm.names[0], ())
    if norm.names[0] in {v.name for v in graph.outputs}:
        yield None


def is_reader(graph: Graph, op: Op | None) -> bool:
    return isinstance(op, Linear) and is_real(graph, op.w)


def is_writer(graph: Graph, op: Linear | Take) -> bool:
    if isinstance(op, Take):
        return is_real(graph, op.table) and op.table.type.rank == 2
    return is_real(graph, op.w) and (op.bias is None or is_real(graph, op.bias))


def is_real(graph: Graph, value: Value) -> bool:
    return value.type.is_float and constant_of(graph, value) is not None


def rotated(graph: Graph, stream: Stream, record: Record, by: str) -> Graph:
    """The graph with the stream rotated."""
    return graph.mapped(Rotation(graph, stream, record, by).changed)


class Rotation:
    """Rotates one stream. `still`: the norms that keep their gains, since a layer behind them has a
    table of the stream for its weights.
    """

    def __init__(self, graph: Graph, stream: Stream, record: Record, by: str) -> None:
        self.graph, self.stream, self.by = graph, stream, by
        self.q = orthogonal(stream.width)
        tied = set() if factors(stream.width) is None else tied_tables(graph, stream)
        layers = (graph.producers[name] for name in stream.readers)
        read = {op.x.name for op in layers if isinstance(op, Linear) and op.w.name in tied}
        self.still = read & stream.norms
        self.gains = {name: gain_of(graph, graph.producers[name]) for name in stream.norms}
        self.gains.update(dict.fromkeys(self.still, np.ones(stream.width)))
        self.made: dict[str, Value] = {}  # rotated tables
        back = self.q.T.astype(np.float32)  # kept for each norm until the end of a compile
        record.divided.update(dict.fromkeys(stream.values, back))
        for name, gain in self.gains.items():
            record.divided[name] = (back * gain).astype(np.float32)

    def changed(self, op: Op, builder: Builder) -> Op:
        name, old, stream = op.names[0], self.graph.producers[op.names[0]], self.stream
        match op, old:
            case RmsNorm(), _ if name in self.still:
                return self._still(op, builder)
            case RmsNorm(), _ if name in stream.norms:
                return replace(op, gain=None)
            case Take(), Take() if name in stream.writers:
                return replace(op, table=self._table(old.table, op, builder))
            case Add(), Add() if name in stream.values:
                parts = [
                    self._constant(v, self._real(v) @ self.q, op, builder)
                    if v.name in stream.constants
                    else new
                    for v, new in zip(old.operands, op.operands, strict=True)
                ]
                return op.on(*parts)
            case Linear(), Linear() if name in stream.readers or name in stream.writers:
                return self._layer(op, old, builder)
        return op

    def _still(self, op: RmsNorm, builder: Builder) -> Op:
        """The norm, with its gain, of the stream as it was but for signs; then rotated."""
        width, loc = self.stream.width, op.loc.touched(self.by)
        back = builder.add(Hadamard(op.x, width, loc=loc), f"{op.x.name}_back")
        normed = builder.add(replace(op, x=back, names=()), f"{op.names[0]}_still")
        return Hadamard(normed, width, names=op.names, loc=loc)

    def _layer(self, op: Linear, old: Linear, builder: Builder) -> Op:
        name, bias = op.names[0], op.bias
        gain = self.gains.get(old.x.name)
        if name not in self.stream.writers and (gain is None or old.x.name in self.still):
            return replace(op, w=self._table(old.w, op, builder))
        w = self._real(old.w)
        if name in self.stream.readers:
            w = (w if gain is None else w * gain) @ self.q
        if name in self.stream.writers:
            w = self.q.T @ w
            if old.bias is not None:
                bias = self._constant(old.bias, self._real(old.bias) @ self.q, op, builder)
        return replace(op, w=self._constant(old.w, w, op, builder), bias=bias)

    def _table(self, table: Value, op: Op, builder: Builder) -> Value:
        """A table or weights, rotated once for all that read them."""
        if table.name not in self.made:
            rotated = self._real(table) @ self.q
            self.made[table.name] = self._constant(table, rotated, op, builder)
        return self.made[table.name]

    def _constant(self, v: Value, elements: Array, op: Op, builder: Builder) -> Value:
        made = Constant.of(elements.astype(np.float32))
        return builder.add(replace(made, loc=op.loc.touched(self.by)), f"{v.name}_rotated")

    def _real(self, v: Value) -> Array:
        found = constant_of(self.graph, v)
        assert found is not None
        return found.astype(np.float64)


def gain_of(graph: Graph, op: Op) -> Array:
    assert isinstance(op, RmsNorm)
    found = None if op.gain is None else constant_of(graph, op.gain)
    return np.ones(op.x.type.shape[-1]) if found is None else found.astype(np.float64)


def signs_of(width: int) -> Array:
    """1 or -1 for each channel, by a fixed seed."""
    return np.asarray(np.random.default_rng(SEED).integers(0, 2, width) * 2.0 - 1)


def orthogonal(width: int) -> Array:
    """diag(signs) @ a Hadamard matrix over its root; where there is none that of the greatest
    power of two in the width (x) a cosine transform.
    """
    if factors(width) is not None:
        q = signs(width) / np.sqrt(width)
    else:
        power = width & -width
        q = np.kron(signs(power) / np.sqrt(power), cosines(width // power))
    return np.asarray(signs_of(width)[:, None] * q)


def cosines(size: int) -> Array:
    """The orthogonal cosine transform, DCT-II."""
    k, n = np.arange(size)[:, None], np.arange(size)[None]
    rows = np.cos(np.pi * k * (n + 0.5) / size) * np.sqrt(2 / size)
    rows[0] = 1 / np.sqrt(size)
    return np.asarray(rows)
