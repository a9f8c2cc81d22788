"""Layouts as permutations of axes: what lies alike in two of them, and after reshapes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from qir.ir.axes import Perm, Shape
from qir.ir.data import Data
from qir.ir.ops import Constant
from qir.ir.ops.reduce import Reduce
from qir.ir.types import Array, Quant


@lru_cache(1 << 14)
def order(shape: Shape, perm: Perm) -> Perm:
    """The axes longer than 1 in the order of `perm`: where it agrees, stored elements agree."""
    return tuple(a for a in perm if shape[a] != 1)


@lru_cache(1 << 14)
def is_free(shape: Shape, perm: Perm) -> bool:
    """Whether transposing by `perm` moves no element in memory, only axes of size 1."""
    axes = order(shape, perm)
    return all(a < b for a, b in pairwise(axes))


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
    source_order, at = order(source, perm), 0
    out: list[int] = []
    while at < len(source_order):
        inside, outside = groups[home[source_order[at]]]
        if tuple(source_order[at : at + len(inside)]) != inside:
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
    remaining = [a for a in range(op.result.type.rank + len(axes)) if a not in axes]
    return tuple(remaining.index(a) for a in perm if a not in axes)


def broadcast_shape(shape: Shape, rank: int) -> Shape:
    """`shape` with axes of size 1 in front, as broadcasting reads it."""
    return (*np.ones(rank - len(shape), int).tolist(), *shape)
