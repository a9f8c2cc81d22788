"""The residual stream of a transformer rotated, so that no channel of it is an outlier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
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
    each channel is then a mean of all of them. A head that is tied to the embedding would need
    weights of its own, as the gain of the last norm is in it: such a stream is rotated only where
    a channel has outliers, reaches OUTLIER times the median of all.
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
            if is_tied(graph, stream) and not self._has_outliers(stream):
                why = "its channels reach alike, and a tied head would be stored twice"
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


def is_tied(graph: Graph, stream: Stream) -> bool:
    """Whether a table that writes the stream is the weights of a layer that reads it."""
    makers = (graph.producers[name] for name in stream.writers)
    tables = {op.table.name for op in makers if isinstance(op, Take)}
    layers = (graph.producers[name] for name in stream.readers)
    return any(isinstance(op, Linear) and op.w.name in tables for op in layers)


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
    q = orthogonal(stream.width)
    gains = {name: gain_of(graph, graph.producers[name]) for name in stream.norms}
    record.divided.update(dict.fromkeys(stream.values, q.T))
    record.divided.update({name: q.T * gain for name, gain in gains.items()})

    def changed(op: Op, builder: Builder) -> Op:
        name, old = op.names[0], graph.producers[op.names[0]]

        def constant(v: Value, elements: Array) -> Value:
            made = Constant.of(elements.astype(np.float32))
            return builder.add(replace(made, loc=op.loc.touched(by)), f"{v.name}_rotated")

        def real(v: Value) -> Array:
            found = constant_of(graph, v)
            assert found is not None
            return found.astype(np.float64)

        if isinstance(op, RmsNorm) and name in stream.norms:
            return replace(op, gain=None)
        if isinstance(op, Take) and isinstance(old, Take) and name in stream.writers:
            return replace(op, table=constant(old.table, real(old.table) @ q))
        if isinstance(op, Add) and isinstance(old, Add) and name in stream.values:
            parts = [
                constant(v, real(v) @ q) if v.name in stream.constants else new
                for v, new in zip(old.operands, op.operands, strict=True)
            ]
            return op.on(*parts)
        if not (isinstance(op, Linear) and isinstance(old, Linear)):
            return op
        if name not in stream.readers and name not in stream.writers:
            return op
        w, bias = real(old.w), op.bias
        if name in stream.readers:
            w = (w * gains.get(old.x.name, 1.0)) @ q
        if name in stream.writers:
            w = q.T @ w
            bias = None if old.bias is None else constant(old.bias, real(old.bias) @ q)
        return replace(op, w=constant(old.w, w), bias=bias)

    return graph.mapped(changed)


def gain_of(graph: Graph, op: Op) -> Array:
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
