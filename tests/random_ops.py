"""How each integer op is added to a random graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Dyadic
from qir.ir.op import Value
from qir.ir.ops import (
    AvgPool,
    Bilinear,
    Concat,
    Conv,
    Expand,
    Gather,
    Linear,
    Lookup,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    PadMode,
    ReduceMax,
    ReduceMean,
    ReduceSum,
    Reshape,
    ScaleGroups,
    Slice,
    SoftmaxFixed,
    Transpose,
)
from qir.ir.ops.resize import WEIGHT_BITS
from qir.ir.types import I2, I3, I4, I5, I6, I8, I16, I32, U3, U7, U8, Quant, integer_of
from tests.grower import CHANNELS, Grower, Unfit


def contraction_weights(g: Grower, x: Value, shape: tuple[int, ...]) -> tuple[Value, Value | None]:
    """Weights and perhaps a bias: per tensor or per channel, extreme, or with a zero point.

    Of 2 to 8 bits, and those without a zero point now and then by groups of input channels.
    """
    count = shape[0]
    scale = 2.0 ** g.rng.uniform(-9, -5, count)
    storage = U8 if g.chance(0.08) else g.pick([I8, I8, I8, I2, I3, I4, I5, I6])
    w = g.rng.integers(storage.min, storage.max + 1, shape)
    if g.chance(0.2):
        w = g.rng.choice([storage.min, storage.max, 0], shape)
    if g.chance(0.3):
        w = w // 4
    per_axis = g.chance(0.7)
    zero: Any = 0
    if storage is U8 or g.chance(0.07):
        zero = g.rng.integers(storage.min, storage.max + 1, count if per_axis else ())
    elem = (
        Quant.per_axis(storage, scale, zero, 0)
        if per_axis
        else Quant.per_tensor(storage, float(scale[0]), int(zero))
    )
    weights = g.constant(w, elem)
    if not np.any(zero) and storage is not U8 and g.chance(0.25):
        weights = in_groups(g, weights)
    if g.chance(0.2):
        return weights, None
    scales = elem.scale.array * x.type.quant.scale.array
    bias_elem = (
        Quant.per_axis(I32, scales, 0, 0) if per_axis else Quant.per_tensor(I32, float(scales), 0)
    )
    size = g.pick([0, 100, 10_000, 1 << 20])
    return weights, g.constant(g.rng.integers(-size, size + 1, count), bias_elem)


def in_groups(g: Grower, w: Value) -> Value:
    """The weights times an integer for each group; the last group may be shorter."""
    block = g.pick([4, 5, 8, 16, 24, 32, 48, 64])
    size = (*w.type.shape[:-1], -(-w.type.shape[-1] // block))
    mult = g.rng.integers(1, 1 + g.pick([1, 15, 255]), size)
    return g.add(ScaleGroups(w, g.constant(mult, U8), block))


def window(
    g: Grower, pads: bool = True
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...], tuple[int, int]]:
    kernel, stride, dilation = (
        (g.pick(c), g.pick(c)) for c in ([1, 2, 3, 3, 5], [1, 1, 2, 3], [1, 1, 1, 2])
    )  # fmt: skip
    most = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    pad = (
        tuple(g.between(0, min(most[i % 2], 4)) for i in range(4))
        if pads and g.chance(0.7)
        else (0,) * 4
    )
    return kernel, stride, pad, dilation


def grow_conv(g: Grower) -> None:
    x = g.image()
    c = x.type.shape[3]
    kind = g.pick(["dense", "dense", "depthwise", "groups"])
    if kind == "dense" or c == 1:
        groups, out = 1, g.pick(CHANNELS)
    elif kind == "depthwise":
        groups, out = c, c * g.pick([1, 1, 1, 2])
    else:
        groups = g.pick([d for d in range(2, c + 1) if c % d == 0])
        out = groups * g.pick([1, 2, 3, 8])
    kernel, stride, pad, dilation = window(g)
    w, bias = contraction_weights(g, x, (out, *kernel, c // groups))
    g.finish_sum(g.add(Conv(x, w, bias, stride, pad, dilation, groups)))


def grow_linear(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1 and v.type.shape[-1] <= 2000)
    w, bias = contraction_weights(g, x, (g.pick(CHANNELS), x.type.shape[-1]))
    g.finish_sum(g.add(Linear(x, w, bias)))


def grow_requantize(g: Grower) -> None:
    x = g.pick(g.values)
    if not x.type.quant.is_per_tensor and np.any(x.type.quant.zero_point.array):
        raise Unfit
    others = [
        v
        for v in g.values
        if v.type.rank <= x.type.rank and _broadcasts(v, x) and v.type.quant.is_per_tensor
    ]
    g.requantize([x, *(g.pick(others) for _ in range(g.between(0, 2)) if others)])


def _broadcasts(v: Value, x: Value) -> bool:
    try:
        return np.broadcast_shapes(v.type.shape, x.type.shape) == x.type.shape
    except ValueError:
        return False


def grow_mul(g: Grower) -> None:
    a = g.value()
    b = g.value(lambda v: _broadcasts(v, a) and v.type.quant.is_per_tensor)
    if g.chance(0.3):
        elem = g.quant((U8, I8))
        shape = g.pick([(), a.type.shape[-1:]])
        b = g.constant(g.rng.integers(elem.storage.min, elem.storage.max + 1, shape), elem)
    g.finish_sum(g.add(Mul(a, b) if g.chance(0.5) else Mul(b, a)))


def grow_lookup(g: Grower) -> None:
    x = g.value(lambda v: v.type.quant.storage.bits <= 8)
    to = g.quant((U8, I8, I16, I4, U3, U7))
    size = 1 << x.type.quant.storage.bits
    shape = (x.type.shape[-1], size) if x.type.rank and g.chance(0.3) else (size,)
    table = g.rng.integers(to.storage.min, to.storage.max + 1, shape).astype(to.carrier)
    g.add(Lookup(x, Data(table), to))


def grow_quotient(g: Grower) -> None:
    """x times a table of 32-bit factors, as a division becomes."""
    x = g.value(lambda v: v.type.quant.storage.bits <= 8)
    y = g.value(lambda v: v.type.quant.storage.bits <= 8 and _broadcasts(v, x))
    size = 1 << y.type.quant.storage.bits
    shape = (y.type.shape[-1], size) if y.type.rank and g.chance(0.3) else (size,)
    table = g.rng.integers(-(1 << 22), (1 << 22) + 1, shape).astype(np.int32)
    factor = g.add(Lookup(y, Data(table), Quant.per_tensor(I32, 2.0**-18, 0)))
    g.finish_sum(g.add(Mul(x, factor)))


def pool_of(g: Grower) -> AvgPool:
    """An average pool none of whose windows lies all in the padding."""
    op = AvgPool(g.image(), *window(g), True)
    if min(op.infer().shape[1:3]) < 1 or op.counts().min() < 1:
        raise Unfit
    return op


def grow_max_pool(g: Grower) -> None:
    op = pool_of(g)
    g.add(MaxPool(op.x, op.kernel, op.stride, op.pad, op.dilation))


def grow_avg_pool(g: Grower) -> None:
    g.finish_sum(g.add(pool_of(g)))


def grow_reduce(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1)
    axes = tuple(int(a) for a in g.rng.permutation(x.type.rank)[: g.between(1, x.type.rank)])
    kind = g.pick([ReduceMean, ReduceSum, ReduceMax])
    y = g.add(kind(x, axes, g.chance(0.5)))
    if kind is not ReduceMax:
        g.finish_sum(y)


def grow_bilinear(g: Grower) -> None:
    x = g.image()
    tables = []
    for size in x.type.shape[1:3]:
        out = g.between(1, 12)
        near = g.rng.integers(0, 1 + (1 << WEIGHT_BITS), out)
        tables.append(
            (g.rng.integers(0, size, (out, 2)), np.stack([near, (1 << WEIGHT_BITS) - near], 1))
        )
    (rows, u), (columns, v) = tables
    data = [
        Data(a.astype(t))
        for a, t in ((rows, np.int64), (columns, np.int64), (u, np.int16), (v, np.int16))
    ]
    g.finish_sum(g.add(Bilinear(x, *data)))


def grow_matmul(g: Grower) -> None:
    a = g.value(lambda v: v.type.rank >= 2 and v.type.quant.storage.bits <= 8)
    k = a.type.shape[-1]
    storage = [
        v
        for v in g.values
        if v.type.rank >= 2 and v.type.shape[-2] == k and integer_of(v.type.elem) != I32
    ]
    if storage and g.chance(0.7):
        b = g.pick(storage)
    else:
        perm = (*range(a.type.rank - 2), a.type.rank - 1, a.type.rank - 2)
        b = g.add(Transpose(a, perm))
    g.finish_sum(g.add(MatMul(a, b)))


def grow_softmax(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1 and v.type.quant.storage.bits <= 8)
    size = 1 << x.type.quant.storage.bits
    bits = min(23, 30 - int(np.ceil(np.log2(max(x.type.shape[-1], 2)))))
    table = np.floor(
        np.exp(-g.pick([0.0, 0.001, 0.05, 1.0, 20.0]) * np.arange(size)) * 2**bits
    ).astype(np.int32)
    to = Quant.per_tensor(
        *g.pick([(U8, 1 / 256, 0), (I8, 1 / 256, -128), (I16, 2.0**-15, 0), (U8, 0.5, 3)])
    )
    g.add(SoftmaxFixed(x, Data(table), to, Dyadic.of(2.0**-30 / float(to.scale.array))))


def grow_concat(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1)
    axis = g.between(0, x.type.rank - 1)

    def fits(v: Value) -> bool:
        return v.type.rank == x.type.rank and all(
            i == axis or p == q
            for i, (p, q) in enumerate(zip(v.type.shape, x.type.shape, strict=True))
        )

    parts = []
    for _ in range(g.between(1, 3)):
        v = g.pick([v for v in g.values if fits(v) and v.type.quant.is_per_tensor] or [x])
        parts.append(
            v if v.type.elem == x.type.elem and g.chance(0.5) else g.requantize([v], x.type.quant)
        )
    g.add(Concat(tuple([x, *parts] if g.chance(0.7) else [*parts, x]), axis))


def grow_slice(g: Grower) -> None:
    x = g.value()
    start = [g.between(0, s - 1) if g.chance(0.4) else 0 for s in x.type.shape]
    stop = [
        g.between(a + 1, s) if g.chance(0.4) else s
        for a, s in zip(start, x.type.shape, strict=True)
    ]
    step = [g.pick([1, 1, 1, 2, 3]) for _ in start]
    g.add(Slice(x, tuple(start), tuple(stop), tuple(step)))


def grow_pad(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1)
    mode = g.pick([PadMode.CONSTANT, PadMode.CONSTANT, PadMode.REFLECT, PadMode.EDGE])
    sides = [tuple(g.between(1, 2) if g.chance(0.3) else 0 for _ in x.type.shape) for _ in range(3)]
    between = sides[2] if mode is PadMode.CONSTANT and g.chance(0.4) else (0,) * x.type.rank
    g.add(Pad(x, sides[0], sides[1], between, mode, 0.0))


def grow_reshape(g: Grower) -> None:
    x = g.value()
    rest, shape = x.type.size, []
    while rest > 1 and len(shape) < 3 and g.chance(0.7):
        shape.append(g.pick([d for d in range(1, rest + 1) if rest % d == 0]))
        rest //= shape[-1]
    shape.append(rest)
    g.add(Reshape(x, tuple(int(s) for s in shape)))


def grow_transpose(g: Grower) -> None:
    x = g.value()
    g.add(Transpose(x, tuple(int(p) for p in g.rng.permutation(x.type.rank))))


def grow_gather(g: Grower) -> None:
    x = g.value(lambda v: v.type.rank >= 1)
    axis = g.between(0, x.type.rank - 1)
    shape = g.pick([(1,), (3,), (2, 2), (5,), ()])
    g.add(Gather(x, Data(g.rng.integers(0, x.type.shape[axis], shape)), axis))


def grow_expand(g: Grower) -> None:
    x = g.value(lambda v: 1 in v.type.shape or v.type.rank < 3)
    shape = tuple(g.between(1, 4) if s == 1 else s for s in x.type.shape)
    g.add(Expand(x, (g.between(1, 3), *shape) if g.chance(0.3) else shape))


KINDS: tuple[tuple[Callable[[Grower], None], int], ...] = (
    (grow_conv, 8), (grow_linear, 3), (grow_requantize, 3), (grow_mul, 2), (grow_lookup, 2),
    (grow_max_pool, 2), (grow_avg_pool, 2), (grow_reduce, 2), (grow_bilinear, 1), (grow_matmul, 2),
    (grow_softmax, 1), (grow_concat, 3), (grow_slice, 2), (grow_pad, 2), (grow_reshape, 2),
    (grow_transpose, 2), (grow_gather, 1), (grow_expand, 1), (grow_quotient, 1),
)  # fmt: skip
"""How an op is added, and how often."""
