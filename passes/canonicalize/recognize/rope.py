"""Recognize rotary position embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from qir.ir.op import Op, Value
from qir.ir.ops import Add, Concat, Constant, Mul, Rope, Sub, Transpose
from qir.ir.types import Array
from qir.passes.canonicalize.recognize.places import (
    MOVES,
    Places,
    emitted,
    factor_of,
    places_of,
    reshaped,
    source_of,
)
from qir.passes.infra.manager import Claim, Miss, keeps_reals, register
from qir.passes.infra.rewriter import RewritePass, Site

UNIT = 0.02  # of cos**2 + sin**2 from 1: tables of 8 bits of mantissa


@register
@dataclass(frozen=True)
class RecognizeRope(RewritePass):
    """x * cos + rotated(x) * sin, by constant tables -> rope(x, cos, sin)

    In any way of writing it that makes each element of two elements of x, or leaves it as it is:
    halves (concat(-x2, x1) * sin), interleaved pairs (x[..., 0::2], x[..., 1::2]), a part of each
    head that is rotated, in place or apart from the rest, tokens in front that are not. What moved
    the elements of x before the rotation moves those of the result.
    Keeps: reals within 1e-5.
    Source: Su et al. 2021, arXiv:2104.09864.
    """

    name: ClassVar[str] = "recognize-rope"
    claim: ClassVar[Claim] = keeps_reals(1e-5)
    roots: ClassVar[tuple[type[Op], ...]] = (Add, Sub, Concat)

    def rewrite(self, op: Op, at: Site) -> Value | Miss:
        value = op.result
        if not value.type.is_float or not turns(at, op):
            return Miss("no sum of two products by constants")
        source = source_of(at, value, True, op, value.type.size)
        if source == value or source.type.size != value.type.size or not source.type.rank:
            return Miss("not all elements are of one value, each of it once")
        places = places_of(at, value, source, True, op)
        rotation = None if places is None else rotation_of(places)
        if rotation is None:
            return Miss("it rotates no pairs of channels", source.name)
        split = heads_of(source, rotation)
        if split is None:
            return Miss("its angles depend on more than one axis of tokens", source.name)
        is_joined = any(isinstance(r, Concat) for r in at.graph.users.get(value.name, ()))
        rows = None if is_joined else split.rows(at, source)  # a part is of what the whole is of
        rope, scale = split.emitted(at, source, rows), rotation.scale
        if scale != 1:
            rope = at.emit(Mul(rope, at.emit(Constant.of(np.float32(scale)))))
        y = emitted(at, reshaped(at, rope, source.type.shape), rotation.places)
        return Miss("the result is no transpose of its source", source.name) if y is None else y


def turns(at: Site, op: Op) -> bool:
    """Whether two products by constants are added, in this op or before moves that it joins."""
    match op:
        case Add() | Sub():
            return all(factor_of(at, at.producer(v), True) is not None for v in (op.a, op.b))
        case Concat():
            return any(turns(at, inner) for v in op.xs if (inner := unmoved(at, v)) is not None)
        case Rope():
            return True
    return False


def unmoved(at: Site, value: Value) -> Op | None:
    """The op that makes what moves bring to `value`; of joined parts none."""
    producer = at.producer(value)
    while isinstance(producer, MOVES):
        producer = at.producer(producer.x)
    return None if isinstance(producer, Concat) else producer


@dataclass(frozen=True)
class RotationPlaces:
    """Where each element of the result stands in the source (`places`), and for each element of
    the source, in flat order: that of its partner (itself, where it is not rotated), cos and sin.
    """

    places: Array
    partner: Array
    cos: Array
    sin: Array
    scale: float


def rotation_of(sums: Places) -> RotationPlaces | None:
    """The rotation that the sums are, with a factor in front; None where they are none."""
    if len(sums.places) != 2:
        return None
    shape, size = sums.places.shape[1:], sums.source.type.size
    one, two = sums.places.reshape(2, -1)
    low, high = np.minimum(one, two), np.maximum(one, two)
    order = np.lexsort((np.arange(size), high, low))
    first, second = order[:-1], order[1:]  # each pair's two elements stand side by side
    paired = (low[first] == low[second]) & (high[first] == high[second]) & (one != two)[first]
    a, b = first[paired], second[paired]
    places = one.copy()
    places[a], places[b] = low[a], high[b]
    if not np.array_equal(np.sort(places), np.arange(size)):
        return None
    is_rotated = np.zeros(size, bool)
    is_rotated[a] = is_rotated[b] = True
    if np.any(is_rotated != (one != two)):
        return None
    itself = np.where(one == places, 0, 1)
    factors = sums.factors.reshape(2, -1)
    cosines = np.take_along_axis(factors, itself[None], 0)[0]
    other = np.take_along_axis(factors, 1 - itself[None], 0)[0]
    cosines = np.where(is_rotated, cosines, factors.sum(0))
    if not np.array_equal(cosines[a], cosines[b]) or not np.array_equal(other[a], -other[b]):
        return None
    cos, sin, partner = np.empty(size), np.zeros(size), np.arange(size)
    cos[places] = cosines
    sin[low[a]] = sin[high[a]] = other[b]
    partner[low[a]], partner[high[a]] = high[a], low[a]
    return _scaled(places.reshape(shape), partner, cos, sin)


def _scaled(places: Array, partner: Array, cos: Array, sin: Array) -> RotationPlaces | None:
    length = np.sqrt(cos**2 + sin**2)
    scale = float(np.median(length))
    if scale <= 0 or np.any(np.abs(length / scale - 1) > UNIT):
        return None
    scale = 1.0 if abs(scale - 1) <= UNIT else scale
    return RotationPlaces(places, partner, cos / scale, sin / scale, scale)


@dataclass(frozen=True)
class Split:
    """The source as (..., N, heads * size), and what turns pairs of each head's channels."""

    shape: tuple[int, ...]
    size: int
    cos: Array
    sin: Array
    interleaved: bool

    def emitted(self, at: Site, source: Value, rows: Value | None) -> Value:
        """The rotation of `rows`, if they are given, or of the source as it is."""
        cos, sin = (at.emit(Constant.of(t.astype(np.float32))) for t in (self.cos, self.sin))
        x = reshaped(at, source, self.shape) if rows is None else rows
        rotation = at.emit(Rope(x, cos, sin, self.size, self.interleaved))
        if rows is None or len(self.shape) == 3:
            return rotation
        b, heads, n, width = self.shape
        return at.emit(Transpose(reshaped(at, rotation, (b, n, heads, width)), (0, 2, 1, 3)))

    def rows(self, at: Site, source: Value) -> Value | None:
        """A source (B, N, heads * size), or (B, heads, N, size), as channels (B, N, heads * size)
        of what it is a part of; None where it is no such part.
        """
        origin = source_of(at, source, sums=False)
        moves = None if origin == source else places_of(at, source, origin)
        if moves is None or np.any(moves.factors != 1) or len(self.shape) not in (3, 4):
            return None
        places = moves.places[0].reshape(self.shape)
        if len(self.shape) == 4:
            places = places.transpose(0, 2, 1, 3).reshape(self.shape[0], self.shape[2], -1)
        count, wide = places.shape[0] * places.shape[1], origin.type.shape[-1]
        steps = np.arange(count).reshape(*places.shape[:2], 1) * wide
        is_part = origin.type.size == count * wide and np.array_equal(
            places, steps + places[:1, :1]
        )
        return emitted(at, origin, places) if is_part else None


