"""Integer graphs of decoders: embedding, layers of attention and gated MLP, head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qir.ir.data import Data
from qir.ir.fixed import Dyadic, one_shift
from qir.ir.graph import Builder, Graph
from qir.ir.op import Value
from qir.ir.ops import (
    AttentionFixed,
    Constant,
    Embed,
    Interpolate,
    Linear,
    Mul,
    NormFixed,
    QuantizeRows,
    RopeFixed,
    RowScale,
    ScaleGroups,
    ScaleRows,
    SliceRows,
    WriteRows,
)
from qir.ir.types import I8, I16, I32, U8, Array, Int, Quant, Tensor

I20 = Int(20, True)
STREAM, NARROW, CACHE = 2.0**-10, 2.0**-11, 2.0**-5  # steps of the residual stream, of i16, of i8


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder. `bits`: of its weights; `block`: channels that share a multiplier."""

    tokens: int = 5
    keys: int = 24
    width: int = 48
    heads: int = 6
    kv_heads: int = 2
    hidden: int = 80
    layers: int = 2
    vocabulary: int = 50
    bits: int = 8
    block: int = 0

    @property
    def size(self) -> int:
        return self.width // self.heads


class Decoder:
    """Builds the graph of one; inputs ids (1, N), start (), then a cache of keys and of values for
    each layer; outputs the logits, and the caches with the rows of these tokens."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape, self.rng = shape, np.random.default_rng(seed)
        self.b = Builder("decoder", "integer")

    def build(self) -> Graph:
        s, b = self.shape, self.b
        ids = b.input("ids", Tensor((1, s.tokens), I32))
        self.start = b.input("start", Tensor((), I32))
        q = Quant.per_tensor(I8, CACHE, 0)
        cache = Tensor((1, s.keys, s.kv_heads * s.size), q)
        caches = [b.input(f"{c}{i}", cache) for i in range(s.layers) for c in "kv"]
        angle = np.arange(s.keys)[:, None] / 100.0 ** (np.arange(s.size // 2) / (s.size // 2))
        elem = Quant.per_tensor(I16, 2.0**-14, 0)
        tables = [self.constant(np.rint(f(angle) * 2**14), elem) for f in (np.cos, np.sin)]
        self.angles = [b.add(SliceRows(t, self.start, s.tokens)) for t in tables]
        head = self.weights(s.vocabulary, s.width)
        x = self.embedded(self.whole(s.vocabulary, s.width) if s.block else head, ids)
        outputs = []
        for i in range(s.layers):
            x, written = self.attended(x, *caches[2 * i : 2 * i + 2])
            x = self.gated(x)
            outputs += written
        scale, codes = self.coded(self.normed(x), s.width)
        logits = self.projected(codes, scale, head, I16, 2.0**-8)
        return b.finish([logits, *outputs])

    def constant(self, array: Array, elem: Quant | Int) -> Value:
        return self.b.add(Constant.of(array, elem))

    def weights(self, out: int, width: int) -> Value:
        """(out, width), of about one over the square root of the width."""
        s = self.shape
        if not s.block:
            return self.whole(out, width)
        mult = self.rng.integers(100, 256, (out, -(-width // s.block)))
        return self.b.add(
            ScaleGroups(self.whole(out, width, 200), self.constant(mult, U8), s.block)
        )

    def whole(self, out: int, width: int, more: int = 1) -> Value:
        """Weights without groups, for multipliers of about `more`."""
        storage = Int(self.shape.bits, True)
        top = storage.max
        w = np.clip(np.rint(self.rng.normal(0, top / 3, (out, width))), -top, top)
        scales = self.rng.uniform(2.5, 3.5, out) / top / more / math.sqrt(width)
        return self.constant(w, Quant.per_axis(storage, scales, 0, 0))

    def embedded(self, table: Value, ids: Value) -> Value:
        scales = table.type.quant.spread(table.type.shape)[0].reshape(-1)
        mult, shift = one_shift(scales / STREAM)
        to = Quant.per_tensor(I20, STREAM, 0)
        return self.b.add(Embed(table, ids, to, Data(mult), shift))

    def normed(self, x: Value) -> Value:
        size = x.type.shape[-1]
        gain = self.rng.uniform(0.5, 1.5, size)
        mult, shift = one_shift(math.sqrt(size) * gain * 2.0**-22 / NARROW)
        epsilon = max(1, round(1e-5 * size / STREAM**2))
        to = Quant.per_tensor(I16, NARROW, 0)
        return self.b.add(NormFixed(x, to, Data(mult), None, shift, epsilon, 0, None))

    def coded(self, x: Value, block: int) -> tuple[Value, Value]:
        scale = self.b.add(RowScale(x, block))
        return scale, self.b.add(QuantizeRows(x, scale, block))

    def projected(
        self, codes: Value, scale: Value, w: Value, storage: Int, step: float,
        residual: Value | None = None,
    ) -> Value:  # fmt: skip
        acc = self.b.add(Linear(codes, w, None))
        ratio = Dyadic.of(acc.type.quant.scale.array / step, 24)
        other = Dyadic.of(1.0 if residual is None else residual.type.quant.scale.item() / step)
        numbers = int(other.mult.array), int(other.shift.array)
        to = Quant.per_tensor(storage, step, 0)
        return self.b.add(
            ScaleRows(acc, scale, residual, to, ratio.mult, ratio.shift, None, *numbers)
        )

    def turned(self, x: Value, to: Quant) -> Value:
        ratio = Dyadic.of(x.type.quant.scale.item() * 2.0**-14 / to.scale.item())
        cos, sin = self.angles
        return self.b.add(RopeFixed(x, cos, sin, self.shape.size, False, to, ratio))

    def attended(self, x: Value, k: Value, v: Value) -> tuple[Value, list[Value]]:
        """x plus its attention, and the caches with the rows of x."""
        s, b = self.shape, self.b
        scale, codes = self.coded(self.normed(x), s.width)
        kept = s.kv_heads * s.size
        q = self.projected(codes, scale, self.weights(s.width, s.width), I16, NARROW)
        keys = self.projected(codes, scale, self.weights(kept, s.width), I16, NARROW)
        values = self.projected(codes, scale, self.weights(kept, s.width), I8, CACHE)
        keys = self.turned(keys, k.type.quant)
        q = self.turned(q, q.type.quant)
        q_scale, q_codes = self.coded(q, s.size)
        k, v = b.add(WriteRows(k, keys, self.start)), b.add(WriteRows(v, values, self.start))
        step = q_codes.type.quant.scale.item() * CACHE / math.sqrt(s.size) * math.log2(math.e)
        ratio = Dyadic.of(step * 2**12, 24)
        y = b.add(
            AttentionFixed(
                q_codes, q_scale, k, v, None, None, self.start, s.heads, s.kv_heads, True, 0,
                int(ratio.mult.array), int(ratio.shift.array), None,
            )
        )  # fmt: skip
        scale, codes = self.coded(y, s.width)
        w = self.weights(s.width, s.width)
        return self.projected(codes, scale, w, I20, STREAM, x), [k, v]

    def gated(self, x: Value) -> Value:
        """x plus down(silu(gate(x)) * up(x))."""
        s, b = self.shape, self.b
        scale, codes = self.coded(self.normed(x), s.width)
        gate, up = (
            self.projected(codes, scale, self.weights(s.hidden, s.width), I16, NARROW)
            for _ in range(2)
        )
        grid = (np.arange(1025) * 64 - 32768) * NARROW
        table = np.rint(grid / (1 + np.exp(-grid)) / NARROW).clip(I16.min, I16.max)
        to = Quant.per_tensor(I16, NARROW, 0)
        active = b.add(Interpolate(gate, Data(table.astype(np.int16)), to))
        scale, codes = self.coded(b.add(Mul(active, up)), s.hidden)
        return self.projected(codes, scale, self.weights(s.width, s.hidden), I20, STREAM, x)


def decoder(shape: Shape, seed: int = 0) -> Graph:
    """The graph of a decoder of this shape."""
    return Decoder(shape, seed).build()


def decoder_inputs(graph: Graph, seed: int = 0) -> list[Array]:
    """Tokens in the middle of what the caches hold, and random caches."""
    rng = np.random.default_rng(seed)
    ids, _, *caches = graph.inputs
    room = caches[0].type.shape[1] - ids.type.shape[1]
    values = [rng.integers(0, 40, ids.type.shape).astype(np.int32), np.int32(room // 2)]
    return [np.asarray(a) for a in values] + [
        np.clip(np.rint(rng.normal(0, 30, v.type.shape)), -127, 127).astype(np.int8) for v in caches
    ]
