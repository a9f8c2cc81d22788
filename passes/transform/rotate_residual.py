"""The residual stream of a transformer rotated, so that no channel of it is an outlier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Loc, Op, Value
from qir.ir.ops import Add, Constant, Linear, RmsNorm, Take
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

    rms_norm(x @ Q) = rms_norm(x) @ Q for an orthogonal Q. Q is a Hadamard matrix of the greatest
    power of two in the width, times a cosine transform of what is left, with signs by a fixed seed:
    each channel is then a mean of all of them. A head that is tied to the embedding E stays so: its
    gain g does not go into it, but is one number m for all channels, and what is left a layer,

        (g * y) @ E.T = (z + z @ (Q.T @ diag(g / m - 1) @ Q)) @ (E @ Q).T, z = m * (y @ Q)

    That costs time: such a stream is rotated only where a channel has outliers, reaches OUTLIER
    times the median of all.
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
            if tied(graph, stream) and not self._has_outliers(stream):
                why = "its channels reach alike, and a tied head would need a layer more"
                record.misses.append(Miss(why, op.x.name))
                continue
            found.append(stream)
        for stream in found:
            graph = rotated(graph, stream, record, self.name)
            record.rewrites += 1
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


def tied(graph: Graph, stream: Stream) -> Mapping[str, Linear]:
    """The layers that read the stream and whose weights are a table that writes it."""
    makers = (graph.producers[name] for name in stream.writers)
    tables = {op.table.name for op in makers if isinstance(op, Take)}
    layers = (graph.producers[name] for name in stream.readers)
    return {op.names[0]: op for op in layers if isinstance(op, Linear) and op.w.name in tables}


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
    rotation = Rotation(graph, stream, by)
    record.divided.update(dict.fromkeys(stream.values, rotation.q.T))
    record.divided.update({n: rotation.q.T * gain for n, gain in rotation.gains.items()})
    return graph.mapped(rotation.changed)


class Rotation:
    """How the ops around one stream change.

    gains: of each norm, what goes into the layers behind it;
    means: of a norm that a tied head reads, the gain it keeps.
    """

    def __init__(self, graph: Graph, stream: Stream, by: str) -> None:
        self.graph, self.stream, self.by = graph, stream, by
        self.q, self.heads = orthogonal(stream.width), tied(graph, stream)
        whole = {name: gain_of(graph, name) for name in stream.norms}
        kept = {head.x.name for head in self.heads.values()} & whole.keys()
        self.means = {name: whole[name].mean() for name in kept}
        self.gains = {name: gain / self.means.get(name, 1.0) for name, gain in whole.items()}
        self.tables: dict[str, Value] = {}
        self.loc = Loc()

    def changed(self, op: Op, builder: Builder) -> Op:
        name, old, stream = op.names[0], self.graph.producers[op.names[0]], self.stream
        self.loc = op.loc.touched(self.by)  # of what is added for it
        match op, old:
            case RmsNorm(), RmsNorm() if name in stream.norms:
                if name not in self.means:
                    return replace(op, gain=None)
                mean = np.full(stream.width, self.means[name])
                return replace(op, gain=self._add(builder, mean, f"{name}_mean"))
            case Take(), Take() if name in stream.writers:
                return replace(op, table=self._table(builder, old.table))
            case Linear(), Linear() if name in self.heads:
                return self._head(op, old, builder)
            case Linear(), Linear() if name in stream.readers or name in stream.writers:
                return self._layer(op, old, builder)
            case Add(), Add() if name in stream.values:
                parts = [
                    self._constant(builder, v, self._real(v) @ self.q)
                    if v.name in stream.constants
                    else new
                    for v, new in zip(old.operands, op.operands, strict=True)
                ]
                return op.on(*parts)
        return op

    def _layer(self, op: Linear, old: Linear, builder: Builder) -> Op:
        w, bias, name = self._real(old.w), op.bias, op.names[0]
        if name in self.stream.readers:
            w = (w * self.gains.get(old.x.name, 1.0)) @ self.q
        if name in self.stream.writers:
            w = self.q.T @ w
            if old.bias is not None:
                bias = self._constant(builder, old.bias, self._real(old.bias) @ self.q)
        return replace(op, w=self._constant(builder, old.w, w), bias=bias)

    def _head(self, op: Linear, old: Linear, builder: Builder) -> Op:
        """It reads the table; what is left of the gain is a layer before it."""
        x, gain = op.x, self.gains.get(old.x.name)
        if gain is not None and np.any(gain != 1):
            rest = self._add(builder, (self.q.T * (gain - 1)) @ self.q, f"{x.name}_gain")
            turned = builder.add(Linear(x, rest, None, loc=self.loc), f"{x.name}_rest")
            x = builder.add(Add(x, turned, loc=self.loc), f"{x.name}_gained")
        return replace(op, x=x, w=self._table(builder, old.w))

    def _table(self, builder: Builder, old: Value) -> Value:
        if old.name not in self.tables:
            self.tables[old.name] = self._constant(builder, old, self._real(old) @ self.q)
        return self.tables[old.name]

    def _constant(self, builder: Builder, old: Value, elements: Array) -> Value:
        return self._add(builder, elements, f"{old.name}_rotated")

    def _add(self, builder: Builder, elements: Array, name: str) -> Value:
        made = Constant.of(elements.astype(np.float32))
        return builder.add(replace(made, loc=self.loc), name)

    def _real(self, v: Value) -> Array:
        found = constant_of(self.graph, v)
        assert found is not None
        return found.astype(np.float64)


def gain_of(graph: Graph, name: str) -> Array:
    op = graph.producers[name]
    assert isinstance(op, RmsNorm)
    found = None if op.gain is None else constant_of(graph, op.gain)
    return np.ones(op.x.type.shape[-1]) if found is None else found.astype(np.float64)


def orthogonal(width: int) -> Array:
    """signs * (Hadamard of the greatest power of two in the width (x) a cosine transform)."""
    power = width & -width
    signs = np.random.default_rng(SEED).integers(0, 2, width) * 2.0 - 1
    return np.asarray(signs[:, None] * np.kron(hadamard(power), cosines(width // power)))


def hadamard(size: int) -> Array:
    """Sylvester's matrix of a power of two, its rows of length 1."""
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return np.asarray(h / np.sqrt(size))


def cosines(size: int) -> Array:
    """The orthogonal cosine transform, DCT-II."""
    k, n = np.arange(size)[:, None], np.arange(size)[None]
    rows = np.cos(np.pi * k * (n + 0.5) / size) * np.sqrt(2 / size)
    rows[0] = 1 / np.sqrt(size)
    return np.asarray(rows)
