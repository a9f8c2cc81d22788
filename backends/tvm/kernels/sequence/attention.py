"""attention_fixed in TIR, in plain loops: the greatest score of a query, then its context.

Each score is computed twice, so that none is kept: no memory is needed but a few sums.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from qir.backends.kernels.sequence.attention import AttentionCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    clipped_shift,
    exponent,
    long,
    mantissa,
    reciprocal,
    rounded,
    word,
)
from qir.backends.tvm.kernels.writer import Expr, cast, clamp
from qir.ir.ops.sequence.attention import (
    CONTEXT_FRACTION,
    FAR,
    GREATEST_SCORE,
    PROBABILITY_TOP,
    SCORE_BITS,
)
from qir.ir.rows import RECIPROCAL_BITS
from qir.ir.types import I16

SUMS = 256  # of a context that are held at once: a kilobyte
LEAST = -(1 << 31)  # below every score


class Visibility:
    """The keys that causality and a window leave to a query."""

    def __init__(self, script: Script, code: AttentionCode, start: Expr) -> None:
        self.script, self.code, self.start = script, code, start

    def keys(self, query: Expr) -> tuple[Expr, Expr]:
        """The keys [first, last) that causality and the window leave."""
        w, code = self.script, self.code
        first, last = word(0), word(code.keys)
        if code.causal or code.window:
            place = cast(query, LONG, 1)
            if self.start is not None:
                start = w.let(cast(w.load(self.start, 0), LONG, 1))
                place = clamp(start, -FAR, FAR, LONG, 1) + place
            place = w.let(place)
            if code.causal:
                last = self._key(place + long(1))
            if code.window:
                first = self._key(place - long(code.window - 1))
        return first, w.let(tirx.max(first, last))

    def _key(self, place: Expr) -> Expr:
        """A place as that of a key, or as the first or last of all."""
        inside = clamp(self.script.let(place), 0, self.code.keys, LONG, 1)
        return self.script.let(cast(inside, "int32", 1))


class _Attention:
    def __init__(self, code: AttentionCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.q = w.pointer("q", code.dtypes[0])
        self.scale = w.pointer("scale", "int32")
        self.k, self.v = w.pointer("k", code.dtypes[1]), w.pointer("v", code.dtypes[2])
        self.bias = w.operand("bias", code.bias, code.constant_bias) if code.bias else None
        self.visible = w.pointer("visible", code.visible) if code.visible else None
        start = w.pointer("start", code.start) if code.start else None
        self.visibility = Visibility(w, code, start)
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", "int16")

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        with w.units() as unit, w.rows(code.nest, unit, inner=0) as at:
            self.at = at
            first, last = self.visibility.keys(at[6])
            scale = w.let(w.load(self.scale, at[1]))
            self.mult = w.let(cast(mantissa(scale), LONG, 1) * self.constants.take("mult"))
            by = self.constants.take("shift") - exponent(scale)
            self.shift = w.let(clipped_shift(w.let(by), 1))
            top = w.registers(1, "int32", 1)
            top[0] = tirx.const(LEAST, "int32")
            with w.loop(first, last, "key") as key, self._if_visible(key):
                top[0] = tirx.max(top[0], self._score(key))
            most = w.let(top[0])
            size = code.sizes[1]
            for begin in range(0, size, SUMS):
                self._context(most, (first, last), begin, min(SUMS, size - begin))
        return w.finish(symbol)

    def _if_visible(self, key: Expr) -> AbstractContextManager[None]:
        if self.visible is None:
            return nullcontext()
        mask = self.script.load(self.visible, self.at[5] + key * self.code.pitches[3])
        return self.script.when(tirx.NE(mask, tirx.const(0, self.code.visible)))

    def _score(self, key: Expr) -> Expr:
        w, code, (q_at, _, k_at, _, bias_at, *_) = self.script, self.code, self.at
        acc = w.registers(1, "int32", 1)
        acc[0] = word(0)
        row = w.let(k_at + key * code.pitches[0])
        with w.steps(code.sizes[0], "d") as d:
            q = cast(w.load(self.q, q_at + d * code.steps[0]), "int32", 1)
            acc[0] = acc[0] + q * cast(w.load(self.k, row + d * code.steps[1]), "int32", 1)
        product = w.let(cast(acc[0], LONG, 1) * self.mult)
        score = self._clipped(rounded(w, product, self.shift, 1))
        if self.bias is None:
            return score
        bias = cast(w.load(self.bias, bias_at + key * code.pitches[2]), LONG, 1)
        product = w.let(bias * self.constants.take("bias", 0))
        return w.let(score + self._clipped(rounded(w, product, self.constants.take("bias", 1), 1)))

    def _clipped(self, score: Expr) -> Expr:
        w = self.script
        value = clamp(w.let(score), -GREATEST_SCORE, GREATEST_SCORE, LONG, 1)
        return w.let(cast(value, "int32", 1))

    def _probability(self, most: Expr, key: Expr) -> Expr:
        w = self.script
        d = w.let(most - self._score(key))
        at = tirx.shift_right(tirx.bitwise_and(d, word((1 << SCORE_BITS) - 1)), word(4))
        by = tirx.min(tirx.shift_right(d, word(SCORE_BITS)), word(31))
        p = tirx.shift_right(self.constants.take("exp2", w.let(at)), w.let(by))
        return w.let(tirx.min(tirx.shift_right(p + word(128), word(8)), word(PROBABILITY_TOP)))

    def _context(self, most: Expr, keys: tuple[Expr, Expr], begin: int, count: int) -> None:
        """Channels begin .. begin + count - 1 of the result."""
        w, code = self.script, self.code
        sums, total = w.scratch(count, "int32"), w.registers(1, LONG, 1)
        total[0] = long(0)
        with w.steps(count, "e") as e:
            w.store(sums, e, word(0))
        with w.loop(*keys, "key") as key, self._if_visible(key):
            p = self._probability(most, key)
            total[0] = total[0] + cast(p, LONG, 1)
            row = w.let(self.at[3] + key * code.pitches[1] + begin * code.steps[2])
            with w.steps(count, "e") as e:
                v = cast(w.load(self.v, row + e * code.steps[2]), "int32", 1)
                w.store(sums, e, w.load(sums, e) + p * v)
        divisor = w.let(tirx.max(total[0], long(1)))
        r, h = reciprocal(w, self.constants, divisor)
        by = w.let(h + long(RECIPROCAL_BITS - CONTEXT_FRACTION))
        with w.steps(count, "e") as e:
            y = w.let(rounded(w, w.let(cast(w.load(sums, e), LONG, 1) * r), by, 1))
            stored = cast(clamp(y, I16.min, I16.max, LONG, 1), "int16", 1)
            w.store(self.y, self.at[7] + (e + begin) * code.steps[3], stored)


def emit_attention(code: AttentionCode, symbol: str) -> PrimFunc:
    """`void symbol(q, scale, k, v, [bias,] [visible,] [start,] constants, y, begin, end)`."""
    return _Attention(code).build(symbol)
