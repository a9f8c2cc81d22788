"""Ops that move elements: shapes, axes, parts and copies."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from qir.frontends.onnx.context import MAX_TAPS, ImportContext
from qir.frontends.onnx.operands import ConstantOperand, Operand, shape_of
from qir.frontends.onnx.read.budget import MAX_ELEMENTS
from qir.ir import ops
from qir.ir.data import Data
from qir.ir.op import Value
from qir.ir.types import Int, Quant


def identity(ctx: ImportContext) -> Operand:
    """Identity: the operand itself, no op."""
    return ctx.operand(0)


def dropout(ctx: ImportContext) -> tuple[Operand, ...]:
    """Dropout at inference: x, and a mask that keeps everything."""
    training = ctx.array(2, "training_mode")
    ratio = ctx.scalar(1, "ratio")
    if training is not None and training.any() and ratio != 0:
        ctx.refuse("training_mode = true", "false is needed", "export the model for inference")
    x = ctx.operand(0)
    if len(ctx.outputs) < 2:
        return (x,)
    return x, ConstantOperand(np.broadcast_to(np.True_, shape_of(x)), ctx.outputs[1])


def shape(ctx: ImportContext) -> ConstantOperand:
    """Shape: a constant, for every shape is known; from `start` to `end` since opset 15."""
    sizes = shape_of(ctx.operand(0))
    start, end = ctx.integer("start", 0), ctx.integer("end", len(sizes))
    rank = len(sizes)
    start, end = (min(max(s + rank if s < 0 else s, 0), rank) for s in (start, end))
    return ConstantOperand(np.array(sizes[start:end], np.int64), ctx.outputs[0])


def size(ctx: ImportContext) -> ConstantOperand:
    """Size: a constant, the number of elements."""
    return ConstantOperand(np.array(prod(shape_of(ctx.operand(0))), np.int64), ctx.outputs[0])


def reshape(ctx: ImportContext) -> Operand:
    """Reshape: 0 keeps a size (unless allowzero), one -1 takes what is left."""
    x = ctx.operand(0)
    shape = ctx.integer_list(1, "shape") if ctx.opset >= 5 else ctx.integers("shape")
    if shape is None:
        ctx.refuse("no shape", "one is needed")
    old, sizes = shape_of(x), list(shape)
    if not ctx.integer("allowzero", 0):
        if any(s == 0 and k >= len(old) for k, s in enumerate(sizes)):
            ctx.refuse(f"shape {sizes} of {list(old)}", "a size to keep for each 0 is needed")
        sizes = [old[k] if s == 0 else s for k, s in enumerate(sizes)]
    if -1 in sizes:
        rest = prod(s for s in sizes if s != -1)
        if sizes.count(-1) > 1 or rest <= 0 or prod(old) % rest:
            ctx.refuse(
                f"shape {list(shape)} of {list(old)}", "one free size that comes out is needed"
            )
        sizes[sizes.index(-1)] = prod(old) // rest
    return reshaped(ctx, x, sizes)


def reshaped(ctx: ImportContext, x: Operand, sizes: Sequence[int]) -> Operand:
    """x in another shape: a constant stays one where its quantization can follow."""
    if prod(sizes) != prod(shape_of(x)) or any(s < 0 for s in sizes):
        ctx.refuse(f"shape {list(sizes)} of {list(shape_of(x))}", "as many elements are needed")
    if isinstance(x, ConstantOperand):
        return ctx.reshaped(x, sizes)
    return ctx.result(ops.Reshape(x, tuple(sizes)))


def flatten(ctx: ImportContext) -> Operand:
    """Flatten: the axes before `axis` as one, those from it on as one."""
    x = ctx.operand(0)
    old = shape_of(x)
    axis = ctx.integer("axis", 1)
    if not -len(old) <= axis <= len(old):
        ctx.refuse(f"axis {axis} of rank {len(old)}", "an axis of the operand is needed")
    axis = axis + len(old) if axis < 0 else axis
    return reshaped(ctx, x, (prod(old[:axis]), prod(old[axis:])))


def transpose(ctx: ImportContext) -> Operand:
    """Transpose: axis k of y is axis perm[k] of x; by default all are reversed."""
    x = ctx.operand(0)
    rank = len(shape_of(x))
    perm = ctx.integers("perm") or tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        ctx.refuse(f"perm {list(perm)} of rank {rank}", "each axis once is needed")
    if isinstance(x, ConstantOperand):
        return x.transposed(perm)
    return ctx.result(ops.Transpose(x, perm))


def _axes(ctx: ImportContext) -> tuple[int, ...] | None:
    """The attribute axes before opset 13, then input 1."""
    return ctx.integers("axes") if ctx.opset < 13 else ctx.integer_list(1, "axes")


def squeeze(ctx: ImportContext) -> Operand:
    """Squeeze: without the axes of size 1, or those of them that are named."""
    x, axes = ctx.operand(0), _axes(ctx)
    old = shape_of(x)
    removed_axes = (
        tuple(k for k, s in enumerate(old) if s == 1) if axes is None else ctx.axes(axes, len(old))
    )
    if any(old[k] != 1 for k in removed_axes):
        ctx.refuse(f"axes {list(removed_axes)} of {list(old)}", "sizes of 1 are needed")
    return reshaped(ctx, x, [s for k, s in enumerate(old) if k not in removed_axes])


def unsqueeze(ctx: ImportContext) -> Operand:
    """Unsqueeze: with axes of size 1 at the named places of the result."""
    x, axes = ctx.operand(0), _axes(ctx)
    if axes is None:
        ctx.refuse("no axes", "some are needed")
    old = shape_of(x)
    new = ctx.axes(axes, len(old) + len(axes))
    rest = iter(old)
    return reshaped(ctx, x, [1 if k in new else next(rest) for k in range(len(old) + len(axes))])


def concat(ctx: ImportContext) -> Value:
    """Concat: the operands one after another along `axis`; empty constants are left out."""
    xs = [ctx.operand(i) for i in range(len(ctx.operands))]
    parts = [x for x in xs if 0 not in shape_of(x)] or xs  # exporters leave empty constants in
    values = tuple(_like(ctx, x, parts) for x in parts)
    if not values:
        ctx.refuse("no inputs", "one or more are needed")
    axis = ctx.axis(ctx.integer("axis", 1 if ctx.opset < 4 else None), values[0].type.rank)
    return ctx.result(ops.Concat(values, axis))


def _like(ctx: ImportContext, x: Operand, others: Sequence[Operand]) -> Value:
    """x as a value; constant integers beside a quantized value take its quantization."""
    if isinstance(x, ConstantOperand) and not x.is_float:
        for other in others:
            if isinstance(other, Value) and isinstance(other.type.elem, Quant):
                return ctx.writer.stored(x, other.type.elem)
    return ctx.valued(x)


def split(ctx: ImportContext) -> tuple[Value, ...]:
    """Split: sizes as an attribute before opset 13, then as input 1; or equal parts."""
    x = ctx.value(0)
    axis = ctx.axis(ctx.integer("axis", 0), x.type.rank)
    total = x.type.shape[axis]
    sizes = ctx.integers("split") if ctx.opset < 13 else ctx.integer_list(1, "split")
    if sizes is None:
        count = (
            ctx.integer("num_outputs", len(ctx.outputs)) if ctx.opset >= 18 else len(ctx.outputs)
        )
        if count != len(ctx.outputs):
            ctx.refuse(f"num_outputs {count}, {len(ctx.outputs)} outputs", "as many are needed")
        each = -(-total // max(count, 1))
        sizes = tuple(min(each, total - k * each) for k in range(count))
    if sum(sizes) != total or len(sizes) < len(ctx.outputs) or min(sizes, default=0) < 0:
        ctx.refuse(
            f"parts {list(sizes)} of {total} for {len(ctx.outputs)} outputs",
            "parts that fit are needed",
        )
    ends = np.cumsum((0, *sizes))
    return tuple(
        part(ctx, x, {axis: (int(ends[k]), int(ends[k + 1]), 1)}, k)
        for k in range(len(ctx.outputs))
    )


def part(
    ctx: ImportContext, x: Value, bounds: dict[int, tuple[int, int, int]], index: int = 0
) -> Value:
    """x[start:stop:step] on the axes of `bounds`, as output `index`; steps are positive."""
    full = {k: (0, s, 1) for k, s in enumerate(x.type.shape)} | bounds
    start, stop, step = zip(*(full[k] for k in range(x.type.rank)), strict=True)
    return ctx.result(ops.Slice(x, start, stop, step), index)


def slice_(ctx: ImportContext) -> Operand:
    """Slice: bounds as attributes before opset 10, then as inputs; a negative step is a gather."""
    x = ctx.value(0)
    rank = x.type.rank
    if ctx.opset < 10:
        starts, ends, axes = (ctx.integers(n) for n in ("starts", "ends", "axes"))
        steps = None
    else:
        names = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (ctx.integer_list(k + 1, n) for k, n in enumerate(names))
    if starts is None or ends is None:
        ctx.refuse("no bounds", "starts and ends are needed")
    axes = ctx.axes(range(len(starts)) if axes is None else axes, rank)
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        ctx.refuse(
            f"starts {list(starts)}, ends {list(ends)}, axes {list(axes)}, steps {list(steps)}",
            "one of each for each axis, no step of 0, is needed",
        )
    if rank == 0:
        return x
    forward, y = {}, x
    for a, b, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, step = slice(a, b, step).indices(x.type.shape[axis])
        if step < 0:
            if x.type.shape[axis] > MAX_TAPS:
                fault = f"{x.type.shape[axis]} elements in reverse"
                ctx.refuse(fault, f"at most {MAX_TAPS} are needed")
            index = np.arange(first, last, step, dtype=np.int64)
            y = ctx.emit(ops.Gather(y, Data(index), axis))
        else:
            forward[axis] = (first, max(last, first), step)
    return part(ctx, y, forward) if forward or y is x else y


def gather(ctx: ImportContext) -> Value:
    """Gather by a constant index, negative ones counted from the end; rows by one of the run."""
    x = ctx.value(0)
    axis = ctx.axis(ctx.integer("axis", 0), x.type.rank)
    at = ctx.operand(1)
    if isinstance(at, Value):
        if axis or not isinstance(at.type.elem, Int):
            ctx.refuse(
                f"the index (input 1) is computed at run time, {at.type}, along axis {axis}",
                "a constant, or integers that the caller gives for axis 0, are needed",
            )
        return ctx.result(ops.Take(x, at))
    index = ctx.array(1, "index")
    if index is None or index.dtype.kind not in "iu":
        ctx.refuse(f"index is {None if index is None else index.dtype}", "integers are needed")
    total = x.type.shape[axis]
    if prod(x.type.shape) // max(total, 1) * index.size > MAX_ELEMENTS:
        ctx.refuse(f"{index.size} slices", f"at most {MAX_ELEMENTS} elements are needed")
    places = index.astype(np.int64)
    return ctx.result(ops.Gather(x, Data(np.where(places < 0, places + total, places)), axis))


def gather_elements(ctx: ImportContext) -> Operand:
    """GatherElements of a constant that is one number throughout, wherever the index points."""
    table, at = ctx.operand(0), ctx.operand(1)
    elements = table.array.reshape(-1) if isinstance(table, ConstantOperand) else np.empty(0)
    if not elements.size or (elements != elements[0]).any():
        ctx.refuse("elements by indices of the run", "Gather by a constant is the nearest")
    return ConstantOperand(np.broadcast_to(elements[0], shape_of(at)), ctx.outputs[0])


def expand(ctx: ImportContext) -> Value:
    """Expand: x and the shape broadcast together."""
    x, shape = ctx.value(0), ctx.integer_list(1, "shape")
    if shape is None:
        ctx.refuse("no shape", "one is needed")
    try:
        to = np.broadcast_shapes(x.type.shape, shape)
    except ValueError:
        ctx.refuse(
            f"shape {list(shape)} of {list(x.type.shape)}", "shapes that broadcast are needed"
        )
    return ctx.result(ops.Expand(x, to))


def tile(ctx: ImportContext) -> Operand:
    """Tile: (a, b) by (r, s) as reshape (1, a, 1, b), expand (r, a, s, b), reshape (r a, s b)."""
    x, repeats = ctx.value(0), ctx.integer_list(1, "repeats")
    old = x.type.shape
    if repeats is None or len(repeats) != len(old) or min(repeats, default=1) < 1:
        ctx.refuse(f"repeats {repeats} of {list(old)}", "one of at least 1 for each axis is needed")
    if all(r == 1 for r in repeats):
        return x
    spread = ctx.emit(ops.Reshape(x, tuple(k for s in old for k in (1, s))))
    pairs = tuple(k for s, r in zip(old, repeats, strict=True) for k in (r, s))
    copied = ctx.emit(ops.Expand(spread, pairs))
    return ctx.result(ops.Reshape(copied, tuple(s * r for s, r in zip(old, repeats, strict=True))))


def depth_to_space(ctx: ImportContext) -> Value:
    """DepthToSpace: depth-column-row order (DCR), or column-row-depth (CRD)."""
    x, b = ctx.value(0), ctx.integer("blocksize")
    n, c, h, w = _blocks(ctx, x, b, 1)
    mode = ctx.text("mode", "DCR")
    if mode not in ("DCR", "CRD") or c % (b * b):
        ctx.refuse(
            f"mode {mode!r}, {c} channels, block {b}",
            "DCR or CRD, and block**2 channels, are needed",
        )
    depth = c // (b * b)
    if mode == "DCR":
        sizes, perm = (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        sizes, perm = (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3)
    planes = ctx.emit(ops.Transpose(ctx.emit(ops.Reshape(x, sizes)), perm))
    return ctx.result(ops.Reshape(planes, (n, depth, h * b, w * b)))


def space_to_depth(ctx: ImportContext) -> Value:
    """SpaceToDepth: the inverse of DepthToSpace in the same order; DCR where there is no mode."""
    x, b = ctx.value(0), ctx.integer("blocksize")
    n, c, h, w = _blocks(ctx, x, b, b)
    mode = ctx.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        ctx.refuse(f"mode {mode!r}", "DCR or CRD is needed")
    blocks = ctx.emit(ops.Reshape(x, (n, c, h // b, b, w // b, b)))
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    channels = ctx.emit(ops.Transpose(blocks, perm))
    return ctx.result(ops.Reshape(channels, (n, c * b * b, h // b, w // b)))


def _blocks(ctx: ImportContext, x: Value, block: int, step: int) -> tuple[int, int, int, int]:
    """The sizes of x, whose height and width are whole multiples of `step`."""
    if x.type.rank != 4 or block < 1 or x.type.shape[2] % step or x.type.shape[3] % step:
        ctx.refuse(f"x is {list(x.type.shape)}, block {block}", "rank 4 in whole blocks is needed")
    n, c, h, w = x.type.shape
    return n, c, h, w
