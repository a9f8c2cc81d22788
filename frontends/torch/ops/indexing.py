"""Parts of tensors: concat, split, slice, select, and gathers by constant indices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from qir.frontends.torch.context import ImportContext, Operand, axis_of, indices
from qir.frontends.torch.table import Unsupported, imports
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.ops import Concat, Gather, Pad, PadMode, Slice, Take

END = 2**63 - 1  # how torch writes an open end


@imports("aten.cat.default", "aten.concat.default")
def cat(ctx: ImportContext, tensors: Sequence[Operand], dim: int = 0) -> Value:
    """cat -> concat; torch skips empty tensors of rank 1, so does this."""
    values = [ctx.value(t) for t in tensors]
    parts = [v for v in values if v.type.shape != (0,)] or values
    if len(parts) == 1:
        return parts[0]
    return ctx.add(Concat(tuple(parts), axis_of(dim, parts[0].type.rank)))


@imports("aten.stack.default")
def stack(ctx: ImportContext, tensors: Sequence[Operand], dim: int = 0) -> Value:
    """stack -> concat of reshapes that put an axis of 1 in."""
    values = [ctx.value(t) for t in tensors]
    shape = values[0].type.shape
    axis = axis_of(dim, len(shape) + 1)
    rows = [ctx.reshape(v, *shape[:axis], 1, *shape[axis:]) for v in values]
    return rows[0] if len(rows) == 1 else ctx.add(Concat(tuple(rows), axis))


@imports("aten.slice.Tensor")
def slice_(
    ctx: ImportContext,
    x: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """slice -> slice, with torch's bounds clamped into the size."""
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    first, last, _ = slice(start, None if end == END else end).indices(at.type.shape[axis])
    return cut(ctx, at, axis, first, max(first, last), int(step))


@imports("aten.narrow.default")
def narrow(ctx: ImportContext, x: Operand, dim: int, start: int, length: int) -> Value:
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    first = start % max(at.type.shape[axis], 1) if start < 0 else start
    return cut(ctx, at, axis, first, first + length)


@imports("aten.select.int")
def select(ctx: ImportContext, x: Operand, dim: int, index: int) -> Value:
    """One element along an axis: a slice, then a reshape without the axis."""
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    k = axis_of(int(index), at.type.shape[axis])
    y = cut(ctx, at, axis, k, k + 1)
    return ctx.reshape(y, *(s for i, s in enumerate(at.type.shape) if i != axis))


@imports("aten.unbind.int")
def unbind(ctx: ImportContext, x: Operand, dim: int = 0) -> tuple[Value, ...]:
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    return tuple(select(ctx, at, axis, k) for k in range(at.type.shape[axis]))


