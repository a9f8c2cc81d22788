"""rope_fixed in TIR: a head of a token at a time."""

from __future__ import annotations

from qir.backends.kernels.sequence.rope import RopeCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.longs import widening
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import LONG, long, rounded
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, clamp


class _Rope:
    def __init__(self, code: RopeCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.x)
        self.cos, self.sin = (
            w.operand(name, code.table, code.has_constants) for name in ("cos", "sin")
        )
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", code.y)
        self.x_step, _, _, self.y_step = code.nest.steps

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        ends = (self.x_step, self.y_step)
        lanes = straight(ends, width_of(code.vector_bytes, "int32")) if self.x_step else 1
        turning = straight(code.steps, lanes) if all(code.steps) else 1
        rest = code.nest.shape[-1] - 2 * code.pairs
        with w.units() as unit, w.rows(code.nest, unit) as at:
            w.spans(
                code.pairs, 1 if code.interleaved else turning, lambda i, n: self._pair(at, i, n)
            )
            if rest:
                w.spans(rest, lanes, lambda i, n: self._still(at, i + 2 * code.pairs, n))
        return w.finish(symbol)

    def _load(self, buffer: Expr, at: Expr, lanes: int) -> Expr:
        w = self.script
        return w.let(cast(w.load(buffer, at, lanes), "int32", lanes))

    def _pair(self, at: list[Expr], i: Expr, lanes: int) -> None:
        code, (x_at, cos_at, sin_at, y_at) = self.code, at
        first, second = (2 * i, 2 * i + 1) if code.interleaved else (i, i + code.pairs)
        a, b = (self._load(self.x, x_at + c * self.x_step, lanes) for c in (first, second))
        cos = self._load(self.cos, cos_at + i * code.steps[0], lanes)
        sin = self._load(self.sin, sin_at + i * code.steps[1], lanes)
        self._store(a * cos - b * sin, y_at + first * self.y_step, lanes)
        self._store(b * cos + a * sin, y_at + second * self.y_step, lanes)

    def _still(self, at: list[Expr], i: Expr, lanes: int) -> None:
        x = self._load(self.x, at[0] + i * self.x_step, lanes)
        one = spread(self.constants.take("one"), lanes)
        self._store(x * one, at[-1] + i * self.y_step, lanes)

    def _store(self, total: Expr, at: Expr, lanes: int) -> None:
        w, code, constants = self.script, self.code, self.constants
        mult, shift = (constants.take(f) for f in ("mult", "shift"))
        if code.is_high:
            longs = widening(w, lanes, code.in_pairs)
            half = longs.broadcast(w.let(tirx.shift_left(long(1), shift - long(1))))
            factor = longs.uniform(w.let(spread(w.let(cast(mult, "int32", 1)), lanes)))
            y = longs.high_product(longs.signed(w.let(total)), factor, half)
            by = spread(w.let(cast(shift - long(32), "int32", 1)), lanes)
            value = clamp(w.let(tirx.shift_right(y, by)), code.low, code.high, "int32", lanes)
        else:
            product = w.let(cast(total, LONG, lanes) * spread(mult, lanes))
            y = w.let(rounded(w, product, spread(shift, lanes), lanes))
            value = clamp(y, code.low, code.high, LONG, lanes)
        w.store(self.y, at, cast(value, code.y, lanes), lanes)


def emit_rope(code: RopeCode, symbol: str) -> PrimFunc:
    """`void symbol(x, cos, sin, constants, y, begin, end)`."""
    return _Rope(code).build(symbol)
