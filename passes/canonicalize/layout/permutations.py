"""Layouts as permutations of axes, and ops on permuted operands."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.ops import (
    BatchNorm,
    Concat,
    Constant,
    Dequantize,
    Expand,
    Gather,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Pad,
    PRelu,
    Quantize,
    Slice,
    Softmax,
    Unary,
)  # fmt: skip
from qir.ir.ops.elementwise import Binary
from qir.ir.ops.reduce import Reduce
from qir.ir.types import Array, Elem, Quant

Perm = tuple[int, ...]
Shape = tuple[int, ...]

# Ops that read their last axes as such: how many must stay where they are.
TAILS: dict[type[Op], int] = {Softmax: 1, LayerNorm: 1, BatchNorm: 1, Linear: 1, MatMul: 2}


@cache
def identity(rank: int) -> Perm:
    return tuple(range(rank))


@lru_cache(1 << 12)
def compose(first: Perm, then: Perm) -> Perm:
    """One permutation for transpose(transpose(x, first), then)."""
    return tuple(first[i] for i in then)


@lru_cache(1 << 12)
def inverse(perm: Perm) -> Perm:
    back = [0] * len(perm)
    for to, source in enumerate(perm):
        back[source] = to
    return tuple(back)


def permuted(shape: Shape, perm: Perm) -> Shape:
    return tuple(shape[a] for a in perm)


@lru_cache(1 << 14)
def order(shape: Shape, perm: Perm) -> Perm:
    """The axes longer than 1 in the order of `perm`: where it agrees, stored elements agree."""
    return tuple(a for a in perm if shape[a] != 1)


@lru_cache(1 << 14)
def is_free(shape: Shape, perm: Perm) -> bool:
    """Whether transposing by `perm` moves no element in memory, only axes of size 1."""
    kept = order(shape, perm)
    return all(a < b for a, b in pairwise(kept))


def is_elementwise(op: Op | None) -> bool:
    """Whether each element of the result depends on the same element of x alone."""
    if isinstance(op, Quantize):
        return op.to.is_per_tensor
    if isinstance(op, Dequantize):
        return op.x.type.quant.is_per_tensor
    return isinstance(op, Unary)


def fixed_tail(op: Op) -> int:
    """The number of last axes that a permutation must keep last."""
    return TAILS.get(type(op), 0)


def followers(op: Op) -> tuple[Value, ...] | None:
    """The operands that must share the result's layout for the op to follow it; None when it
    cannot follow.
    """
    match op:
        case Unary() | Quantize() | Dequantize() | Pad() | Slice() | Softmax() | LayerNorm():
            return (cast(Any, op).x,)
        case BatchNorm() | Linear():
            return (op.x,)
        case Binary():
            return tuple(v for v in (op.a, op.b) if v.type.rank == op.result.type.rank)
        case PRelu():
            return (op.x,)
        case MatMul():
            return (op.a, op.b) if op.a.type.rank == op.b.type.rank else None
        case Concat():
            return op.xs
        case Lookup():
            return (op.x,) if op.table.array.ndim == 1 else None
        case Gather():
            return (op.x,) if op.index.array.ndim == 1 else None
        case Expand():
            return (op.x,) if op.x.type.rank == len(op.shape) else None
        case Reduce():
            return (op.x,) if op.keep else None
        case _:
            return None


def beside(op: Op) -> tuple[Value, ...]:
    """Operands that broadcast along the result's layout from a lower rank: to be reshaped, then
    permuted.
    """
    match op:
        case Binary():
            return tuple(v for v in (op.a, op.b) if v.type.rank < op.result.type.rank)
        case PRelu():
            return (op.slope,)
        case _:
            return ()


def follow(op: Op, perm: Perm) -> Op:
    """The op with its attributes moved to a layout; its operands are bound by the caller."""
    match op:
        case Quantize():
            return replace(op, to=moved_quant(op.to, perm))
        case Concat() | Gather():
            return replace(op, axis=perm.index(op.axis))
        case Pad():
            before, after, between = (permuted(t, perm) for t in (op.before, op.after, op.between))
            return replace(op, before=before, after=after, between=between)
        case Slice():
            start, stop, step = (permuted(t, perm) for t in (op.start, op.stop, op.step))
            return replace(op, start=start, stop=stop, step=step)
        case Expand():
            return replace(op, shape=permuted(op.shape, perm))
        case Reduce():
            return replace(op, axes=tuple(sorted(perm.index(a) for a in op.axes)))
        case _:
            return op


def moved_quant(quant: Quant, perm: Perm) -> Quant:
    """A quantization for the permuted tensor: its axis, and the blocks along it, move too."""
    if quant.axis is None:
        return quant
    scale, zero = quant.scale, quant.zero_point
    if quant.block is not None:
        scale, zero = Data(scale.array.transpose(perm)), Data(zero.array.transpose(perm))
    return replace(quant, axis=perm.index(quant.axis), scale=scale, zero_point=zero)


def moved_constant(op: Constant, perm: Perm) -> Constant:
    """The constant in another layout."""
    elem: Elem = moved_quant(op.elem, perm) if isinstance(op.elem, Quant) else op.elem
    return Constant(Data(op.value.array.transpose(perm)), elem)


def reordered_constant(op: Constant, axis: int, index: Array) -> Constant | None:
    """The constant with its slices along `axis` in the order of `index`, their scales and zero
    points with them; None when blocks that share a scale would be torn apart.
    """
    array = np.take(op.value.array, index, axis)
    if not isinstance(op.elem, Quant) or op.elem.axis is None:
        return Constant(Data(array), op.elem)
    quant = op.elem
    if quant.block is None:
        if axis != quant.axis:
            return Constant(Data(array), quant)
        scale, zero = quant.scale.array[index], quant.zero_point.array[index]
    else:
        if axis == quant.axis:
            homes = np.asarray(index).reshape(-1, quant.block) // quant.block
            if np.any(homes != homes[:, :1]):
                return None
            index = homes[:, 0]
        scale, zero = (np.take(d.array, index, axis) for d in (quant.scale, quant.zero_point))
    return Constant(Data(array), replace(quant, scale=Data(scale), zero_point=Data(zero)))


def through_reshape(source: Shape, target: Shape, perm: Perm) -> Perm | None:
    """The layout of reshape(x, target) whose elements lie as those of x (`source`) in layout
    `perm`.

    None when `perm` tears apart axes that the reshape merges. Axes of size 1 weigh nothing.
    """
    if 0 in source:
        return None
    groups = reshape_groups(source, target)
    home = {axis: i for i, (inside, _) in enumerate(groups) for axis in inside}
    kept, at = order(source, perm), 0
    out: list[int] = []
    while at < len(kept):
        inside, outside = groups[home[kept[at]]]
        if tuple(kept[at : at + len(inside)]) != inside:
            return None
        out += outside
        at += len(inside)
    rest = iter(out)
    return tuple(i if s == 1 else next(rest) for i, s in enumerate(target))


def reshape_groups(source: Shape, target: Shape) -> list[tuple[Perm, Perm]]:
    """The smallest groups of axes (without size 1) of both shapes with equal products, in order."""
    left = [(a, s) for a, s in enumerate(source) if s != 1]
    right = [(a, s) for a, s in enumerate(target) if s != 1]
    groups: list[tuple[Perm, Perm]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, p, q = (i, j), left[i][1], right[j][1]
        while p != q:
            if p < q:
                i += 1
                p *= left[i][1]
            else:
                j += 1
                q *= right[j][1]
        i, j = i + 1, j + 1
        sides = left[start[0] : i], right[start[1] : j]
        groups.append((tuple(a for a, _ in sides[0]), tuple(a for a, _ in sides[1])))
    return groups


def through_reduce(op: Reduce, perm: Perm) -> Perm:
    """The layout of a reduction's result, reduced axes gone, when its operand is in layout
    `perm`.
    """
    axes = op.axes
    kept = [a for a in range(op.result.type.rank + len(axes)) if a not in axes]
    return tuple(kept.index(a) for a in perm if a not in axes)


def broadcast_shape(shape: Shape, rank: int) -> Shape:
    """`shape` with axes of size 1 in front, as broadcasting reads it."""
    return (*np.ones(rank - len(shape), int).tolist(), *shape)
