"""Reductions over whole axes in TIR, vectorized over the remaining axes if they are contiguous."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels.reduce import ReduceCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.requantize.scaling import Scaler
from qir.backends.tvm.kernels.script import ConstantBlock, Script, straight, width_of
from qir.backends.tvm.kernels.sums import LaneSums
from qir.backends.tvm.kernels.writer import Expr


class _Reduce:
    def __init__(self, code: ReduceCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.dtype)
        self.constants = ConstantBlock(w, code.fields)
        self.y = w.pointer("y", code.y)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        steps = code.nest.steps
        # Vectors need x side by side: one element for all lanes would be summed once for each.
        vector_steps = (*steps[1:], steps[-1]) if steps[0] == 1 else (2, 1)
        lanes = straight(vector_steps, width_of(code.vector_bytes, code.dtype))
        with w.units() as unit, w.rows(code.nest, unit) as offsets:
            w.spans(code.nest.row, lanes, lambda at, width: self._elements(offsets, at, width))
        return w.finish(symbol)

    def _elements(self, offsets: list[Expr], at: Expr, width: int) -> None:
        w, code, steps = self.script, self.code, self.code.nest.steps
        x_at = w.let(offsets[0] + at * steps[0])
        if code.maximum:
            w.store(self.y, offsets[2] + at * steps[2], self._most(x_at, width), width)
            return
        sums = LaneSums(w, code.dtype, code.count, width, w.let(self.constants.take("offset")))
        self._each(x_at, 0, lambda x: sums.add(w.load(self.x, x, width)))
        lanes = width_of(code.vector_bytes, "int32")
        sums.each(lanes, lambda value, o, n: self._store(offsets, value, at + o, n))

    def _store(self, offsets: list[Expr], value: Expr, at: Expr, width: int) -> None:
        w, code, steps = self.script, self.code, self.code.nest.steps
        if code.scaling:
            scaler = Scaler(w, code.scaling, self.constants)
            value = scaler.stored([value], offsets[1] + at * steps[1], steps[1], width)
        w.store(self.y, offsets[2] + at * steps[2], value, width)

    def _most(self, x_at: Expr, width: int) -> Expr:
        w = self.script
        most = w.registers(1, self.code.dtype, width)
        most[0] = w.load(self.x, x_at, width)

        def greater(at: Expr) -> None:
            most[0] = tirx.max(most[0], w.load(self.x, at, width))

        self._each(x_at, 0, greater)
        return most[0]

    def _each(self, at: Expr, axis: int, body: Callable[[Expr], None]) -> None:
        if axis == len(self.code.inner):
            body(at)
            return
        size, stride = self.code.inner[axis]
        with self.script.steps(size, "r") as i:
            self._each(at + i * stride, axis + 1, body)


def emit_reduce(code: ReduceCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    return _Reduce(code).build(symbol)