def heads_of(source: Value, rotation: RotationPlaces) -> Split | None:
    """The axis of tokens and the size of heads by which one table (N, R / 2) says all angles."""
    for lead, n, width in token_axes(source.type.shape):
        shape = (prod(lead), n, width)
        cos, sin, offset = (
            t.reshape(shape)
            for t in (rotation.cos, rotation.sin, rotation.partner - np.arange(source.type.size))
        )
        if any(np.any(t != t[:1]) for t in (cos, sin, offset)) or np.any(offset != offset[:, :1]):
            continue
        wide = source.type.shape[-1]
        size = _period(np.concatenate([cos[0], sin[0], offset[0]]), width, wide)
        pairs = _pairs(offset[0, 0, :size])
        if pairs is None:
            continue
        places, interleaved = pairs
        return Split((*lead, n, width), size, cos[0][:, places], sin[0][:, places], interleaved)
    return None


def token_axes(shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], int, int]]:
    """(axes in front, N, elements behind) for each axis that may be that of tokens; of a matrix,
    each way to take its rows apart too.
    """
    rank = len(shape)
    if rank == 2:
        rows, wide = shape
        return [((rows // n,), n, wide) for n in range(1, rows + 1) if rows % n == 0]
    axes = range(rank - 2, 0, -1) if rank > 2 else range(0)
    return [(shape[:a], shape[a], prod(shape[a + 1 :])) for a in axes]


def _period(rows: Array, width: int, wide: int) -> int:
    """The least number of channels after which all rows repeat; that of the last axis at most."""
    sizes = [s for s in range(1, wide + 1) if width % s == 0 and wide % s == 0]
    return next(s for s in sizes if np.array_equal(rows, np.tile(rows[:, :s], width // s)))


def _pairs(offset: Array) -> tuple[Array, bool] | None:
    """(the first channels of pairs, whether pairs are side by side); None for other pairs."""
    first = np.flatnonzero(offset > 0)
    count = len(first)
    if not count or np.count_nonzero(offset < 0) != count:
        return None
    if np.array_equal(first, np.arange(count)) and np.all(offset[first] == count):
        return first, False
    if np.array_equal(first, 2 * np.arange(count)) and np.all(offset[first] == 1):
        return first, True
    return None
