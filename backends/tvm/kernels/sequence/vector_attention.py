"""attention_fixed in TIR, on vectors: scores of some queries and all heads that share keys, their
probabilities, then the sums of values; scores and probabilities are on the stack.

Hidden keys have a score below all others, so that their probability is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from qir.backends.kernels.sequence.attention import LEFT, VectorAttentionCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.longs import widening
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.sequence.arithmetic import (
    LONG,
    across,
    clipped_shift,
    exponent,
    long,
    mantissa,
    reciprocal,
    rounded,
    word,
)
from qir.backends.tvm.kernels.sequence.attention import Visibility
from qir.backends.tvm.kernels.sequence.exponentials import Exponentials
from qir.backends.tvm.kernels.sequence.products import KINDS, transposed
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, cast_bits, clamp, shuffle, splat
from qir.ir.ops.sequence.attention import CONTEXT_FRACTION, GREATEST_SCORE
from qir.ir.rows import RECIPROCAL_BITS
from qir.ir.types import I16

LEAST = -(1 << 30)  # below every score that is seen
MOST_SHIFT = 56  # sums times a mantissa times a multiplier are shorter by two bits, and give 0
HIDDEN = LEAST - (1 << 20)  # so far below that nothing is left of its exponential


class _Attention:
    def __init__(self, code: VectorAttentionCode) -> None:
        self.code, self.script = code, Script(counts_zeros=True)
        w, plain = self.script, code.plain
        self.machine, self.lanes = code.machine, code.machine.lanes
        self.q, self.scale = w.pointer("q", "int8"), w.pointer("scale", "int32")
        self.k, self.v = w.pointer("k", "int8"), w.pointer("v", "int8")
        self.bias = w.pointer("bias", plain.bias) if plain.bias else None
        self.visible = w.pointer("visible", plain.visible) if plain.visible else None
        start = w.pointer("start", plain.start) if plain.start else None
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", "int16")
        self.longs = widening(w, self.lanes, self.machine.in_pairs)
        self.visibility = Visibility(w, plain, start)
        self.products = KINDS[code.products](w, code.machine)
        self.exponentials = Exponentials(w, self.constants, code.span)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        per_word = self.machine.depth
        d = code.plain.sizes[0]
        with w.units() as unit:
            self._locate(unit)
            self.codes = w.scratch(code.rows * d, self.products.stored)
            self.tile = w.scratch(d // 4 * self.products.forms * self.lanes, "int32")
            self.scores = w.scratch(code.rows * code.row_keys, "int32")
            self.chances = w.scratch(code.rows * code.row_keys, self.products.chances)
            self.totals = w.scratch(code.rows, LONG)
            self.ends = w.scratch(2 * code.rows, "int32")
            self.factors = w.scratch(2 * code.rows, LONG)
            self._prepare(d)
            spans = self._spans()
            with w.loop(2 * spans[0], 2 * spans[1], "block") as block:
                self._scores(block, d // per_word)
            with w.steps(code.rows, "row") as row:
                self._chances(row, spans)
            rows = _divisor(code.rows, self.machine.rows)
            for piece in range(0, code.plain.sizes[1], self.machine.piece):
                with w.steps(code.rows // rows, "row") as group:
                    self._values(group * rows, rows, piece, spans)
        return w.finish(symbol)

    def _locate(self, unit: Expr) -> None:
        w, code = self.script, self.code
        rest, block = w.split(unit, code.blocks)
        batch, kv = w.split(rest, code.shape[1])
        last = code.shape[3] - code.tokens
        self.token = w.let(tirx.min(block * code.tokens, last)) if code.blocks > 1 else 0
        self.at = [
            w.let(batch * s[0] + kv * s[1] + self.token * s[3]) if any(s) else 0
            for s in code.strides
        ]

    @contextmanager
    def _rows(self) -> Iterator[tuple[Expr, Expr, Expr]]:
        """Every row: its number, the head of those that share keys, and the query."""
        code = self.code
        w = self.script
        with w.steps(code.shape[2], "head") as head, w.steps(code.tokens, "token") as token:
            yield head * code.tokens + token, head, token

    def _offset(self, operand: int, head: Expr, token: Expr) -> Expr:
        strides = self.code.strides[operand]
        return self.at[operand] + head * strides[2] + token * strides[3]

    def _prepare(self, d: int) -> None:
        """Codes as they are read, the numbers of each row, the keys that it sees."""
        w = self.script
        with self._rows() as (row, head, token):
            row, q_at = w.let(row), w.let(self._offset(0, head, token))

            def copy(i: Expr, width: int) -> None:
                q = w.load(self.q, q_at + i, width)
                w.store(self.codes, row * d + i, self.products.codes(q, width), width)

            w.spans(d, 4 * self.lanes, copy)
            scale = w.let(w.load(self.scale, self._offset(1, head, token)))
            w.store(self.factors, 2 * row, cast(mantissa(scale), LONG, 1))
            by = w.let(self.constants.take("shift") - exponent(scale))
            w.store(self.factors, 2 * row + 1, clipped_shift(by, 1))
            first, last = self.visibility.keys(self.token + token)
            w.store(self.ends, 2 * row, first)
            w.store(self.ends, 2 * row + 1, last)

    def _spans(self) -> tuple[Expr, Expr]:
        """The spans of keys that any query of the unit sees: the first sees the first key."""
        w, code = self.script, self.code
        first = w.load(self.ends, 0)
        last = w.load(self.ends, 2 * code.tokens - 1)
        begin = w.let(tirx.truncdiv(first, word(code.span)))
        end = w.let(tirx.truncdiv(last + (code.span - 1), word(code.span)))
        return begin, w.let(tirx.max(begin, end))

    def _row_of(self, key: Expr, pitch: int) -> Expr:
        """The offset of a key's row; of those past the last, the last's."""
        plain = self.code.plain
        if plain.keys % self.code.span:
            key = tirx.min(key, word(plain.keys - 1))
        return key * pitch

    # -- scores

    def _scores(self, block: Expr, words: int) -> None:
        """Those of one vector of keys, for every row."""
        w, code, lanes = self.script, self.code, self.lanes
        less = self._load_keys(block)
        rows = _divisor(code.rows, self.machine.rows)
        key = w.let(block * lanes)
        with w.steps(code.rows // rows, "row") as group:
            acc = w.registers(rows, "int32", lanes)
            for i in range(rows):
                acc[i] = less
            first = w.let(group * rows)
            for t in range(words):
                weights = w.load(self.tile, t * lanes, lanes)
                weights = w.let(cast_bits(weights, self._weights()))
                for i in range(rows):
                    q = self._word(self.codes, (first + i) * words + t)
                    acc[i] = self.products.step(acc[i], q, weights)
            for i in range(rows):
                row = w.let(first + i)
                self._store_scores(w.let(acc[i]), row, key)

    def _word(self, buffer: Expr, at: Expr) -> Expr:
        """A word of what products read."""
        depth = self.machine.depth
        return cast_bits(self.script.load(buffer, at * depth, depth), "int32")

    def _weights(self) -> str:
        lanes = self.lanes
        return f"int8x{4 * lanes}" if self.machine.depth == 4 else f"int16x{2 * lanes}"

    def _load_keys(self, block: Expr) -> Expr:
        """Keys of a block into the tile, by word; where codes are raised, what that adds, off."""
        w, lanes, plain = self.script, self.lanes, self.code.plain
        words = plain.sizes[0] // 4
        count = min(words & -words, lanes)
        first = w.let(block * lanes)
        at = [w.let(self.at[2] + self._row_of(first + j, plain.pitches[0])) for j in range(lanes)]
        less = w.registers(1, "int32", lanes)
        less[0] = splat(0, "int32", lanes)
        raised = tirx.const(int.from_bytes(bytes([0x80] * 4), "little") - (1 << 32), "int32")
        with w.steps(words // count, "chunk") as chunk:
            key_words = [
                w.let(
                    cast_bits(w.load(self.k, a + chunk * (4 * count), 4 * count), f"int32x{count}")
                )
                for a in at
            ]
            for t, keys in enumerate(transposed(w, key_words, lanes, count)):
                for f, form in enumerate(self.products.keys(keys)):
                    form = w.let(form)
                    if self.products.raised:
                        less[0] = self.products.step(less[0], raised, form)
                    place = (chunk * count + t) * self.products.forms + f
                    w.store(self.tile, place * lanes, cast_bits(form, f"int32x{lanes}"), lanes)
        return w.let(splat(0, "int32", lanes) - less[0])

    def _store_scores(self, acc: Expr, row: Expr, key: Expr) -> None:
        """The scores of a row, those of hidden keys below all others."""
        w, lanes, plain = self.script, self.lanes, self.code.plain
        a, by = w.load(self.factors, 2 * row), w.load(self.factors, 2 * row + 1)
        short = w.let(acc * spread(cast(a, "int32", 1), lanes))
        if self.code.is_high:
            score = self._high_score(short, w.let(by))
        else:
            product = cast(short, LONG, lanes) * spread(self.constants.take("mult"), lanes)
            score = self._clipped(rounded(w, w.let(product), spread(w.let(by), lanes), lanes))
        head, token = self.script.split(row, self.code.tokens)
        if self.bias is not None:
            at = self._offset(4, head, token) + key * plain.pitches[2]
            bias = w.let(cast(w.take(self.bias, at, plain.pitches[2], lanes), LONG, lanes))
            bias = w.let(bias * spread(self.constants.take("bias", 0), lanes))
            by = spread(self.constants.take("bias", 1), lanes)
            score = score + self._clipped(rounded(w, bias, by, lanes))
        here = w.let(tirx.Ramp(key, word(1), lanes))
        first, last = w.load(self.ends, 2 * row), w.load(self.ends, 2 * row + 1)
        is_visible = tirx.And(
            tirx.GE(here, spread(first, lanes)), tirx.LT(here, spread(last, lanes))
        )
        if self.visible is not None:
            at = self._offset(5, head, token) + key * plain.pitches[3]
            mask = w.take(self.visible, at, plain.pitches[3], lanes)
            is_visible = tirx.And(is_visible, tirx.NE(mask, splat(0, "uint8", lanes)))
        scores = tirx.Select(is_visible, w.let(score), splat(HIDDEN, "int32", lanes))
        w.store(self.scores, row * self.code.row_keys + key, scores, lanes)

    def _high_score(self, short: Expr, by: Expr) -> Expr:
        """Scores from the high words of products with `mult`, which has been shifted to the left;
        nothing is left of what is shifted by more than MOST_SHIFT.
        """
        w, lanes, longs = self.script, self.lanes, self.longs
        by = w.let(tirx.min(by, long(MOST_SHIFT)) + long(LEFT))
        half = longs.broadcast(w.let(tirx.shift_left(long(1), by - long(1))))
        factor = cast(self.constants.take("mult"), "int32", 1)
        mult = w.let(tirx.shift_left(factor, word(LEFT)))
        mults = longs.uniform(w.let(spread(mult, lanes)))
        score = longs.high_product(longs.signed(short), mults, half)
        score = tirx.shift_right(score, spread(w.let(cast(by - long(32), "int32", 1)), lanes))
        return w.let(clamp(score, -GREATEST_SCORE, GREATEST_SCORE, "int32", lanes))

    def _clipped(self, score: Expr) -> Expr:
        w, lanes = self.script, self.lanes
        value = clamp(w.let(score), -GREATEST_SCORE, GREATEST_SCORE, LONG, lanes)
        return w.let(cast(value, "int32", lanes))

    # -- probabilities

    def _chances(self, row: Expr, spans: tuple[Expr, Expr]) -> None:
        """Those of a row, and their sum."""
        w, code, size = self.script, self.code, self.code.span
        first = w.let(row * code.row_keys)
        top = w.registers(1, "int32", size)
        top[0] = splat(LEAST, "int32", size)
        with w.loop(*spans, "span") as span:
            top[0] = tirx.max(top[0], w.load(self.scores, first + span * size, size))
        most = across(w, tirx.max, top[0], size)
        total = w.registers(1, "int32", size)
        total[0] = splat(0, "int32", size)
        with w.loop(*spans, "span") as span:
            at = w.let(first + span * size)
            p = self.exponentials.of(most, w.load(self.scores, at, size))
            total[0] = total[0] + cast(p, "int32", size)
            w.store(self.chances, at, cast(p, self.products.chances, size), size)
        row_total = across(w, lambda a, b: a + b, total[0], size)
        w.store(self.totals, row, cast(row_total, LONG, 1))

    # -- values

    def _values(self, first: Expr, rows: int, piece: int, spans: tuple[Expr, Expr]) -> None:
        """A piece of the channels of the result, for some rows."""
        w, code, depth = self.script, self.code, self.machine.depth
        size, lanes = self.machine.piece, self.lanes
        vectors = size // lanes
        acc = w.registers(rows * vectors, "int32", lanes)
        for i in range(rows):
            start = self._less(first + i)
            for v in range(vectors):
                acc[i * vectors + v] = start
        per = code.span // depth
        with w.loop(spans[0] * per, spans[1] * per, "word") as at:
            key = w.let(at * depth)
            pitch = code.plain.pitches[1]
            value_rows = [
                w.let(w.load(self.v, self.at[3] + self._row_of(key + j, pitch) + piece, size))
                for j in range(depth)
            ]
            values = self.products.values(value_rows)
            for i in range(rows):
                p = w.let(self._word(self.chances, (first + i) * (code.row_keys // depth) + at))
                for v in range(vectors):
                    acc[i * vectors + v] = self.products.value_step(
                        acc[i * vectors + v], p, values[v]
                    )
        for i in range(rows):
            self._store(w.let(first + i), [acc[i * vectors + v] for v in range(vectors)], piece)

    def _less(self, row: Expr) -> Expr:
        """What raised values add to the sums of a row, off."""
        w, lanes = self.script, self.lanes
        if not self.products.raised_values:
            return splat(0, "int32", lanes)
        total = cast(w.load(self.totals, row), "int32", 1)
        return w.let(spread(w.let(total * word(-self.products.raised_values)), lanes))

    def _store(self, row: Expr, sums: list[Expr], piece: int) -> None:
        w, lanes = self.script, self.lanes
        total = w.let(tirx.max(w.load(self.totals, row), long(1)))
        r, h = reciprocal(w, self.constants, total)
        factor = self.longs.uniform(w.let(spread(w.let(cast(r, "int32", 1)), lanes)))
        # No sum is longer than 128 times the total: it can be shifted to the left by what the
        # shift to the right lacks to 32.
        by = w.let(h + long(RECIPROCAL_BITS - CONTEXT_FRACTION - 32))
        left = spread(w.let(cast(tirx.max(long(0) - by, long(0)), "int32", 1)), lanes)
        by = w.let(tirx.max(by, long(0)))
        half = self.longs.broadcast(w.let(tirx.shift_left(long(1 << 31), by)))
        right = spread(w.let(cast(by, "int32", 1)), lanes)
        parts = []
        for acc in sums:
            raised = self.longs.signed(w.let(tirx.shift_left(acc, left)))
            high = self.longs.high_product(raised, factor, half)
            y = w.let(tirx.shift_right(high, right))
            parts.append(w.let(cast(clamp(y, I16.min, I16.max, "int32", lanes), "int16", lanes)))
        lane_of = {e: lane for lane, e in enumerate(self.products.order)}
        size = self.machine.piece
        vector = shuffle(parts, [lane_of[e] for e in range(size)])
        head, token = w.split(row, self.code.tokens)
        w.store(self.y, self._offset(6, head, token) + piece, vector, size)


def _divisor(count: int, most: int) -> int:
    """The greatest divisor of `count` up to `most`."""
    return max(n for n in range(1, most + 1) if count % n == 0)


def emit_vector_attention(code: VectorAttentionCode, symbol: str) -> PrimFunc:
    """`void symbol(q, scale, k, v, [bias,] [visible,] [start,] constants, y, begin, end)`."""
    return _Attention(code).build(symbol)
