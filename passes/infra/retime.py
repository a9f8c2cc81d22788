"""The same graph for another number of tokens, whole or behind a cache of keys and values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qir.ir.errors import VerifyError
from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import (
    AttentionFixed,
    Constant,
    Embed,
    Interpolate,
    Lookup,
    Requantize,
    Reshape,
    Slice,
    SliceRows,
    Take,
    UnpackRows,
    WriteRows,
)
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.sequence.attention import Heads
from qir.ir.ops.sequence.rope import Rotation
from qir.ir.types import I32, Tensor
from qir.passes.infra.layers import is_of_channels
from qir.passes.infra.manager import Miss

AXIS = 1  # of tokens, in what is (B, N, ...)


def retime(graph: Graph, tokens: int) -> Graph | Miss:
    """The graph on rows of `tokens` tokens, axis 1 of every input: constants that have an element
    for each, such as tables of positions, keep the first; a Miss names the op that prevents it.

    Keeps: every bit of the first tokens where no token sees later ones.
    """
    counts = {v.type.shape[AXIS] for v in graph.inputs if v.type.rank > AXIS}
    if len(counts) != 1:
        return Miss(f"inputs have {sorted(counts)} tokens along axis 1, one number is needed")
    return Retiming(graph, counts.pop(), tokens).run()


def with_cache(graph: Graph, tokens: int, most: int) -> Graph | Miss:
    """An integer graph of causal attention -> the same on `tokens` tokens from position `start` on,
    behind a cache of the keys and values of at most `most` tokens.

    Inputs: those of the graph, start () i32, and a cache for the keys and one for the values of
    each attention, of packed rows where it reads unpacked ones; outputs: those of the graph, and
    the caches with the rows of these tokens. Graph.states pairs the caches; position p of the whole
    graph is start + i here.
    A constant bias of attention is one of keys alone, as recognize-attention leaves that of ALiBi.
    Keeps: every bit of each token.
    """
    if graph.stage != "integer":
        return Miss(f"graph @{graph.name} is at stage {graph.stage}, integer is needed")
    if not 1 <= tokens <= most:
        return Miss(f"{tokens} tokens of at most {most}, 1 to as many are needed")
    counts = {v.type.shape[AXIS] for v in graph.inputs if v.type.rank > AXIS}
    if len(counts) != 1:
        return Miss(f"inputs have {sorted(counts)} tokens along axis 1, one number is needed")
    return Caching(graph, counts.pop(), tokens, most=most).run()


@dataclass
class Retiming:
    """One walk that writes the graph for another count; `timed`: the values with a token axis."""

    graph: Graph
    before: int
    after: int
    values: dict[str, Value] = field(default_factory=dict)
    timed: set[str] = field(default_factory=set)
    cut: dict[tuple[str, tuple[int, ...]], Value] = field(default_factory=dict)

    def run(self) -> Graph | Miss:
        self.builder = Builder(self.graph.name, self.graph.stage)
        for v in self.graph.inputs:
            if v.type.rank <= AXIS:
                return Miss(f"{v.type} has no tokens along axis 1", v.name)
            shape = (*v.type.shape[:AXIS], self.after, *v.type.shape[AXIS + 1 :])
            self.values[v.name] = self.builder.input(v.name, v.type.with_shape(shape))
            self.timed.add(v.name)
        self.begin()
        for op in self.graph.ops:
            if (miss := self._write(op)) is not None:
                return Miss(miss.why, miss.at or op.names[0])
        outputs = [self.values[v.name] for v in self.graph.outputs]
        return self.finish(outputs).without_dead_code()

    def begin(self) -> None:
        """Add inputs behind those of the graph."""

    def finish(self, outputs: list[Value]) -> Graph:
        return self.builder.finish(outputs, self.graph.output_names)

    def _write(self, op: Op) -> Miss | None:
        is_timed = any(v.name in self.timed for v in op.operands)
        new = op.rebind(lambda v: self.values[v.name])
        if is_timed:
            result = self.retimed(op, new)
            if isinstance(result, Miss):
                return result
            new = result
        try:
            results = self.builder.add_all(replace(new, names=op.names))
        except VerifyError as e:
            return Miss(e.text)
        for old, value in zip(op.results, results, strict=True):
            self.values[old.name] = value
            if is_timed:
                self.timed.add(old.name)
                shape, axis = old.type.shape, AXIS
                new_shape = (*shape[:axis], self.after, *shape[axis + 1 :])
                if shape[axis : axis + 1] != (self.before,) or value.type.shape != new_shape:
                    return Miss(f"{old.type} becomes {value.type}, tokens are to be along axis 1")
        return None

    def retimed(self, op: Op, new: Op) -> Op | Miss:
        """The op on the new values, with tables of positions cut."""
        match op:
            case Rotation():
                tables = [self.table(v, (0,)) for v in (op.cos, op.sin)]
                parts = [self.values[op.x.name], *tables]
            case Heads():
                parts = self.of_attention(op)
            case Take() | Embed():
                parts = list(new.operands)
            case Elementwise() | Requantize():
                parts = [self.aligned(v, op.results[0].type.rank) for v in op.operands]
            case Slice() if is_of_channels(op) and op.x.type.rank > AXIS + 1:
                stop = (*op.stop[:AXIS], self.after, *op.stop[AXIS + 1 :])
                return replace(op, x=self.values[op.x.name], stop=stop)
            case Reshape() if self.splits_channels(op):
                shape = (*op.shape[:AXIS], self.after, *op.shape[AXIS + 1 :])
                return replace(op, x=self.values[op.x.name], shape=shape)
            case _ if self.is_of_rows(op):
                parts = list(new.operands)
            case _:
                return Miss(f"{op.mnemonic} may tell tokens apart")
        misses = [p for p in parts if isinstance(p, Miss)]
        return misses[0] if misses else new.on(*(p for p in parts if isinstance(p, Value)))

    def is_of_rows(self, op: Op) -> bool:
        """Whether it computes along the last axis alone, behind that of tokens, or element by
        element.
        """
        x, *others = op.operands
        if op.is_pointwise or isinstance(op, (Lookup, Interpolate)):
            return True
        is_row = op.last_axes == 1 and x.type.rank > AXIS + 1 and x.name in self.timed
        return is_row and all(v.type.rank == x.type.rank for v in others if v.name in self.timed)

    @staticmethod
    def splits_channels(op: Reshape) -> bool:
        """Whether it takes the channels of each token apart, in heads, or together."""
        before, after = op.x.type.shape, op.shape
        return min(len(before), len(after)) > AXIS + 1 and before[: AXIS + 1] == after[: AXIS + 1]

    def of_attention(self, op: Heads) -> list[Value | Miss]:
        """Operands of attention; its bias and what hides keys have an axis of queries and one of
        keys.
        """
        parts: list[Value | Miss] = []
        for v in op.operands:
            if v.type.rank == 4:
                axes = tuple(a for a in (2, 3) if v.type.shape[a] == self.before)
                parts.append(self.table(v, axes))
            elif v.type.rank == 3 and v.name not in self.timed:
                parts.append(Miss(f"{v} is not of the tokens"))
            else:
                parts.append(self.values[v.name])
        return parts

    def aligned(self, v: Value, rank: int) -> Value | Miss:
        """An operand that broadcasts with results of this rank, cut where it has tokens."""
        axis = v.type.rank - rank + AXIS
        if v.name in self.timed:
            is_axis = axis == AXIS
            return self.values[v.name] if is_axis else Miss(f"tokens of {v} are along no axis 1")
        has_tokens = axis >= 0 and v.type.shape[axis] == self.before and self.before > 1
        return self.table(v, (axis,)) if has_tokens else self.values[v.name]

    def table(self, v: Value, axes: tuple[int, ...]) -> Value | Miss:
        """A constant whose first elements along these axes are those of the tokens."""
        key = v.name, axes
        source = self.graph.producers.get(v.name)
        if not axes:
            return self.values[v.name]
        if not isinstance(source, Constant):
            return Miss(f"{v} is computed, a constant for each token is needed")
        if self.after > self.before:
            return Miss(f"{v} has {self.before} positions, {self.after} are needed")
        if key not in self.cut:
            self.cut[key] = self.builder.add(self.rows(source, axes, self.after), v.name)
        return self.cut[key]

    @staticmethod
    def rows(source: Constant, axes: tuple[int, ...], count: int) -> Constant:
        """The first `count` elements along the axes."""
        index = [slice(None)] * source.value.array.ndim
        for axis in axes:
            index[axis] = slice(0, count)
        return replace(
            Constant.of(np.ascontiguousarray(source.value.array[tuple(index)]), source.elem),
            loc=source.loc,
        )


@dataclass
class Caching(Retiming):
    """Retiming behind caches: tables are read from `start` on, keys and values written there."""

    most: int = 0
    inputs: dict[tuple[str, str], Value] = field(default_factory=dict)  # by attention and operand
    caches: list[tuple[Value, Value]] = field(default_factory=list)  # before and after

    def begin(self) -> None:
        self.start = self.builder.input("start", Tensor((), I32))
        for op in self.graph.ops:
            if isinstance(op, AttentionFixed):
                for v in (op.k, op.v):
                    producer = self.graph.producers.get(v.name)
                    packed_type = (producer.x if isinstance(producer, UnpackRows) else v).type
                    shape = (packed_type.shape[0], self.most, packed_type.shape[2])
                    cache = self.builder.input(f"{v.name}_cache", packed_type.with_shape(shape))
                    self.inputs[op.names[0], v.name] = cache

    def finish(self, outputs: list[Value]) -> Graph:
        names = (*self.graph.output_names, *(cache.name for cache, _ in self.caches))
        graph = self.builder.finish([*outputs, *(after for _, after in self.caches)], names)
        return replace(graph, states=tuple((a.name, b.name) for a, b in self.caches))

    def retimed(self, op: Op, new: Op) -> Op | Miss:
        if not isinstance(op, AttentionFixed):
            return super().retimed(op, new)
        if not op.causal or op.start is not None or op.visible is not None:
            return Miss("causal attention without a mask or a start is needed")
        assert isinstance(new, AttentionFixed)
        bias = None if op.bias is None else self.of_keys(op.bias)
        if isinstance(bias, Miss):
            return bias
        rows = []
        for v, x in ((op.k, new.k), (op.v, new.v)):
            cache, producer = self.inputs[op.names[0], v.name], self.builder.producer(x)
            row = producer.x if isinstance(producer, UnpackRows) else x
            after = self.builder.add(WriteRows(cache, row, self.start), f"{v.name}_kept")
            self.caches.append((cache, after))
            if isinstance(producer, UnpackRows):
                unpacked = replace(producer, x=after, start=self.start, count=self.after)
                after = self.builder.add(unpacked, f"{v.name}_whole")
            rows.append(after)
        return replace(new, k=rows[0], v=rows[1], bias=bias, start=self.start)

    def of_keys(self, bias: Value) -> Value | Miss:
        """A constant bias of the keys that the cache has room for."""
        source, shape = self.graph.producers.get(bias.name), bias.type.shape
        if not isinstance(source, Constant) or shape[2] != 1:
            return Miss(f"bias {bias} depends on the run or on queries, one of keys is needed")
        if self.most > shape[3]:
            return Miss(f"{bias} has {shape[3]} positions, {self.most} are needed")
        key = bias.name, (3,)
        if key not in self.cut:
            self.cut[key] = self.builder.add(self.rows(source, (3,), self.most), bias.name)
        return self.cut[key]

    def table(self, v: Value, axes: tuple[int, ...]) -> Value | Miss:
        """Rows of a constant from `start` on."""
        source = self.graph.producers.get(v.name)
        if not axes:
            return self.values[v.name]
        if not isinstance(source, Constant) or len(axes) > 1:
            return Miss(f"{v} is computed, a constant for each token is needed")
        if self.most > self.before:
            return Miss(f"{v} has {self.before} positions, {self.most} are needed")
        key = v.name, axes
        if key not in self.cut:
            self.cut[key] = self._sliced(source, axes[0], v)
        return self.cut[key]

    def _sliced(self, source: Constant, axis: int, v: Value) -> Value:
        """SliceRows of the table with its axis of tokens first, of which all before have size 1."""
        table, shape = self.rows(source, (axis,), self.most), v.type.shape
        elements = table.value.array.reshape(self.most, *shape[axis + 1 :])
        rows = self.builder.add(replace(Constant.of(elements, table.elem), loc=table.loc), v.name)
        sliced = self.builder.add(SliceRows(rows, self.start, self.after), f"{v.name}_at")
        if axis == 0:
            return sliced
        return self.builder.add(Reshape(sliced, (*shape[:axis], self.after, *shape[axis + 1 :])))
