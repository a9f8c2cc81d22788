"""Reductions over whole axes in TIR: vectors of what is kept, if it is side by side."""

from __future__ import annotations

from collections.abc import Callable

from qir.backends.kernels.reduce import ReduceCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.scaling import Scaler
from qir.backends.tvm.kernels.script import Constants, Script, cast, straight, width_of
from qir.backends.tvm.kernels.writer import Expr


class _Reduce:
    def __init__(self, code: ReduceCode) -> None:
        self.code, self.script = code, Script()
        w = self.script
        self.x = w.pointer("x", code.dtype)
        self.constants = Constants(w, code.fields)
        self.y = w.pointer("y", code.y)

    def build(self, symbol: str) -> PrimFunc:
        w, code = self.script, self.code
        steps = code.nest.steps
        kept = (
            *steps,
            2 * (steps[0] != 1),
            steps[-1],
        )  # vectors need x side by side, never repeated
        wide = width_of(code.vector_bytes, code.dtype)
        lanes = straight(kept, wide if code.maximum else min(wide, 64))
        with w.units() as unit, w.rows(code.nest, unit) as offsets:
            w.spans(code.nest.row, lanes, lambda at, width: self._element(offsets, at, width))
        return w.finish(symbol)

    def _element(self, offsets: list[Expr], at: Expr, width: int) -> None:
        w, code, steps = self.script, self.code, self.code.nest.steps
        x_at = w.let(offsets[0] + at * steps[0])
        value = self._most(x_at, width) if code.maximum else self._sum(x_at, width)
        if code.scaling:
            scaler = Scaler(w, code.scaling, self.constants)
            value = scaler.stored([w.let(value)], offsets[1] + at * steps[1], steps[1], width)
        w.store(self.y, offsets[2] + at * steps[2], value, width)

    def _sum(self, x_at: Expr, width: int) -> Expr:
        w = self.script
        acc = w.registers(1, "int32", width)
        acc[0] = self.constants.take("offset", 0, 0, width)
        self._each(x_at, 0, lambda at: self._add(acc, at, width))
        return acc[0]

    def _add(self, acc: Expr, at: Expr, width: int) -> None:
        acc[0] = acc[0] + cast(self.script.load(self.x, at, width), "int32", width)

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
