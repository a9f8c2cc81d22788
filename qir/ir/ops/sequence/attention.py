"""Attention of heads over keys and values, on reals and in fixed point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qir.ir import rows
from qir.ir.bounds import Bounds, Extreme
from qir.ir.fixed import Dyadic
from qir.ir.op import Op, Value, op, stored
from qir.ir.ops.accumulate import exact_matmul
from qir.ir.ops.sequence.embedding import check_index
from qir.ir.ops.sequence.rows import LEAST_MULT, MULT_BITS, check_rows
from qir.ir.types import I16, I32, I64, U1, Array, Quant, Tensor

SCORE_BITS = 12  # fraction bits of scores, which are exponents of 2
GREATEST_SCORE = (1 << 29) - 1  # of each of two terms: distances of their sums fit i32
EXP2 = np.array(
    [65535, *(round(65535 * 2.0 ** (-(i + 0.5) / 256)) for i in range(1, 256))], np.int64
)
"""2**-f in the middle of each of 256 intervals of f in [0, 1), times 2**16 - 1."""
PROBABILITY_TOP = 255
FAR = 1 << 40  # every start beyond it shows the same keys
WIDEST = 1 << 31  # windows are narrower
CONTEXT_FRACTION = 8  # bits of the result below a step of v


@dataclass(frozen=True, repr=False)
class Heads(Op):
    """What both forms share. Head h of q reads head h * kv_heads // heads of k and v. Query i sees
    key j where `visible` says so, and under `causal` only if j <= start + i (start 0 where absent),
    and with a `window` > 0 only if j > start + i - window. A query that sees none gives 0.
    """

    last_axes: ClassVar[int] = 3
    has_parameters: ClassVar[bool] = False

    def check_heads(
        self, q: Value, k: Value, v: Value, visible: Value | None, start: Value | None, heads: int,
        kv_heads: int, window: int,
    ) -> Tensor:  # fmt: skip
        """The type of q with the width of v: (B, N, heads * Dv)."""
        shapes = [x.type.shape for x in (q, k, v)]
        if any(len(s) != 3 for s in shapes) or len({s[0] for s in shapes}) > 1:
            self.fail(f"q, k, v are {shapes}", "(B, N, C), (B, M, D), (B, M, E) are needed")
        if not (heads > 0 < kv_heads) or heads % kv_heads:
            self.fail(f"{heads} heads by {kv_heads}", "a multiple is needed")
        (b, n, width), (_, m, keys), (_, m_v, values) = shapes
        if m != m_v or width % heads or keys % kv_heads or values % kv_heads or not width:
            self.fail(f"q, k, v are {shapes}", f"{heads} and {kv_heads} heads are needed")
        if width // heads != keys // kv_heads:
            self.fail(f"q, k, v are {shapes}", "heads of q and k of one size are needed")
        if visible is not None and not _spreads(visible.type.shape, (b, heads, n, m)):
            self.fail(f"visible is {visible.type}", f"a shape for {[b, heads, n, m]} is needed")
        if not 0 <= window < WIDEST:
            self.fail(f"window is {window}", f"0 to {WIDEST - 1} is needed")
        if start is not None:
            check_index(self, start)
            if start.type.rank:
                self.fail(f"start is {start.type}", "one number is needed")
        return q.type.with_shape((b, n, heads * (values // kv_heads)))


def _spreads(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) == 4 and all(s in (1, t) for s, t in zip(shape, to, strict=True))


def visible_keys(n: int, m: int, start: int, causal: bool, window: int) -> Array:
    """Which keys each query sees: (N, M)."""
    i, j = min(max(start, -FAR), FAR) + np.arange(n)[:, None], np.arange(m)[None]
    see = np.ones((n, m), bool)
    if causal:
        see &= j <= i
    if window:
        see &= j > i - window
    return see


@op("attention")
class Attention(Heads):
    """softmax(q @ k.T * scale + bias) @ v of each head, over the keys that a query sees (`Heads`).

    Shapes: q (B, N, heads * D), k (B, M, kv_heads * D), v (B, M, kv_heads * E); bias, visible
            (B | 1, heads | 1, N | 1, M | 1), visible u1; start () of integers
            -> y (B, N, heads * E).
    """

    q: Value
    k: Value
    v: Value
    bias: Value | None
    visible: Value | None
    start: Value | None
    heads: int
    kv_heads: int
    scale: float
    causal: bool
    window: int

    def infer(self) -> Tensor:
        for x in (self.q, self.k, self.v, *((self.bias,) if self.bias is not None else ())):
            if not x.type.is_float:
                self.fail(
                    f"{x} is {x.type}", "floats are needed (to-integer makes attention_fixed)"
                )
        return self.check_heads(
            self.q,
            self.k,
            self.v,
            self.visible,
            self.start,
            self.heads,
            self.kv_heads,
            self.window,
        )

    def compute(
        self, torch: Any, q: Any, k: Any, v: Any, bias: Any, visible: Any, start: Any
    ) -> Any:
        b, n, m = q.shape[0], q.shape[1], k.shape[1]
        repeat = self.heads // self.kv_heads
        q = q.reshape(b, n, self.heads, -1).transpose(1, 2)
        k, v = (
            x.reshape(b, m, self.kv_heads, -1).transpose(1, 2).repeat_interleave(repeat, 1)
            for x in (k, v)
        )
        score = q @ k.transpose(-1, -2) * self.scale
        if bias is not None:
            score = score + bias
        see = torch.from_numpy(visible_keys(n, m, int(start or 0), self.causal, self.window))
        if visible is not None:
            see = see & torch.as_tensor(visible).bool()
        score = score.masked_fill(~see, -torch.inf)
        weights = torch.nan_to_num(torch.softmax(score, -1), 0.0)
        return (weights @ v).transpose(1, 2).reshape(b, n, -1)


@op("attention_fixed")
class AttentionFixed(Heads):
    """Attention of 8-bit codes in integers, without division.

    s = rounded(sum(q * k) * a * mult, shift - e), clipped to +-(2**29 - 1), in steps of 2**-12 of
        an exponent of 2, a * 2**e the row scale of q's head; plus the bias by its ratio, clipped
        too
    d = max(s) - s, over the keys that the query sees
    p = min((EXP2[(d & 4095) >> 4] >> min(d >> 12, 31)) + 128 >> 8, 255); of hidden keys 0
    (r, h) = reciprocal(sum(p))                                          (qir.ir.rows)
    y = clip(rounded(sum(p * v) * r, 22 + h))                            (in steps of v / 2**8)
    Shapes: q i8 (B, N, heads * D), scale i32 (B, N, heads), k, v i8, zero points 0; bias of at most
            16 bits, zero point 0 -> y i16 (B, N, heads * E).
    Units:  mult / 2**shift = scale of q * scale of k * model's scale * log2(e) * 2**12;
            bias_ratio = scale of bias * log2(e) * 2**12.
    Needs:  M <= 2**15 keys; mult in [2**22, 2**24).
    Source: I-LLM, arXiv:2405.17849, section 3.3; tables, reciprocal, 8-bit probabilities: this
            project.
    """

    q: Value
    scale: Value
    k: Value
    v: Value
    bias: Value | None
    visible: Value | None
    start: Value | None
    heads: int
    kv_heads: int
    causal: bool
    window: int
    mult: int
    shift: int
    bias_ratio: Dyadic | None

    def infer(self) -> Tensor:
        for x in (self.q, self.k, self.v):
            check_rows(self, x, 8)
        shape = self.check_heads(
            self.q,
            self.k,
            self.v,
            self.visible,
            self.start,
            self.heads,
            self.kv_heads,
            self.window,
        ).shape
        expected = Tensor((*self.q.type.shape[:2], self.heads), I32)
        if self.scale.type != expected:
            self.fail(f"scale is {self.scale.type}", f"{expected} is needed")
        if self.visible is not None and self.visible.type.elem != U1:
            self.fail(f"visible is {self.visible.type}", "u1 is needed")
        if self.bias is not None:
            check_rows(self, self.bias, 16)
        if not 1 <= self.k.type.shape[1] <= 1 << 15:
            self.fail(f"{self.k.type.shape[1]} keys", "1 to 2**15 are needed")
        step = self.v.type.quant.scale.item() / (1 << CONTEXT_FRACTION)
        return Tensor(shape, Quant.per_tensor(I16, step, 0))

    def faults(self) -> Iterator[str]:
        if not LEAST_MULT <= self.mult < 1 << MULT_BITS or not -64 <= self.shift <= 128:
            yield (
                f"{self}: ratio {self.mult} / 2**{self.shift}, 2**22 to 2**24 - 1 and a shift of"
                " -64 to 128 are needed"
            )
        if (self.bias is None) != (self.bias_ratio is None):
            yield f"{self}: bias {self.bias}, bias_ratio {self.bias_ratio}, both or none are needed"

    def scores(self, q: Array, scale: Array, k: Array, bias: Array | None) -> Array:
        """s for every query and key, int64 (B, heads, N, M)."""
        b, n, m, repeat = q.shape[0], q.shape[1], k.shape[1], self.heads // self.kv_heads
        q = q.astype(np.int32).reshape(b, n, self.heads, -1).transpose(0, 2, 1, 3)
        k = k.astype(np.int32).reshape(b, m, self.kv_heads, -1).transpose(0, 2, 3, 1)
        dots = exact_matmul(q, np.repeat(k, repeat, 1), q.shape[-1] << 15).astype(np.int64)
        row = scale.transpose(0, 2, 1)[..., None]
        s = rows.rounded(dots * rows.mantissa(row) * self.mult, self.shift - rows.exponent(row))
        s = np.clip(s, -GREATEST_SCORE, GREATEST_SCORE)
        if bias is None or self.bias_ratio is None:
            return s
        more = rows.rounded(
            bias.astype(np.int64) * self.bias_ratio.mult.array, self.bias_ratio.shift.array
        )
        return np.asarray(s + np.clip(more, -GREATEST_SCORE, GREATEST_SCORE))

    def evaluate(
        self, q: Array, scale: Array, k: Array, v: Array, bias: Array | None,
        visible: Array | None, start: Array | None,
    ) -> Array:  # fmt: skip
        b, n, m = q.shape[0], q.shape[1], k.shape[1]
        see = visible_keys(n, m, 0 if start is None else int(start), self.causal, self.window)
        see = np.broadcast_to(
            see if visible is None else see & (visible != 0), (b, self.heads, n, m)
        )
        s = np.where(see, self.scores(q, scale, k, bias), -(1 << 40))
        d = s.max(-1, keepdims=True) - s
        p = (EXP2[(d & 4095) >> 4] >> np.minimum(d >> SCORE_BITS, 31)) + 128 >> 8
        p = np.where(see, np.minimum(p, PROBABILITY_TOP), 0)
        total = p.sum(-1, keepdims=True)
        v = v.astype(np.int32).reshape(b, m, self.kv_heads, -1).transpose(0, 2, 1, 3)
        v = np.repeat(v, self.heads // self.kv_heads, 1)
        context = exact_matmul(p, v, m << 16).astype(np.int64)
        r, h = rows.reciprocal(np.maximum(total, 1))
        y = rows.rounded(context * r, 30 - CONTEXT_FRACTION + h).transpose(0, 2, 1, 3)
        return stored(np.clip(y, I16.min, I16.max).reshape(b, n, -1), self.result.type)

    def bound(self, *operands: Any) -> Bounds:
        return Bounds.of(I16.min, I16.max)

    def extremes(self, *operands: Any) -> Iterator[Extreme]:
        d, m = self.q.type.shape[2] // self.heads, self.k.type.shape[1]
        dots = Bounds.of(-(d << 14), d << 14)
        yield Extreme("sum of queries times keys", dots, I32)
        scaled = dots.scaled(255 * self.mult)
        yield Extreme("scaled score", scaled.plus(Bounds.of(0, 1 << 61)), I64)
        reach = 4 * GREATEST_SCORE
        yield Extreme("distance of two scores", Bounds.of(-reach, reach), I32)
        yield Extreme("sum of probabilities", Bounds.of(0, m * PROBABILITY_TOP), I32)
        context = Bounds.of(-m * PROBABILITY_TOP * 128, m * PROBABILITY_TOP * 127)
        yield Extreme("sum of values", context, I32)
        product = context.scaled((1 << rows.RECIPROCAL_BITS) + 1)
        yield Extreme("values times reciprocal", product.plus(Bounds.of(0, 1 << 61)), I64)
