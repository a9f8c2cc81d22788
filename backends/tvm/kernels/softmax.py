"""Softmax in fixed point in TIR: three passes over a row, the exponentials of a short one kept."""

from __future__ import annotations

from qir.backends.kernels.softmax import SEEDS, SoftmaxCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script
from qir.backends.tvm.kernels.writer import Expr, Registers, cast, clamp

KEPT = 256  # exponentials on the stack: a kilobyte


class _Softmax:
    def __init__(self, code: SoftmaxCode) -> None:
        self.code, self.script = code, Script()
        self.x = self.script.pointer("x", code.x)
        self.constants = ConstantBlock(self.script, code.fields)
        self.y = self.script.pointer("y", code.y)
        self.size, (self.x_step, self.y_step) = code.nest.shape[-1], code.nest.steps

    def build(self, symbol: str) -> PrimFunc:
        w = self.script
        with w.units() as unit, w.rows(self.code.nest, unit) as (x_at, y_at):
            most = w.registers(1, "int32", 1)
            most[0] = self._x(x_at, 0)
            with w.steps(self.size) as i:
                most[0] = tirx.max(most[0], self._x(x_at, i))
            top = w.let(most[0])
            total = w.registers(1, "int32", 1)
            total[0] = tirx.const(0, "int32")
            exponentials = w.scratch(self.size, "int32") if self.size <= KEPT else None
            with w.steps(self.size) as i:
                e = w.let(self._exp(x_at, i, top))
                total[0] = total[0] + e
                if exponentials is not None:
                    w.store(exponentials, i, e)
            reciprocal, n = self._reciprocal(total)
            with w.steps(self.size) as i:
                e = self._exp(x_at, i, top) if exponentials is None else w.load(exponentials, i)
                self._store(e, reciprocal, n, y_at + i * self.y_step)
        return w.finish(symbol)

    def _x(self, at: Expr, i: Expr) -> Expr:
        return cast(self.script.load(self.x, at + i * self.x_step), "int32", 1)

    def _exp(self, at: Expr, i: Expr, top: Expr) -> Expr:
        return self.constants.take("exp", top - self._x(at, i))

    def _reciprocal(self, total: Registers) -> tuple[Expr, Expr]:
        """(r ~ 2**61 / m, n): m = S << n has 31 bits; n by halves, as every target compares."""
        w = self.script
        # Held in memory (LLVM makes registers of it): TVM would analyze nested lets without end.
        state = w.registers(2, "int64", 1)
        state[0], state[1] = cast(total[0], "int64", 1), tirx.const(0, "int64")
        for step in (16, 8, 4, 2, 1):
            small = tirx.LT(state[0], tirx.const(1 << (31 - step), "int64"))
            with w.when(small):
                state[0] = tirx.shift_left(state[0], tirx.const(step, "int64"))
                state[1] = state[1] + tirx.const(step, "int64")
        m, n = w.let(state[0]), w.let(state[1])
        guess = cast(tirx.shift_right(m, tirx.const(23, "int64")), "int32", 1) - SEEDS
        state[0] = self.constants.take("seed", guess)
        for _ in range(2):
            product = tirx.shift_right(m * state[0], tirx.const(31, "int64"))
            rest = tirx.const(1 << 31, "int64") - product
            state[0] = tirx.shift_right(state[0] * rest, tirx.const(30, "int64"))
        return w.let(state[0]), n

    def _store(self, e: Expr, reciprocal: Expr, n: Expr, at: Expr) -> None:
        w, code = self.script, self.code
        mult, half, shift, zero = (
            self.constants.take(f) for f in ("mult", "half", "shift", "zero")
        )
        product = _word(cast(e, "int64", 1)) * _word(reciprocal)
        p = tirx.shift_right(product, tirx.const(31, "int64") - n)
        value = w.let(tirx.shift_right(_word(p) * _word(mult) + half, shift) + zero)
        w.store(self.y, at, cast(clamp(value, code.low, code.high, "int64", 1), code.y, 1))


def _word(value: Expr) -> Expr:
    """The value, which has 32 bits and no sign, so that a product is one instruction on vectors."""
    return tirx.bitwise_and(value, tirx.const(0xFFFFFFFF, "int64"))


def emit_softmax(code: SoftmaxCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    return _Softmax(code).build(symbol)
