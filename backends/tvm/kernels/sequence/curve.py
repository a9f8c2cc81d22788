"""interpolate in TIR."""

from __future__ import annotations

from qir.backends.kernels.sequence.curve import InterpolateCode
from qir.backends.tvm.compat import PrimFunc, tirx
from qir.backends.tvm.kernels.script import ConstantBlock, Script, width_of
from qir.backends.tvm.kernels.sequence.arithmetic import word
from qir.backends.tvm.kernels.writer import Expr, cast, cast_bits, shuffle, splat
from qir.ir.ops.sequence.curve import SEGMENT_BITS

BITS = 16 - SEGMENT_BITS  # of the place on a line


def emit_interpolate(code: InterpolateCode, symbol: str) -> PrimFunc:
    """`void symbol(x, constants, y, begin, end)`."""
    w = Script()
    x = w.pointer("x", "int16")
    constants = ConstantBlock(w, code.fields)
    y = w.pointer("y", code.y)
    x_step, y_step = code.nest.steps

    def element(x_at: Expr, y_at: Expr) -> None:
        at = w.let(cast(w.load(x, x_at), "int32", 1) + word(1 << 15))
        i = w.let(tirx.shift_right(at, word(BITS)))
        f = tirx.bitwise_and(at, word((1 << BITS) - 1))
        here = w.let(constants.take("table", i))
        line = w.let(f * (constants.take("table", i + 1) - here) + word(1 << (BITS - 1)))
        w.store(y, y_at, cast(here + tirx.shift_right(line, word(BITS)), code.y, 1))

    with w.units() as unit, w.rows(code.nest, unit) as (x_at, y_at):
        if code.block:
            blocks = _Blocks(w, code, (x, constants, y))
            w.spans(code.nest.row, code.block, lambda i, n: blocks.found(x_at + i, y_at + i, n))
        else:
            w.spans(code.nest.row, 1, lambda i, _: element(x_at + i * x_step, y_at + i * y_step))
    return w.finish(symbol)


class _Blocks:
    """A block of elements: where, what is there, the rest."""

    def __init__(
        self, w: Script, code: InterpolateCode, own: tuple[Expr, ConstantBlock, Expr]
    ) -> None:
        self.w, self.code, (self.x, self.constants, self.y) = w, code, own
        self.places = w.scratch(code.block, "int32")
        self.lines = w.scratch(code.block, "int64")
        self.lanes = width_of(code.vector_bytes, "int32")

    def found(self, x_at: Expr, y_at: Expr, count: int) -> None:
        w, lanes = self.w, self.lanes
        for c in range(0, count, lanes):
            i = tirx.shift_right(self._at(x_at + c), splat(BITS, "int32", lanes))
            w.store(self.places, c, i, lanes)
        with w.steps(count) as j:
            w.store(self.lines, j, self.constants.take("lines", w.let(w.load(self.places, j))))
        for c in range(0, count, lanes):
            both = w.let(cast_bits(w.load(self.lines, c, lanes), f"int32x{2 * lanes}"))
            here, step = (shuffle([both], range(k, 2 * lanes, 2)) for k in (0, 1))
            f = tirx.bitwise_and(self._at(x_at + c), splat((1 << BITS) - 1, "int32", lanes))
            line = w.let(f * step + splat(1 << (BITS - 1), "int32", lanes))
            value = here + tirx.shift_right(line, splat(BITS, "int32", lanes))
            w.store(self.y, y_at + c, cast(w.let(value), self.code.y, lanes), lanes)

    def _at(self, at: Expr) -> Expr:
        """x + 2**15."""
        found = cast(self.w.load(self.x, at, self.lanes), "int32", self.lanes)
        return self.w.let(found + splat(1 << 15, "int32", self.lanes))
