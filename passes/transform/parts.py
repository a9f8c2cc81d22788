"""Values that join parts along an axis, and the ops that can work part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from qir.ir.graph import Builder, Graph
from qir.ir.op import Op, Value
from qir.ir.ops import Bilinear, Concat, Constant, Pad, Reshape, Slice, Transpose
from qir.ir.ops.kinds import Elementwise
from qir.ir.ops.pool import Pool
from qir.ir.ops.reduce import Reduce
from qir.ir.types import Array
from qir.passes.calibrate.ranges import chunk_of, cut, run_chunk

MOST_PARTS = 8  # of a value: each makes an op more of every op that works part by part


@dataclass(frozen=True)
class Parts:
    """The sizes of the parts along an axis."""

    axis: int
    sizes: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    def within(self, start: int, stop: int, step: int) -> tuple[int, ...]:
        """How many of the elements start, start + step, ... before stop are in each part."""
        indices = np.searchsorted(self.starts, np.arange(start, stop, step), side="right") - 1
        return tuple(np.bincount(indices, minlength=len(self.sizes)).tolist())


def parts_of(graph: Graph) -> Mapping[str, Parts]:
    """The parts of each float value that a concat makes, or ops that work part by part make of it:
    at most MOST_PARTS.
    """
    parts_by_name: dict[str, Parts] = {}
    for op in graph.ops:
        parts = result_parts(op, parts_by_name)
        if parts is not None and op.results[0].type.is_float and len(parts.sizes) <= MOST_PARTS:
            parts_by_name[op.names[0]] = parts
    return parts_by_name


def result_parts(op: Op, parts_by_name: Mapping[str, Parts]) -> Parts | None:
    """The parts of an op's result that it makes of the parts of its operands, None where it cannot:

    elementwise, transpose, pools, reductions and padding of other axes, a reshape that keeps
    the axis, a slice, a concat along it, and one along another axis of values of like parts.
    """
    if isinstance(op, Concat):
        return _of_concat(op, parts_by_name)
    if isinstance(op, Elementwise):
        return _of_elementwise(op, parts_by_name)
    first = next((parts_by_name[v.name] for v in op.operands if v.name in parts_by_name), None)
    if first is None:
        return None
    axis = first.axis
    match op:
        case Transpose():
            return replace(first, axis=op.perm.index(axis))
        case Reshape():
            return _of_reshape(op, first)
        case Slice():
            counts = first.within(op.start[axis], op.stop[axis], op.step[axis])
            return Parts(axis, tuple(size for size in counts if size))
        case Pad():
            is_plain = not (op.before[axis] or op.after[axis] or op.between[axis])
            return first if is_plain else None
        case Pool() | Bilinear():
            return first if axis == 3 else None
        case Reduce() if axis not in op.axes:
            return first if op.keep else replace(first, axis=axis - sum(a < axis for a in op.axes))
    return None


def _of_concat(op: Concat, parts_by_name: Mapping[str, Parts]) -> Parts | None:
    inner = [parts_by_name.get(x.name) for x in op.xs]
    if all(p is not None and p.axis != op.axis and p == inner[0] for p in inner):
        return inner[0]
    sizes: list[int] = []
    for x, parts in zip(op.xs, inner, strict=True):
        is_along = parts is not None and parts.axis == op.axis
        sizes += parts.sizes if is_along and parts is not None else [x.type.shape[op.axis]]
    return Parts(op.axis, tuple(sizes)) if len(sizes) > 1 else None


def _of_elementwise(op: Op, parts_by_name: Mapping[str, Parts]) -> Parts | None:
    rank = op.results[0].type.rank
    candidates = {
        replace(p, axis=p.axis + rank - v.type.rank)
        for v in op.operands
        if (p := parts_by_name.get(v.name)) is not None and len(p.sizes) > 1
    }
    return candidates.pop() if len(candidates) == 1 else None


def _of_reshape(op: Reshape, parts: Parts) -> Parts | None:
    x, axis = op.x.type.shape, parts.axis
    for place, size in enumerate(op.shape):
        if size == x[axis] and prod(op.shape[:place]) == prod(x[:axis]):
            return replace(parts, axis=place)
    return None


@dataclass
class PartWriter:
    """Writes ops on parts; `pieces`: the parts of the values that are concats of them by now."""

    builder: Builder
    pieces: dict[str, tuple[Value, ...]]
    parts_by_name: Mapping[str, Parts]

    def rewrite(self, op: Op, parts: Parts) -> Op:
        """The op on each part, joined; `parts` are those of its result."""
        if isinstance(op, Slice) and op.x.name in self.pieces:
            ops = self._slices(op)
        elif isinstance(op, Concat):
            columns = zip(*(self.pieces[x.name] for x in op.xs), strict=True)
            ops = [Concat(column, op.axis) for column in columns]
        else:
            ops = [self._on_part(op, parts, i) for i in range(len(parts.sizes))]
        if len(ops) == 1:
            return ops[0]
        values = tuple(
            self.builder.add(replace(one, names=(), loc=op.loc), f"{op.names[0]}_part")
            for one in ops
        )
        self.pieces[op.names[0]] = values
        return Concat(values, parts.axis, loc=op.loc)

    def _on_part(self, op: Op, parts: Parts, i: int) -> Op:
        start, size, back = parts.starts[i], parts.sizes[i], parts.axis - op.results[0].type.rank
        operands = [self._part(v, i, back, start, size) for v in op.operands]
        if isinstance(op, Reshape):
            shape = (*op.shape[: parts.axis], size, *op.shape[parts.axis + 1 :])
            return replace(op, x=operands[0], shape=shape)
        return op.on(*operands)

    def _part(self, v: Value, i: int, back: int, start: int, size: int) -> Value:
        """Part `i` of an operand: `size` elements from `start` along the axis `back` from the end
        of an elementwise op's result; all of one that is broadcast along it.
        """
        if v.name in self.pieces:
            return self.pieces[v.name][i]
        axis = v.type.rank + back
        if axis < 0 or v.type.shape[axis] == 1:
            return v
        source = self.builder.producer(v)
        if isinstance(source, Constant):
            elements = np.take(source.value.array, range(start, start + size), axis)
            return self.builder.add(Constant.of(elements, source.elem), f"{v.name}_part")
        ends = [(0, s) for s in v.type.shape]
        ends[axis] = start, start + size
        low, high = (tuple(end[k] for end in ends) for k in (0, 1))
        return self.builder.add(Slice(v, low, high, (1,) * v.type.rank), f"{v.name}_part")

    def _slices(self, op: Slice) -> list[Op]:
        parts = self.parts_by_name[op.x.name]
        axis, slices = parts.axis, list[Op]()
        indices = np.arange(op.start[axis], op.stop[axis], op.step[axis])
        for x, first, size in zip(self.pieces[op.x.name], parts.starts, parts.sizes, strict=True):
            part_indices = indices[(first <= indices) & (indices < first + size)] - first
            if part_indices.size:
                start, stop = list(op.start), list(op.stop)
                start[axis], stop[axis] = int(part_indices[0]), int(part_indices[-1]) + 1
                slices.append(replace(op, x=x, start=tuple(start), stop=tuple(stop)))
        return slices


def part_reach(
    graph: Graph, sample: tuple[Array, ...], parts_by_name: Mapping[str, Parts]
) -> Mapping[str, Array]:
    """max|x| of each part of these values on the sample."""
    reach: dict[str, Array] = {}

    def watch(value: Value, x: Any) -> None:
        parts = parts_by_name.get(value.name)
        if parts is None or not x.numel() or x.shape[parts.axis] != sum(parts.sizes):
            return  # of a larger batch, along this very axis
        pieces = x.detach().abs().split(parts.sizes, parts.axis)
        maxima = np.array([float(piece.max()) for piece in pieces])
        reach[value.name] = np.maximum(maxima, reach.get(value.name, 0.0))

    if parts_by_name:
        size = chunk_of(graph)
        for i in range(0, len(sample[0]), size):
            run_chunk(graph, cut(graph, sample, i, i + size), watch)
    return reach