@imports("aten.split_with_sizes.default", "aten.split.sizes", "aten.split_with_sizes_copy.default")
def split_with_sizes(
    ctx: ImportContext, x: Operand, sizes: Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    ends = list(accumulate(int(s) for s in sizes))
    return tuple(
        cut(ctx, at, axis, end - int(size), end) for size, end in zip(sizes, ends, strict=True)
    )


@imports("aten.split.Tensor", "aten.split_copy.Tensor")
def split(ctx: ImportContext, x: Operand, size: int, dim: int = 0) -> tuple[Value, ...]:
    at = ctx.value(x)
    full = at.type.shape[axis_of(dim, at.type.rank)]
    step = max(int(size), 1)
    return split_with_sizes(ctx, at, [min(step, full - k) for k in range(0, full, step)], dim)


@imports("aten.chunk.default")
def chunk(ctx: ImportContext, x: Operand, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    at = ctx.value(x)
    return split(ctx, at, -(-at.type.shape[axis_of(dim, at.type.rank)] // chunks), dim)


@imports("aten.index_select.default")
def index_select(ctx: ImportContext, x: Operand, dim: int, index: Operand) -> Value:
    """index_select by a constant -> gather."""
    at = ctx.value(x)
    at_index = indices(ctx.constant(index, "the index")).reshape(-1)
    return ctx.add(Gather(at, Data(at_index), axis_of(dim, at.type.rank)))


@imports("aten.index.Tensor")
def index(ctx: ImportContext, x: Operand, where: Sequence[Operand | None]) -> Value:
    """x[:, i, j] by constants -> gather; axes side by side are merged to one for the while."""
    at = ctx.value(x)
    indices: list[npt.NDArray[np.int64]] = []
    axes: list[int] = []
    axis = 0
    for operand in where:
        axis_arrays = () if operand is None else axis_indices(ctx.constant(operand, "the index"))
        for one in axis_arrays:
            axes.append(axis)
            size = at.type.shape[axis]
            indices.append(np.where(one < 0, one + size, one))
            axis += 1
        axis += not axis_arrays
    first, last = axes[0], axes[-1]
    if axes != list(range(first, last + 1)):
        axis_names = " and ".join(map(str, axes))
        raise Unsupported(f"indexing axes {axis_names} at once", "axes side by side are needed")
    shape = at.type.shape
    sizes = shape[first : last + 1]
    flat_x = ctx.reshape(at, *shape[:first], prod(sizes), *shape[last + 1 :])
    flat = np.ravel_multi_index(tuple(np.broadcast_arrays(*indices)), sizes)
    return ctx.add(Gather(flat_x, Data(flat), first))


def axis_indices(index: torch.Tensor) -> list[npt.NDArray[np.int64]]:
    """An index as indices of one axis each: a mask has one for each of its axes."""
    if index.dtype == torch.bool:
        return [indices(axis) for axis in index.nonzero(as_tuple=True)]
    return [indices(index)]


@imports("aten.slice_scatter.default")
def slice_scatter(
    ctx: ImportContext,
    x: Operand,
    part: Operand,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """x[start:end] = part -> concat of what stands before, the part, and what stands after."""
    at = ctx.value(x)
    axis = axis_of(dim, at.type.rank)
    size = at.type.shape[axis]
    first, last, _ = slice(start, None if end == END else end).indices(size)
    if step != 1 and last - first > step:
        raise Unsupported(f"assignment to every {step}th element", "a slice of step 1 is needed")
    last = max(first, min(last, first + 1) if step != 1 else last)
    parts = [cut(ctx, at, axis, 0, first), ctx.value(part), cut(ctx, at, axis, last, size)]
    nonempty = tuple(p for p in parts if p.type.shape[axis])
    return nonempty[0] if len(nonempty) == 1 else ctx.add(Concat(nonempty, axis))


@imports("aten.select_scatter.default")
def select_scatter(ctx: ImportContext, x: Operand, part: Operand, dim: int, index: int) -> Value:
    """x[index] = part -> as a slice of one element."""
    at, row = ctx.value(x), ctx.value(part)
    axis = axis_of(dim, at.type.rank)
    k = axis_of(int(index), at.type.shape[axis])
    row = ctx.reshape(row, *row.type.shape[:axis], 1, *row.type.shape[axis:])
    return slice_scatter(ctx, at, row, axis, k, k + 1)


@imports("aten.embedding.default")
def embedding(ctx: ImportContext, weight: Operand, index: Operand, *rest: object) -> Value:
    """Rows of a table by constant indices -> gather; by indices of the run -> take."""
    if isinstance(index, Value):
        return ctx.add(Take(ctx.value(weight), index))
    rows = indices(ctx.constant(index, "the index of an embedding"))
    return ctx.add(Gather(ctx.value(weight), Data(rows), 0))


@imports("aten.gather.default")
def gather(
    ctx: ImportContext, x: Operand, dim: int, index: Operand, *, sparse_grad: bool = False
) -> torch.Tensor:
    """Elements of a constant that is one number throughout, wherever the index points."""
    table = x if isinstance(x, torch.Tensor) and x.numel() else None
    if table is None or bool((table != table.reshape(-1)[0]).any()):
        raise Unsupported("gather by indices of the run", "index_select by constants is needed")
    return table.reshape(-1)[0].expand(ctx.value(index).type.shape)


@imports("aten.flip.default")
def flip(ctx: ImportContext, x: Operand, dims: Sequence[int]) -> Value:
    y = ctx.value(x)
    for dim in dims:
        axis = axis_of(dim, y.type.rank)
        y = ctx.add(Gather(y, Data(np.arange(y.type.shape[axis])[::-1]), axis))
    return y


@imports("aten.roll.default")
def roll(
    ctx: ImportContext, x: Operand, shifts: int | Sequence[int], dims: int | Sequence[int] = ()
) -> Value:
    """Each axis as its last part before its first: slices and a concat."""
    y = ctx.value(x)
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    if not axes:
        shape = y.type.shape
        return ctx.reshape(roll(ctx, ctx.reshape(y, y.type.size), moves, [0]), *shape)
    for shift, dim in zip(moves, axes, strict=True):
        axis = axis_of(dim, y.type.rank)
        size = y.type.shape[axis]
        if k := shift % max(size, 1):
            parts = cut(ctx, y, axis, size - k, size), cut(ctx, y, axis, 0, size - k)
            y = ctx.add(Concat(parts, axis))
    return y


@imports("aten.constant_pad_nd.default")
def constant_pad_nd(ctx: ImportContext, x: Operand, pad: Sequence[int], value: float = 0) -> Value:
    return padded(ctx, x, pad, PadMode.CONSTANT, float(value))


@imports("aten.reflection_pad1d.default", "aten.reflection_pad2d.default")
def reflection_pad(ctx: ImportContext, x: Operand, padding: Sequence[int]) -> Value:
    return padded(ctx, x, padding, PadMode.REFLECT)


@imports("aten.replication_pad1d.default", "aten.replication_pad2d.default")
def replication_pad(ctx: ImportContext, x: Operand, padding: Sequence[int]) -> Value:
    return padded(ctx, x, padding, PadMode.EDGE)


@imports("aten.pad.default")
def pad(
    ctx: ImportContext,
    x: Operand,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Value:
    """pad of any mode; circular is a concat of slices."""
    if mode == "circular":
        return circular(ctx, ctx.value(x), pad)
    modes = {"constant": PadMode.CONSTANT, "reflect": PadMode.REFLECT, "replicate": PadMode.EDGE}
    return padded(ctx, x, pad, modes[mode], float(value or 0))


def padded(
    ctx: ImportContext, x: Operand, pads: Sequence[int], mode: PadMode, value: float = 0.0
) -> Value:
    """torch's pads, (before, after) from the last axis on, -> pad; negative ones cut."""
    y = ctx.value(x)
    rank = y.type.rank
    before, after = ([0] * rank for _ in range(2))
    for k, (b, a) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis, size = rank - 1 - k, y.type.shape[rank - 1 - k]
        if b < 0 or a < 0:
            y = cut(ctx, y, axis, max(-b, 0), size - max(-a, 0))
        before[axis], after[axis] = max(int(b), 0), max(int(a), 0)
    if not any((*before, *after)):
        return y
    return ctx.add(Pad(y, tuple(before), tuple(after), (0,) * rank, mode, value))


def circular(ctx: ImportContext, y: Value, pads: Sequence[int]) -> Value:
    """Each axis with its end before it and its start after it."""
    for k, (b, a) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = y.type.rank - 1 - k
        size = y.type.shape[axis]
        parts = [y]
        if b:
            parts.insert(0, cut(ctx, y, axis, size - b, size))
        if a:
            parts.append(cut(ctx, y, axis, 0, a))
        if len(parts) > 1:
            y = ctx.add(Concat(tuple(parts), axis))
    return y


def cut(ctx: ImportContext, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """x[start:stop:step] along one axis."""
    shape = x.type.shape
    if (start, stop, step) == (0, shape[axis], 1):
        return x
    starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return ctx.add(Slice(x, tuple(starts), tuple(stops), tuple(steps)))
