"""Random calls of the kernels that add and multiply, with their meaning in NumPy int64."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from qir.backends.kernels.bilinear import bilinear
from qir.backends.kernels.contraction.wide import wide
from qir.backends.kernels.elementwise import multiply, requantize
from qir.backends.kernels.matmul import matmul
from qir.backends.kernels.plane import RANGE
from qir.backends.kernels.pool import PoolWindow, max_pool, sum_pool
from qir.backends.kernels.reduce import reduce_max, reduce_sum
from qir.backends.kernels.requantize.scale import Scale
from qir.backends.kernels.softmax import softmax
from qir.backends.kernels.view import View
from qir.ir.ops.softmax import reciprocal
from qir.ir.ops.window import padded, window_sizes, windows
from tests.backends.kernels.held import (
    ALL,
    BYTES,
    Case,
    broadcast,
    held,
    out,
    pick,
    plane,
    scale_for,
    scaled,
    sizes,
    spread,
    zero,
)  # fmt: skip


def requantize_case(rng: Generator, features: frozenset[str]) -> Case:
    shape = sizes(rng, int(rng.integers(1, 5)))
    count = int(pick(rng, 1, 1, 2, 2, 3))
    dtypes = [pick(rng, *BYTES, "int16", "int32")] * count
    if rng.random() < 0.5:
        dtypes = [pick(rng, *BYTES, *BYTES, *ALL) for _ in range(count)]
    views = [
        broadcast(rng, d, shape) if rng.random() < 0.4 else spread(rng, d, shape) for d in dtypes
    ]
    xs = [held(rng, v) for v in views]
    zeros = [zero(rng, d) if d != "int32" else 0 for d in dtypes]
    y = spread(
        rng,
        pick(rng, "uint8", "uint8", "int8", "int16", "uint16", "int32"),
        shape,
        near=rng.random() < 0.7,
    )
    bits = [{1: 9, 2: 17, 4: 32}[np.dtype(d).itemsize] for d in dtypes]
    scale = scale_for(rng, shape, y.dtype, [max(bits) + (count > 2)] * count)
    kernel = requantize(views, zeros, scale, y, features)
    terms = [x.items.astype(np.int64) - z for x, z in zip(xs, zeros, strict=True)]
    expected = np.broadcast_to(scaled(scale, terms, y.dtype), shape)
    return Case(kernel, {f"x{i}": x for i, x in enumerate(xs)}, out(rng, y), expected)


def add_case(rng: Generator, features: frozenset[str]) -> Case:
    """The sum of two byte tensors as residual networks have it."""
    shape = (1, 8, int(pick(rng, 8, 9)), int(pick(rng, 16, 20, 64)))
    dtypes = [pick(rng, *BYTES) for _ in range(2)]
    views = [View.of(plane(rng, d, shape)) for d in dtypes]
    xs, zeros = [held(rng, v) for v in views], [zero(rng, d) for d in dtypes]
    y = View.of(plane(rng, pick(rng, *BYTES), shape))
    mult = tuple(int(v) for v in rng.integers(2**28, 2**31, 2))
    scale = Scale(mult, int(rng.integers(29, 36)), zero(rng, y.dtype), *RANGE[y.dtype])
    kernel = requantize(views, zeros, scale, y, features)
    expected = scaled(
        scale, [x.items.astype(np.int64) - z for x, z in zip(xs, zeros, strict=True)], y.dtype
    )
    return Case(kernel, {"x0": xs[0], "x1": xs[1]}, out(rng, y), expected)


def product_case(rng: Generator, features: frozenset[str]) -> Case:
    shape = sizes(rng, int(rng.integers(1, 4)))
    dtypes = [pick(rng, *BYTES), pick(rng, *BYTES, "int16")]
    views = [
        broadcast(rng, d, shape) if rng.random() < 0.4 else spread(rng, d, shape) for d in dtypes
    ]
    xs = [held(rng, v) for v in views]
    zeros = zero(rng, dtypes[0]), zero(rng, dtypes[1])
    wide_product = (xs[0].items.astype(np.int64) - zeros[0]) * (
        xs[1].items.astype(np.int64) - zeros[1]
    )
    product = np.broadcast_to(wide_product, shape)
    scale, dtype = None, "int32"
    if rng.random() < 0.7:
        dtype = pick(rng, "uint8", "int8", "int16")
        scale = scale_for(rng, shape, dtype, [27])
    y = spread(rng, dtype, shape, near=True)
    expected = scaled(scale, [product], dtype) if scale else product.astype(np.int32)
    return Case(
        multiply(views[0], views[1], zeros, y, features, scale),
        {"x0": xs[0], "x1": xs[1]},
        out(rng, y),
        expected,
    )


def window(rng: Generator) -> tuple[PoolWindow, int, int]:
    """A window, and a height and width that it fits into."""
    kernel = tuple(int(pick(rng, 1, 2, 3, 3, 5, 7)) for _ in range(2))
    stride, dilation = (tuple(int(pick(rng, 1, 1, 2, 3)) for _ in range(2)) for _ in range(2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [r + int(rng.integers(0, 7)) for r in reach]
    pad = tuple(
        int(rng.integers(0, min(r, s))) if rng.random() < 0.5 else 0
        for r, s in zip(reach * 2, size * 2, strict=True)
    )
    return PoolWindow(kernel, stride, pad, dilation), size[0], size[1]  # type: ignore[arg-type]


def pool_case(rng: Generator, features: frozenset[str]) -> Case:
    w, height, width = window(rng)
    out_size = window_sizes(height, width, w.kernel, w.stride, w.pad, w.dilation)
    n, c = int(pick(rng, 1, 2)), int(pick(rng, 1, 3, 8, 16, 24, 64, 70))
    shape = (n, *out_size, c)
    x = plane(rng, pick(rng, *BYTES, *BYTES, "int16", "uint16"), (n, height, width, c))
    a = held(rng, View.of(x))
    taps = windows(padded(a.items, w.pad, RANGE[x.dtype][0]), w.kernel, w.stride, w.dilation)
    if any(
        (t >= 0).sum(1).min() < 1 for t in (w.taps(0, height, shape[1]), w.taps(1, width, shape[2]))
    ):
        return pool_case(rng, features)
    if rng.random() < 0.5:
        y = plane(rng, x.dtype, shape)
        return Case(
            max_pool(x, y, w, features), {"x": a}, out(rng, View.of(y)), taps.max(axis=(3, 4))
        )
    z, scale, dtype = zero(rng, x.dtype), None, "int32"
    if rng.random() < 0.7:
        dtype = pick(rng, *BYTES)
        scale = scale_for(rng, shape, dtype, [24])
    y = plane(rng, dtype, shape)
    total = windows(
        padded(a.items.astype(np.int64) - z, w.pad, 0), w.kernel, w.stride, w.dilation
    ).sum(axis=(3, 4))
    expected = scaled(scale, [total], dtype) if scale else total.astype(np.int32)
    return Case(sum_pool(x, y, w, z, features, scale), {"x": a}, out(rng, View.of(y)), expected)


def reduce_case(rng: Generator, features: frozenset[str]) -> Case:
    shape = sizes(rng, int(rng.integers(1, 5)))
    axes = tuple(i for i in range(len(shape)) if rng.random() < 0.5)
    if rng.random() < 0.3:
        shape, axes = (
            (int(pick(rng, 1, 2)), 7, int(pick(rng, 3, 7)), int(pick(rng, 10, 64, 100))),
            (1, 2),
        )
    x = spread(rng, pick(rng, *BYTES, *BYTES, "int16"), shape)
    a, kept = held(rng, x), tuple(1 if i in axes else s for i, s in enumerate(shape))
    if rng.random() < 0.3:
        y = spread(rng, x.dtype, kept)
        return Case(
            reduce_max(x, axes, y, features),
            {"x": a},
            out(rng, y),
            a.items.max(axes, keepdims=True),
        )
    z, scale, dtype = zero(rng, x.dtype), None, "int32"
    if rng.random() < 0.7:
        dtype = pick(rng, *BYTES)
        scale = scale_for(rng, kept, dtype, [29])
    y = spread(rng, dtype, kept)
    total = (a.items.astype(np.int64) - z).sum(axes, keepdims=True)
    expected = scaled(scale, [total], dtype) if scale else total.astype(np.int32)
    return Case(reduce_sum(x, axes, z, y, features, scale), {"x": a}, out(rng, y), expected)


def softmax_case(rng: Generator, features: frozenset[str], row: int | None = None) -> Case:
    row = int(pick(rng, 1, 2, 10, 33, 200)) if row is None else row
    shape = (*sizes(rng, int(rng.integers(0, 3)), 40), row)
    x, y = (
        spread(rng, pick(rng, *BYTES), shape),
        spread(rng, pick(rng, "uint8", "int8", "int16"), shape),
    )
    bits = 30 - shape[-1].bit_length()
    steps = float(pick(rng, 0.0, 0.001, 0.05, 0.3, 5.0))
    table = np.floor(np.exp(-steps * np.arange(256)) * 2**bits + 0.5).astype(np.int32)
    low, high = RANGE[y.dtype]
    mult, shift, z = int(rng.integers(2**30, 2**31)), int(rng.integers(48, 62)), zero(rng, y.dtype)
    a = held(rng, x)
    wide_x = a.items.astype(np.int64)
    e = table.astype(np.int64)[wide_x.max(-1, keepdims=True) - wide_x]
    total = e.sum(-1, keepdims=True)
    n = 31 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    p = (e * reciprocal(total << n)) >> (31 - n)
    expected = np.clip(((p * mult + (1 << (shift - 1))) >> shift) + z, low, high).astype(y.dtype)
    return Case(
        softmax(x, table, z, mult, shift, low, high, y, features), {"x": a}, out(rng, y), expected
    )


def bilinear_case(rng: Generator, features: frozenset[str]) -> Case:
    n, h, w, c = (int(pick(rng, 1, 2, 3, 5)) for _ in range(4))
    c = int(pick(rng, 1, 3, 16, 40))
    oh, ow = int(rng.integers(1, 8)), int(rng.integers(1, 8))
    x = plane(rng, pick(rng, *BYTES, "int16"), (n, h, w, c))
    a, z = held(rng, View.of(x)), zero(rng, x.dtype)
    if x.dtype == "int16":  # the language allows what fits 32 bits
        a.items[:] = a.items // 256
        z //= 256
    tables = [
        (rng.integers(0, size, (k, 2)), rng.integers(0, 2049, k)) for size, k in ((h, oh), (w, ow))
    ]
    (rows, u), (columns, v) = [(t, np.stack([p, 2048 - p], 1)) for t, p in tables]
    centred = a.items.astype(np.int64) - z
    total = sum(
        u[:, i][:, None, None] * v[:, j][:, None] * centred[:, rows[:, i]][:, :, columns[:, j]]
        for i in (0, 1)
        for j in (0, 1)
    )
    scale, dtype = None, "int32"
    if rng.random() < 0.6:
        dtype = pick(rng, *BYTES)
        scale = scale_for(rng, total.shape, dtype, [31])
    y = plane(rng, dtype, total.shape)
    expected = scaled(scale, [total], dtype) if scale else total.astype(np.int32)
    return Case(
        bilinear(x, y, rows, columns, u, v, z, features, scale),
        {"x": a},
        out(rng, View.of(y)),
        expected,
    )


def matmul_case(rng: Generator, features: frozenset[str]) -> Case:
    m, k, n = (int(pick(rng, 1, 3, 4, 10, 17, 33, 64)) for _ in range(3))
    lead = pick(rng, (), (2,), (3, 2))
    a_lead, b_lead = (tuple(1 if rng.random() < 0.2 else s for s in lead) for _ in range(2))
    a = spread(rng, pick(rng, *BYTES), (*a_lead, m, k))
    b = spread(rng, pick(rng, *BYTES), (*b_lead, k, n), near=rng.random() < 0.5)
    x, w = held(rng, a), held(rng, b)
    zeros = zero(rng, a.dtype), zero(rng, b.dtype)
    shape = (*np.broadcast_shapes(a_lead, b_lead), m, n)
    total = (x.items.astype(np.int64) - zeros[0]) @ (w.items.astype(np.int64) - zeros[1])
    scale, dtype = None, "int32"
    if rng.random() < 0.6:
        dtype = pick(rng, *BYTES)
        scale = scale_for(rng, shape, dtype, [24])
    y = spread(rng, dtype, shape, near=rng.random() < 0.7)
    expected = scaled(scale, [total], dtype) if scale else total.astype(np.int32)
    return Case(matmul(a, b, zeros, y, features, scale), {"a": x, "b": w}, out(rng, y), expected)


def wide_case(rng: Generator, features: frozenset[str]) -> Case:
    groups = int(pick(rng, 1, 1, 2, 3, 12))
    i, o = (1, 1) if groups == 12 else (int(pick(rng, 1, 3, 8)), int(pick(rng, 1, 5, 16, 20)))
    kernel, strides, dilations = (
        tuple(int(pick(rng, 1, 1, 2, 3)) for _ in range(2)) for _ in range(3)
    )
    n, oh, ow = int(pick(rng, 1, 2)), int(rng.integers(1, 5)), int(rng.integers(1, 8))
    h, w = (
        (s - 1) * st + (k - 1) * d + 1
        for s, st, k, d in zip((oh, ow), strides, kernel, dilations, strict=True)
    )
    x = plane(rng, pick(rng, *BYTES, "int16"), (n, h, w, groups * i))
    limit = {1: 2**15 - 1, 2: 400}[np.dtype(x.dtype).itemsize]
    weights = rng.integers(-limit, limit + 1, (groups * o, *kernel, i))
    bias = rng.integers(-(2**20), 2**20, groups * o)
    a, shape = held(rng, View.of(x)), (n, oh, ow, groups * o)
    taps = windows(a.items.astype(np.int64), kernel, strides, dilations).reshape(
        n, oh, ow, *kernel, groups, i
    )
    acc = (
        np.einsum("nyxabgi,goabi->nyxgo", taps, weights.reshape(groups, o, *kernel, i)).reshape(
            shape
        )
        + bias
    )
    scale, dtype, residual, terms, inputs = None, "int32", None, [acc], {"x": a}
    z = 0
    if rng.random() < 0.7:
        dtype = pick(rng, "uint8", "int8", "int16")
        if rng.random() < 0.5:
            residual = plane(rng, pick(rng, *BYTES), shape)
            z = zero(rng, residual.dtype)
            inputs["residual"] = held(rng, View.of(residual))
            terms.append(inputs["residual"].items.astype(np.int64) - z)
        scale = scale_for(rng, shape, dtype, [31] * len(terms))
    y = plane(rng, dtype, shape)
    k = wide(x, y, weights, bias, features, strides, dilations, groups, scale, residual, z)
    expected = scaled(scale, terms, dtype) if scale else acc.astype(np.int32)
    return Case(k, inputs, out(rng, View.of(y)), expected)
