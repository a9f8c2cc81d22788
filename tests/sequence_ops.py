"""How ops of sequences are added to a random graph: rows with scales of their own, attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Dyadic, one_shift
from qir.ir.op import Op, Value
from qir.ir.ops import (
    AttentionFixed,
    Embed,
    Hadamard,
    Interpolate,
    Linear,
    Mul,
    NormFixed,
    PackRows,
    Positions,
    QuantizeRowBlocks,
    QuantizeRows,
    RopeFixed,
    RowScale,
    ScaleRows,
    Slice,
    SliceRows,
    Take,
    UnpackRows,
    Within,
    WriteRows,
)
from qir.ir.ops.sequence.matrices import factors
from qir.ir.types import (
    I4,
    I8,
    I16,
    I32,
    I64,
    U1,
    U8,
    Bfp,
    Int,
    Packing,
    Quant,
    Span,
    Tensor,
    integer_of,
)  # fmt: skip
from tests.grower import Grower, Unfit

I20, I24 = Int(20, True), Int(24, True)
WIDTHS = (1, 2, 3, 5, 8, 12, 16, 24, 31, 32, 48, 64, 70, 96)
INDICES = (I32, I32, I64, U8, I16, Int(32, False))


class Rows(Grower):
    """Values with a scale are operands of further ops; row scales and indices are not."""

    def add(self, op: Op) -> Value:
        value = super().add(op)
        if not isinstance(value.type.elem, Quant):
            self.values = [v for v in self.values if v.name != value.name]
        return value

    def outside(self, shape: tuple[int, ...], elem: Int | Quant) -> Value:
        """A new input."""
        value = self._input(f"{self.prefix}_r{len(self.known)}", Tensor(shape, elem))
        if not isinstance(elem, Quant):
            self.values.pop()
        return value

    @property
    def prefix(self) -> str:
        return self.values[0].name

    def wide(self, storage: Int) -> Quant:
        """One scale, zero point 0."""
        return Quant.per_tensor(storage, float(2.0 ** self.rng.uniform(-12, 3)), 0)

    def rows(
        self, storages: Sequence[Int], shape: tuple[int | None, ...] = (None, None, None)
    ) -> Value:
        """A value of one of these storages, zero point 0; now and then a part of a larger one."""

        def fits(v: Value) -> bool:
            kept, own = integer_of(v.type.elem), v.type.shape
            alike = len(own) == len(shape) and all(
                want in (None, s) for want, s in zip(shape, own, strict=True)
            )
            q = v.type.elem
            plain = isinstance(q, Quant) and q.is_per_tensor and q.zero_point.item() == 0
            return alike and plain and kept in storages

        known = [v for v in self.values if fits(v)]
        if known and self.chance(0.7):
            return self.pick(known)
        drawn = [self.pick([1, 1, 2]), self.between(1, 7), self.pick(WIDTHS)]
        sizes = [d if s is None else s for s, d in zip(shape, drawn[-len(shape) :], strict=True)]
        if self.chance(0.7):
            return self.outside(tuple(sizes), self.wide(self.pick(storages)))
        start = tuple(self.between(0, 2) for _ in sizes)
        whole = tuple(s + a + self.between(0, 2) for s, a in zip(sizes, start, strict=True))
        stop = tuple(s + a for s, a in zip(sizes, start, strict=True))
        x = self.outside(whole, self.wide(self.pick(storages)))
        return self.add(Slice(x, start, stop, (1,) * len(sizes)))

    def scaled_by(self, x: Value, block: int) -> Value:
        """Row scales of x; now and then any integers."""
        if self.chance(0.15):
            shape = (*x.type.shape[:-1], x.type.shape[-1] // block)
            return self.outside(shape, I32)
        return self.add(RowScale(x, block))

    def ratio(self, of: Any, to: float, bits: int = 31) -> Dyadic:
        return Dyadic.of(np.asarray(of) / to, bits)


def _divisor(g: Rows, size: int) -> int:
    return int(g.pick([size, size, *(d for d in range(1, size + 1) if size % d == 0)]))


def grow_codes(g: Rows) -> None:
    x = g.rows((I32, I20, I16, I8, U8))
    block = _divisor(g, x.type.shape[-1])
    g.add(QuantizeRows(x, g.scaled_by(x, block), block))


def grow_projection(g: Rows) -> None:
    """codes -> linear -> scale_rows, as a quantized layer is."""
    x = g.rows((I32, I20, I16))
    width, out = x.type.shape[-1], int(g.pick(WIDTHS))
    scale = g.scaled_by(x, width)
    codes = g.add(QuantizeRows(x, scale, width) if g.chance(0.7) else in_blocks(g, x, scale))
    storage = g.pick([I8, I8, I4])
    w = g.rng.integers(storage.min, storage.max + 1, (out, width))
    elem = Quant.per_axis(storage, 2.0 ** g.rng.uniform(-9, -5, out), 0, 0)
    acc = g.add(Linear(codes, g.constant(w, elem), None))
    finish(g, acc, scale)
    if g.chance(0.15):
        finish(g, acc, scale)


def in_blocks(g: Rows, x: Value, scale: Value) -> Op:
    """Codes of few bits, or in blocks."""
    width = x.type.shape[-1]
    block = int(g.pick([b for b in range(1, width + 1) if width % b == 0]))
    return QuantizeRowBlocks(x, scale, block, g.between(2, 8), g.between(0, 7))


def finish(g: Rows, acc: Value, scale: Value) -> None:
    """scale_rows of a sum, in a scale that suits, saturates or wipes out."""
    scales = acc.type.quant.scale.array
    storage = g.pick([I16, I16, I20, I20, I8, I32])
    reach = 2.0 ** g.rng.uniform(-12, 12) if g.chance(0.2) else 2.0 ** g.rng.uniform(0, 8)
    step = float(np.max(scales)) * 2.0 ** (20 - min(storage.bits, 20)) * reach
    to = Quant.per_tensor(storage, step, 0)
    ratio = g.ratio(scales, step, 24)
    bias = None
    if g.chance(0.5):
        size = g.pick([100, 1 << 20, 1 << 40])
        shape = g.pick([acc.type.shape[-1:], ()])
        bias = Data(np.asarray(g.rng.integers(-size, size + 1, shape), np.int64))
    residual, numbers = None, (0, 9)
    if g.chance(0.6):
        residual = g.rows((I20, I16, I32, U8), acc.type.shape)
        other = g.ratio(residual.type.quant.scale.item(), step)
        numbers = int(other.mult.array), int(other.shift.array)
    g.add(ScaleRows(acc, scale, residual, to, ratio.mult, ratio.shift, bias, *numbers))


def grow_norm(g: Rows) -> None:
    x = g.rows((I24, I20, I16, I8))
    size, to = x.type.shape[-1], g.wide(g.pick([I16, I16, I8]))
    gain = g.rng.uniform(-2, 2, g.pick([(size,), ()])) * 2.0 ** g.rng.uniform(-3, 3)
    mult, shift = one_shift(np.sqrt(size) * gain * 2.0**-22 / to.scale.item())
    fraction, mean, offset = 0, None, None
    if g.chance(0.5):
        fraction = g.pick([0, 3, 6])
        mean = Dyadic.of(2.0**fraction / size)
        offset = Data(g.rng.integers(-(1 << 40), 1 << 40, (size,)))
    epsilon = int(g.pick([1, 77, 1 << 20, 1 << 50]))
    g.add(
        NormFixed(x, to, Data(np.asarray(mult, np.int64)), offset, shift, epsilon, fraction, mean)
    )


def grow_rope(g: Rows) -> None:
    x = g.rows((I16, I16, I8))
    n, width = x.type.shape[1:]
    size = _divisor(g, width)
    if size < 2:
        raise Unfit
    pairs = g.pick([size // 2, size // 2, g.between(1, size // 2)])
    elem = Quant.per_tensor(I16, 2.0**-14, 0)
    if g.chance(0.5):
        start = g.outside((), I32)
        long = n + g.between(0, 9)
        angle = g.rng.uniform(0, 6, (long, pairs))
        tables = [g.constant(np.rint(f(angle) * 2**14), elem) for f in (np.cos, np.sin)]
        cos, sin = (g.add(SliceRows(t, start, n)) for t in tables)
    else:
        cos, sin = (g.outside((n, pairs), elem) for _ in range(2))
    to = Quant.per_tensor(
        g.pick([I16, I8]), x.type.quant.scale.item() * 2.0 ** g.rng.uniform(-2, 3), 0
    )
    ratio = g.ratio(x.type.quant.scale.item() * 2.0**-14, to.scale.item())
    g.add(RopeFixed(x, cos, sin, size, g.chance(0.5), to, ratio))


def grow_hadamard(g: Rows) -> None:
    x = g.rows((I16, I16, I8, U8))
    sizes = [d for d in range(1, x.type.shape[-1] + 1) if x.type.shape[-1] % d == 0]
    g.add(Hadamard(x, g.pick([d for d in sizes if factors(d)])))


def grow_curve(g: Rows) -> None:
    x = g.rows((I16,))
    to = g.quant((I16, I8, U8, Int(16, False)))
    ends = to.storage.min, to.storage.max + 1
    if g.chance(0.5):
        table = np.linspace(*ends, 1025, endpoint=False)
    else:
        table = g.rng.integers(*ends, 1025)
    g.add(Interpolate(x, Data(np.asarray(table).astype(to.carrier)), to))


def grow_take(g: Rows) -> None:
    table = g.rows((I8, I16, I20), g.pick([(None,), (None, None), (None, None, None)]))
    index = g.outside(g.pick([(), (3,), (2, 4), (1, 5)]), g.pick(INDICES))
    g.add(Take(table, index))


def grow_ids(g: Rows) -> None:
    """Which ids count, their positions, and rows of a table by these."""
    n = g.between(1, 9)
    ids = g.outside(g.pick([(n,), (1, n), (3, n)]), g.pick(INDICES))
    low = g.pick([0, 1, -5])
    bits = g.add(Within(ids, low, low + g.pick([0, 0, 9, 1 << 61]), g.chance(0.5)))
    at = g.add(Positions(bits, g.between(-2, 3), g.pick([None, 0, 1, -7])))
    g.add(Take(g.rows((I8, I16), (None, None)), g.pick([at, at, bits])))


def grow_embed(g: Rows) -> None:
    count, width = g.between(1, 30), g.pick(WIDTHS)
    storage = g.pick([I8, I8, I4])
    scales = 2.0 ** g.rng.uniform(-9, -3, count)
    elem = Quant.per_axis(storage, scales, 0, 0)
    table = g.constant(g.rng.integers(storage.min, storage.max + 1, (count, width)), elem)
    to = g.wide(g.pick([I20, I16, I8]))
    mult, shift = one_shift(scales / to.scale.item())
    index = g.outside(g.pick([(1, 5), (2, 3), (4,)]), g.pick(INDICES))
    g.add(Embed(table, index, to, Data(np.asarray(mult, np.int64)), shift))


def grow_write(g: Rows) -> None:
    x = g.rows((I8, I8, I16))
    b, n, c = x.type.shape
    cache = g.outside((b, n + g.between(0, 6), c), x.type.quant)
    g.add(WriteRows(cache, x, g.outside((), g.pick([I32, I64]))))


def grow_packed(g: Rows) -> None:
    """Rows packed and unpacked, now and then from any bytes."""
    bits = g.pick([4, 4, 6, 8])
    span = bits < 8 and g.chance(0.5)
    x = g.rows((I8,) if span else (I8, I16))
    axis, width = 2, x.type.shape[2]
    sizes = [d for d in range(1, width + 1) if width % d == 0 and d % {4: 2, 6: 4, 8: 1}[bits] == 0]
    if not sizes:
        raise Unfit
    block = int(g.pick(sizes))
    packing: Packing = Span(bits, block, axis) if span else Bfp(bits, 8, block, axis)
    packed = g.add(PackRows(x, packing))
    if g.chance(0.3):
        packed = g.outside(packed.type.shape, U8)
    start = g.outside((), g.pick([I32, I64])) if g.chance(0.5) else None
    g.add(UnpackRows(packed, start, packing, width, g.between(0, 3), x.type.quant))


def grow_mul(g: Rows) -> None:
    a = g.rows((I16,))
    g.add(Mul(a, g.rows((I16,), a.type.shape)))


def grow_attention(g: Rows) -> None:
    kv = g.pick([1, 1, 2, 3])
    heads = kv * g.pick([1, 1, 2, 3])
    b, n, m = g.pick([1, 2]), g.pick([1, 1, 2, 5, 9]), g.pick([1, 2, 7, 16, 33, 40])
    d, e = (int(g.pick([1, 3, 8, 16, 32, 64, 64])) for _ in range(2))
    e = d if g.chance(0.7) else e
    q, k, v = (
        g.rows((I8,), shape) for shape in ((b, n, heads * d), (b, m, kv * d), (b, m, kv * e))
    )
    scale = g.outside((b, n, heads), I32)
    if g.chance(0.7):
        wide = g.rows((I16,), (b, n, heads * d))
        scale = g.add(RowScale(wide, d))
        q = g.add(QuantizeRows(wide, scale, d))

    def some(size: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(s if g.chance(0.7) else 1 for s in size)

    bias = g.outside(some((b, heads, n, m)), g.wide(I16)) if g.chance(0.3) else None
    visible = g.outside(some((b, heads, n, m)), U1) if g.chance(0.3) else None
    start = g.outside((), g.pick([I32, I64])) if g.chance(0.5) else None
    mult, shift = g.between(1 << 22, (1 << 24) - 1), g.pick([12, 20, 30, 36, 40, -9, 64])
    more = None if bias is None else Dyadic.of(2.0 ** g.rng.uniform(-8, 8))
    numbers = g.chance(0.6), g.pick([0, 0, 1, 2, 9, (1 << 31) - 1])
    g.add(
        AttentionFixed(
            q,
            scale,
            k,
            v,
            bias,
            visible,
            start,
            heads,
            kv,
            *numbers,
            mult,
            shift,
            more,
        )
    )


SEQUENCE_KINDS: tuple[tuple[Callable[[Rows], None], int], ...] = (
    (grow_codes, 2), (grow_projection, 4), (grow_norm, 2), (grow_rope, 2), (grow_curve, 1),
    (grow_hadamard, 2), (grow_ids, 2), (grow_take, 1),
    (grow_embed, 1), (grow_write, 1), (grow_mul, 1), (grow_attention, 4),
    (grow_packed, 2),
)  # fmt: skip
"""How an op is added, and how often."""
