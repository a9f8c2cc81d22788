"""Places: which elements of a source the elements of a value are made of, however it was moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from qir.ir.data import Data
from qir.ir.op import Op, Value
from qir.ir.ops import (
    Add,
    Concat,
    Constant,
    Div,
    Expand,
    Gather,
    Mul,
    Neg,
    Reshape,
    Rope,
    Slice,
    Sub,
    Transpose,
)
from qir.ir.ops.sequence.rope import paired
from qir.ir.types import Array
from qir.passes.infra.constants import real_constant, split_constant
from qir.passes.infra.rewriter import Site

MAX_TERMS = 2  # of a sum: a rotation has two
MOVES = (Reshape, Transpose, Slice, Gather, Expand)  # of one operand, and of nothing else
NEGATIVE = np.array(-1.0)
Moving = Reshape | Transpose | Slice | Gather | Expand


@dataclass(frozen=True)
class Places:
    """y[e] = sum over k of factors[k, e] * source[places[k, e]], the source in flat order."""

    source: Value
    places: Array
    factors: Array

    def moved(self, op: Moving) -> Places:
        return Places(
            self.source,
            np.stack([op.evaluate(p) for p in self.places]),
            np.stack([op.evaluate(f) for f in self.factors]),
        )

    def times(self, factor: Array) -> Places:
        return Places(self.source, self.places, self.factors * factor)

    def rotated(self, op: Rope, cos: Array, sin: Array) -> Places:
        """Each element times its cosine, and its partner times its sine."""

        def parts(a: Array) -> tuple[Array, Array]:
            one, two, _ = paired(a, op.size, cos.shape[1], op.interleaved)
            return one, two

        def swapped(a: Array) -> Array:
            b = np.array(a)
            (one, two), (first, second) = parts(b), parts(a)
            one[...], two[...] = second, first
            return b

        places, factors = self.places[0], self.factors[0]
        cosines, sines = np.ones(places.shape), np.zeros(places.shape)
        for part in parts(cosines):
            part[...] = cos[:, None]
        one, two = parts(sines)
        one[...], two[...] = -sin[:, None], sin[:, None]
        products = np.stack([cosines * factors, sines * swapped(factors)])
        return Places(self.source, np.stack([places, swapped(places)]), products)

    def padded(self, terms: int) -> Places:
        """The same sum with terms of factor 0, of the places that are there already."""
        more = terms - len(self.places)
        places = np.concatenate([self.places, np.repeat(self.places[:1], more, 0)])
        zeros = np.zeros((more, *self.factors.shape[1:]))
        return Places(self.source, places, np.concatenate([self.factors, zeros]))


def source_of(
    at: Site, value: Value, sums: bool, op: Op | None = None, size: int | None = None
) -> Value:
    """The value that `value` is made of by moves and by constant factors (uniform ones where not
    `sums`); with `sums`, by sums of that too. `op` makes `value`, where that is at hand; a value
    of `size` elements is not looked for in larger ones.
    """

    def inner(v: Value) -> Value:
        return source_of(at, v, sums, size=size)

    op = op or at.producer(value)
    if op is None or isinstance(op, Constant):
        return value
    if isinstance(op, Concat):
        sources = {inner(v) for v in op.xs}
        return sources.pop() if len(sources) == 1 else value
    if isinstance(op, (*MOVES, Neg)):
        x = op.operands[0]
        return value if value.type.size == size and x.type.size > size else inner(x)
    if (scaled := factor_of(at, op, sums)) is not None:
        return inner(scaled[0])
    if sums and isinstance(op, Rope):
        return inner(op.x)
    if sums and isinstance(op, (Add, Sub)) and op.a.type == op.b.type:
        a, b = (inner(v) for v in (op.a, op.b))
        return a if a == b and op.a != op.b else value
    return value


def factor_of(at: Site, op: Op | None, sums: bool) -> tuple[Value, Array] | None:
    """(x, c) of an op that multiplies x by a constant c, or divides it by 1 / c."""
    if not isinstance(op, (Mul, Div)) or (split := split_constant(at, op)) is None:
        return None
    x, c, first = split
    uniform = c.size > 0 and bool(np.all(c == c.flat[0]))
    if (isinstance(op, Div) and not (first and np.all(c != 0))) or not (sums or uniform):
        return None
    return x, 1 / c if isinstance(op, Div) else c


def places_of(
    at: Site, value: Value, source: Value, sums: bool = False, op: Op | None = None
) -> Places | None:
    """`value` in elements of `source`, which source_of() gives; None of sums of too many."""
    if value == source:
        every = np.arange(value.type.size).reshape(1, *value.type.shape)
        return Places(source, every, np.ones(every.shape))
    op = op or at.producer(value)
    if isinstance(op, Concat):
        parts = [places_of(at, v, source, sums) for v in op.xs]
        return _joined(parts, op)
    if isinstance(op, MOVES):
        inner = places_of(at, op.operands[0], source, sums)
        return None if inner is None else inner.moved(op)
    if isinstance(op, Neg):
        inner = places_of(at, op.x, source, sums)
        return None if inner is None else inner.times(NEGATIVE)
    if (scaled := factor_of(at, op, sums)) is not None:
        inner = places_of(at, scaled[0], source, sums)
        return None if inner is None else inner.times(scaled[1])
    if isinstance(op, Rope):
        return _rotated(at, op, places_of(at, op.x, source, sums))
    if not isinstance(op, (Add, Sub)):
        return None
    a, b = (places_of(at, v, source, sums) for v in (op.a, op.b))
    if a is None or b is None or len(a.places) + len(b.places) > MAX_TERMS:
        return None
    b = b.times(NEGATIVE) if isinstance(op, Sub) else b
    return Places(
        source, np.concatenate([a.places, b.places]), np.concatenate([a.factors, b.factors])
    )


def _rotated(at: Site, op: Rope, x: Places | None) -> Places | None:
    cos, sin = (real_constant(at, table) for table in (op.cos, op.sin))
    if x is None or len(x.places) > 1 or cos is None or sin is None:
        return None
    return x.rotated(op, cos, sin)


def _joined(parts: Sequence[Places | None], op: Concat) -> Places | None:
    places = [p for p in parts if p is not None]
    if len(places) != len(parts):
        return None
    terms = max(len(p.places) for p in places)
    places = [p.padded(terms) for p in places]
    return Places(
        places[0].source,
        np.concatenate([p.places for p in places], op.axis + 1),
        np.concatenate([p.factors for p in places], op.axis + 1),
    )


# -- places as moves again


def emitted(at: Site, source: Value, places: Array) -> Value | None:
    """The elements `places` of the source, in this shape, by as few moves as they take: a reshape;
    a slice or gather of the last axis; a transpose between reshapes, behind such a part. None for
    other places.
    """
    if np.array_equal(places.reshape(-1), np.arange(source.type.size)):
        return reshaped(at, source, places.shape)
    if (grid := _channels(places, source)) is not None:
        rows, channels = grid
        lead = source.type.shape[:-1]
        if np.array_equal(rows, np.arange(len(rows))):
            lead = places.shape[:-1]
        part = _part(at, reshaped(at, source, (*lead, source.type.shape[-1])), channels)
        width = len(channels)
        return emitted(at, part, (rows[:, None] * width + np.arange(width)).reshape(places.shape))
    split = _axes(places)
    if split is None or places.size != source.type.size:
        return None
    sizes, strides = split
    order = sorted(range(len(sizes)), key=lambda k: -strides[k])
    if any(strides[k] != prod(sizes[j] for j in order[i + 1 :]) for i, k in enumerate(order)):
        return None
    view = reshaped(at, source, tuple(sizes[k] for k in order))
    perm = tuple(order.index(k) for k in range(len(sizes)))
    return reshaped(at, at.emit(Transpose(view, perm)), places.shape)


def _part(at: Site, x: Value, channels: Array) -> Value:
    """Some channels of the last axis: a slice where they stand side by side, else a gather."""
    rank, first = x.type.rank, int(channels[0])
    if not np.array_equal(channels, np.arange(first, first + len(channels))):
        return at.emit(Gather(x, Data(channels), rank - 1))
    start, stop = [0] * rank, list(x.type.shape)
    start[-1], stop[-1] = first, first + len(channels)
    return at.emit(Slice(x, tuple(start), tuple(stop), (1,) * rank))


def reshaped(at: Site, x: Value, shape: tuple[int, ...]) -> Value:
    return x if x.type.shape == shape else at.emit(Reshape(x, shape))


def _channels(places: Array, source: Value) -> tuple[Array, Array] | None:
    """(rows, channels) where the rows of `places` are the same some channels of each row of the
    source, in any order of rows; None where they are not, or are all channels.
    """
    wide, count = source.type.shape[-1] if source.type.rank else 1, prod(places.shape[:-1])
    if not places.size or count * wide != source.type.size or places.shape[-1] == wide:
        return None
    flat = places.reshape(count, -1)
    rows, channels = flat[:, 0] // wide, flat[0] % wide
    is_grid = np.array_equal(flat, rows[:, None] * wide + channels)
    return (rows, channels) if is_grid else None


def _axes(places: Array) -> tuple[list[int], list[int]] | None:
    """Sizes and strides of axes, each of `places` split in as many as it takes; None if none do."""
    sizes, strides = [], []
    for axis, size in enumerate(places.shape):
        line = np.moveaxis(places, axis, 0).reshape(size, -1)[:, 0]
        if size > 1:
            runs = _runs(line - line[0])
            sizes += [n for n, _ in runs]
            strides += [s for _, s in runs]
    grid = np.zeros((), np.int64)
    for n, s in zip(sizes, strides, strict=True):
        grid = grid[..., None] + np.arange(n) * s
    return (sizes, strides) if np.array_equal(grid.reshape(-1), places.reshape(-1)) else None


def _runs(line: Array) -> list[tuple[int, int]]:
    """(size, stride) of nested even steps, outermost first: 0 1 4 5 is two of 4, two of 1."""
    if len(line) == 1:
        return []
    step = int(line[1])
    even = np.arange(len(line)) * step == line
    run = len(line) if even.all() else int(np.argmin(even))
    if len(line) % run:
        return [(len(line), step)]  # uneven: the caller compares, and gives up
    return [*_runs(line[::run]), (run, step)]
