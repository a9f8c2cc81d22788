"""Random calls of the kernels that move or replace single elements, with their meaning in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from qir.backends.kernels.lookup import lookup
from qir.backends.kernels.move import copy, fill, frame, gather
from qir.backends.kernels.plane import RANGE, Plane
from qir.backends.kernels.view import View
from tests.backends.kernels.held import (
    ALL,
    BYTES,
    Array,
    Case,
    held,
    out,
    pick,
    sizes,
    spread,
    zero,
)


def copy_case(rng: Generator, features: frozenset[str]) -> Case:
    shape = sizes(rng, int(rng.integers(0, 5)))
    dtype = pick(rng, *ALL)
    x, y = spread(rng, dtype, shape), spread(rng, dtype, shape)
    if rng.random() < 0.2 and shape:
        x = View.packed(dtype, tuple(1 if rng.random() < 0.5 else s for s in shape)).expanded(shape)
    a = held(rng, x)
    return Case(copy(x, y, features), {"x": a}, out(rng, y), a.items.copy())


def transpose_case(rng: Generator, features: frozenset[str]) -> Case:
    """Two axes change places: planes of a few channels, and large squares."""
    dtype = pick(rng, *ALL)
    n, h, w, c = pick(
        rng,
        (2, 9, 33, 3),
        (1, 32, 32, 3),
        (1, 5, 7, 40),
        (2, 1, 50, 70),
        (1, 24, 24, 1),
        (1, 9, 70, 4),
    )
    wide, flat = (
        View.packed(dtype, (n, h, w, c)),
        View.packed(dtype, (n, c, h, w)).transposed((0, 2, 3, 1)),
    )
    x, y = (wide, flat) if rng.random() < 0.5 else (flat, wide)
    a = held(rng, x)
    return Case(copy(x, y, features), {"x": a}, out(rng, y), a.items.copy())


def fill_case(rng: Generator, features: frozenset[str]) -> Case:
    y = spread(rng, pick(rng, *ALL), sizes(rng, int(rng.integers(0, 4))))
    value = zero(rng, y.dtype)
    return Case(fill(y, value, features), {}, out(rng, y), np.full(y.shape, value, y.dtype))


def frame_case(rng: Generator, features: frozenset[str]) -> Case:
    n, h, w, c = pick(rng, (1, 1, 1, 1), (2, 5, 4, 3), (1, 8, 8, 40), (3, 3, 9, 16))
    pad = tuple(int(v) for v in rng.integers(0, 4, 4))
    dtype = pick(rng, *ALL)
    outer = View.packed(dtype, (n, pad[0] + h + pad[2], pad[1] + w + pad[3], c))
    inside = Plane(dtype, n, h, w, c, *outer.strides[:3])
    value = zero(rng, dtype)
    y = out(rng, outer)
    expected = np.full(outer.shape, value, dtype)
    rows, columns = slice(pad[0], pad[0] + h), slice(pad[1], pad[1] + w)
    expected[:, rows, columns] = y.items[:, rows, columns]
    return Case(frame(inside, pad, value, features), {}, y, expected)  # type: ignore[arg-type]


def gather_case(rng: Generator, features: frozenset[str]) -> Case:
    dtype, shape = pick(rng, *ALL), sizes(rng, int(rng.integers(1, 4)), 600)
    x = held(rng, view := spread(rng, dtype, shape))
    offsets: list[Any] = []
    index: list[Array] = []
    for size, stride in zip(shape, view.strides, strict=True):
        own = pick(
            rng, np.arange(size), np.arange(size)[::-1], np.sort(rng.integers(0, size, 9)),
            np.pad(np.arange(size), min(2, size - 1), mode="reflect"), rng.integers(0, size, size),
        )  # fmt: skip
        index.append(own)
        offsets.append(
            stride if np.array_equal(own, np.arange(size)) and rng.random() < 0.5 else own * stride
        )
    y = spread(rng, dtype, tuple(len(i) for i in index))
    return Case(gather(offsets, dtype, y, features), {"x": x}, out(rng, y), x.items[np.ix_(*index)])


def lookup_case(rng: Generator, features: frozenset[str]) -> Case:
    shape = sizes(rng, int(rng.integers(1, 4)))
    x = spread(rng, pick(rng, *BYTES), shape)
    y = spread(rng, pick(rng, *BYTES, *ALL), shape)
    per_channel = rng.random() < 0.4
    table = rng.integers(
        *RANGE[y.dtype], (shape[-1], 256) if per_channel else 256, endpoint=True
    ).astype(y.dtype)
    a, first = held(rng, x), RANGE[x.dtype][0]
    index = a.items.astype(np.int64) - first
    expected = table[np.arange(shape[-1]), index] if per_channel else table[index]
    return Case(lookup(x, table, first, y, features), {"x": a}, out(rng, y), expected)
