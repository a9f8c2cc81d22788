"""hadamard in TIR: a block of sums on the stack, in log2 of its size stages."""

from __future__ import annotations

from qir.backends.kernels.sequence.hadamard import HadamardCode
from qir.backends.tvm.compat import PrimFunc
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sums import spread
from qir.backends.tvm.kernels.writer import Expr, cast, splat


class _Hadamard:
    def __init__(self, code: HadamardCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.x)
        self.constants = ConstantBlock(w, code.fields) if code.order > 1 else None
        self.y = w.pointer("y", "int32")
        self.x_step, self.y_step = code.nest.steps
        wide = width_of(code.vector_bytes, "int32")
        self.loads = straight((self.x_step, 1), wide) if self.x_step else 1
        self.stores = straight((self.y_step,), wide) if self.y_step else 1
        self.lanes = wide

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        size = code.order * code.power
        with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
            self.sums = w.scratch(size, "int32")
            if self.constants is None:
                w.spans(size, self.loads, lambda i, n: self._put(i, self._load(x_at, i, n), n))
            else:
                self._mix(x_at, self.constants)
            half = 1
            while half < code.power:
                self._stage(half)
                half *= 2
            w.spans(size, self.stores, lambda i, n: self._store(y_at, i, n))
        return w.finish(symbol)

    def _mix(self, x_at: Expr, constants: ConstantBlock) -> None:
        """Sum j of the elements at one place of all parts, with the signs of row j."""
        w, order, power = self.script, self.code.order, self.code.power

        def column(i: Expr, lanes: int) -> None:
            total = w.registers(1, "int32", lanes)
            with w.steps(order, "j") as j:
                total[0] = splat(0, "int32", lanes)
                with w.steps(order, "k") as k:
                    sign = constants.take("signs", w.let(j * order + k))
                    x = self._load(x_at, w.let(k * power + i), lanes)
                    total[0] = total[0] + x * spread(sign, lanes)
                self._put(j * power + i, total[0], lanes)

        w.spans(power, self.loads, column)

    def _stage(self, half: int) -> None:
        """(a, b) -> (a + b, a - b) for all pairs `half` apart."""
        w = self.script
        with w.steps(self.code.order * self.code.power // (2 * half), "pair") as block:
            start = w.let(block * (2 * half))

            def pairs(i: Expr, lanes: int) -> None:
                at = w.let(start + i)
                a, b = (w.let(w.load(self.sums, at + by, lanes)) for by in (0, half))
                self._put(at, a + b, lanes)
                self._put(at + half, a - b, lanes)

            w.spans(half, self.lanes, pairs)

    def _load(self, x_at: Expr, i: Expr, lanes: int) -> Expr:
        w = self.script
        return w.let(cast(w.load(self.x, x_at + i * self.x_step, lanes), "int32", lanes))

    def _put(self, at: Expr, value: Expr, lanes: int) -> None:
        self.script.store(self.sums, at, value, lanes)

    def _store(self, y_at: Expr, i: Expr, lanes: int) -> None:
        w = self.script
        w.store(self.y, y_at + i * self.y_step, w.load(self.sums, i, lanes), lanes)


def emit_hadamard(code: HadamardCode, symbol: str) -> PrimFunc:
    """`void symbol(x, [constants,] y, begin, end)`."""
    return _Hadamard(code).build(symbol)
